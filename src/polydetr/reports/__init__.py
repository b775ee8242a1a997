"""Reports for people: pictures, terminal tables, HTML pages, the model card, and JSON beside each.

matplotlib and Rich are imported when something is drawn, not with this package.
"""

from polydetr.reports.box_drawing import box_colours, draw_boxes, save_boxes
from polydetr.reports.detection import detection_confusion_png, precision_recall_png
from polydetr.reports.detection_page import mistakes_page
from polydetr.reports.explanation import Verdict, deletion_verdict
from polydetr.reports.html import explanation_html
from polydetr.reports.model_card import model_card
from polydetr.reports.plots import confusion_matrix_png, entity_bars_png, learning_curve_png, reliability_png
from polydetr.reports.spans_terminal import coloured_entities, entities_html
from polydetr.reports.supervision import supervision_arrays
from polydetr.reports.tables import class_table, entity_table, matching_table, metrics_table, print_report, table_text
from polydetr.reports.words_png import explanation_png

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
]
