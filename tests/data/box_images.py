"""Blank images, and what the tests of box readers ask of a source."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from polydetr.data.readers import ReadReport, read_records


def draw(path: Path, size: tuple[int, int] = (100, 80), *, orientation: int | None = None) -> Path:
    """A gray image of (width, height) pixels, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size, (90, 90, 90)).save(path, exif=exif)
    return path


def rows(source: Path, **options) -> list[dict]:
    return [dict(r.row) for r in read_records(source, **options)]


def skipped(source: Path, **options) -> tuple[list[dict], ReadReport]:
    """The rows that could be read, and the report about the others."""
    report = ReadReport()
    return rows(source, on_error="skip", report=report, **options), report


def boxes(row: dict) -> list[tuple]:
    return [(o["label"], *o["box"]) for o in row["objects"]]
