"""How raw values become tokens: one file a modality. Adding one is adding a line here."""

from __future__ import annotations

from polydetr.modalities.base import Modality
from polydetr.modalities.history import HistoryModality
from polydetr.modalities.image import ImageModality
from polydetr.modalities.table import TableModality
from polydetr.modalities.text import TextModality

MODALITIES: dict[str, type[Modality]] = {
    "text": TextModality,
    "image": ImageModality,
    "table": TableModality,
    "history": HistoryModality,  # last: what it is made of stands before it
}
