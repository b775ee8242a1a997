"""Reports for people: pictures, terminal tables, HTML pages, the model card, and JSON beside each.

matplotlib and Rich are imported when something is drawn, not with this package.
"""

from .box_drawing import box_colours, draw_boxes, save_boxes
from .detection import detection_confusion_png, precision_recall_png
from .detection_page import mistakes_page
from .explanation import Verdict, deletion_verdict
from .files import write_bytes, write_json, write_text
from .html import explanation_html
from .model_card import model_card
from .plots import confusion_matrix_png, entity_bars_png, learning_curve_png, reliability_png
from .spans_terminal import coloured_entities, entities_html
from .supervision import supervision_arrays
from .tables import class_table, entity_table, matching_table, metrics_table, print_report, table_text
from .words_png import explanation_png

__all__ = [
    "Verdict",
    "box_colours",
    "class_table",
    "coloured_entities",
    "confusion_matrix_png",
    "deletion_verdict",
    "detection_confusion_png",
    "draw_boxes",
    "entities_html",
    "entity_bars_png",
    "entity_table",
    "explanation_html",
    "explanation_png",
    "learning_curve_png",
    "matching_table",
    "metrics_table",
    "mistakes_page",
    "model_card",
    "precision_recall_png",
    "print_report",
    "reliability_png",
    "save_boxes",
    "supervision_arrays",
    "table_text",
    "write_bytes",
    "write_json",
    "write_text",
]
