"""Reports for people: pictures, terminal tables, HTML pages, the model card, and JSON beside each.

matplotlib and Rich are imported when something is drawn, not with this package.
"""

from .explanation import Verdict, deletion_verdict
from .files import write_bytes, write_json, write_text
from .html import explanation_html
from .model_card import model_card
from .plots import confusion_matrix_png, entity_bars_png, learning_curve_png, reliability_png
from .spans_terminal import coloured_entities, entities_html
from .tables import class_table, entity_table, matching_table, metrics_table, print_report, table_text
from .words_png import explanation_png

__all__ = [
    "Verdict",
    "class_table",
    "coloured_entities",
    "confusion_matrix_png",
    "deletion_verdict",
    "entities_html",
    "entity_bars_png",
    "entity_table",
    "explanation_html",
    "explanation_png",
    "learning_curve_png",
    "matching_table",
    "metrics_table",
    "model_card",
    "print_report",
    "reliability_png",
    "table_text",
    "write_bytes",
    "write_json",
    "write_text",
]
