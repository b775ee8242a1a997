"""Bytes to lines: opening, recognizing the encoding, and saying where it breaks.

UTF-8 is expected, with or without its mark; UTF-16 and UTF-32 are known by their mark. Everything else is named by
the user (``encoding=``), because a wrong guess would train a model on noise; the error names the likely one.
"""

from __future__ import annotations

import codecs
import io
import re
import string
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from polydetr.core.files import read_whole
from polydetr.core.reading import SKIP, Leaps, option
from polydetr.core.records import ReadReport
from polydetr.errors import DataFileError, Location, RowError, row_fault, shown

HEAD_BYTES = 1 << 20
MOST_BYTES = 64 << 20
"""Of a small file beside the rows, which is read whole."""
STANDARD_INPUT = "standard input"
"""Its name, in place of a file's."""
_BLANKS = "\ufeff\u3000\u2028\u2029\xa0\x85" + string.whitespace
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_ZIP = b"PK\x03\x04"
_FOREIGN = ((_ZIP, "a zip archive or an Excel workbook"), (b"\x1f\x8b", "a gzip archive"), (b"%PDF", "a PDF"),
            (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"),
            (b"SQLite format 3", "an SQLite database"), (b"\xd0\xcf\x11\xe0", "an Excel workbook of before 2007"),
            (b"\xfd7zXZ", "an xz archive"), *((b"BZh%d1AY" % level, "a bzip2 archive") for level in range(1, 10)),
            (b"ARROW1\0", "an Arrow file (Feather)"))  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file, or standard input (name "-"), whose first bytes (``head``) have been looked at."""

    name: str
    path: Path | None
    head: bytes
    encoding: str
    held: BinaryIO | None = None  # a stream that can be read only once
    leaps: Leaps | None = None

    def leaping(self, leaps: Leaps | None) -> Source:
        """A copy that passes over parts of the file where ``leaps`` says so, if its lines end in line feeds alone."""
        wide = self.returns or self.encoding.startswith(("utf-16", "utf-32"))
        if leaps is None or self.path is None or self.held is not None or wide:
            return self
        leaps.size = self.path.stat().st_size
        return replace(self, leaps=leaps)

    @property
    def returns(self) -> bool:
        """True where lines end in carriage returns alone, as old programs on a Macintosh write them."""
        feeds = self.head.count(b"\n")
        return self.head.count(b"\r") - self.head.count(b"\r\n") > feeds

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower() if self.path else ""

    @property
    def whole(self) -> bool:
        """True where ``head`` is all there is (as far as a regular file goes)."""
        return self.path is not None and self.held is None and self.path.stat().st_size <= len(self.head)

    def head_lines(self) -> list[str]:
        """The complete lines of ``head``, decoded leniently: for recognizing, never for reading."""
        text = self.head.decode(self.encoding, errors="replace").removeprefix("\ufeff")
        lines = list(io.StringIO(text, newline="" if self.returns else "\n"))
        return lines if self.whole or len(lines) < 2 else lines[:-1]

    def lines(self) -> Iterator[str]:
        """The lines with their ends, one at a time. Raises DataFileError where the bytes are not in ``encoding``."""
        opened = self.held or open(self.path or "", "rb")  # noqa: SIM115
        with opened if self.path else nullcontext(opened) as stream:  # standard input stays open
            if self.returns or self.encoding.startswith(("utf-16", "utf-32")):  # a line's end is not one byte
                yield from self._wide_lines(stream)
                return
            offset = 0
            for number, raw in enumerate(stream if self.leaps is None else _leaping(stream, self.leaps), 1):
                if number == 1 and raw.startswith(codecs.BOM_UTF8) and self.encoding == "utf-8":
                    raw, offset = raw[3:], 3
                try:
                    yield raw.decode(self.encoding)
                except UnicodeDecodeError as error:
                    raise self._wrong_encoding(error, offset + error.start, number) from None
                offset += len(raw)

    def _wide_lines(self, stream: BinaryIO) -> Iterator[str]:
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        text = io.TextIOWrapper(stream, encoding=encoding, newline="" if self.returns else "\n")
        try:
            for number, line in enumerate(text):
                yield line if number else line.removeprefix("\ufeff")
        except UnicodeError as error:
            hint = f"Is it text at all? Name another encoding with {option('encoding')}, or save it as UTF-8."
            reason = f"is not {self.encoding} text ({error})."
            raise DataFileError(reason, location=Location(self.name), hint=hint) from None
        finally:
            with suppress(ValueError):  # the file is closed already where an error's traceback held on to this
                text.detach()

    def _wrong_encoding(self, error: UnicodeDecodeError, offset: int, line: int) -> DataFileError:
        several, likely = _of_other_letters(error.object), guess_encoding(error.object)
        guess = f"It is likely {likely}: pass {option('encoding', likely)}"
        if several:
            named = ", ".join(f"{name} ({letters})" for name, letters in several.items())
            guess = f"Perhaps it is {named}: name it with {option('encoding')}"
        return DataFileError(
            f"byte {error.object[error.start]:#04x} at offset {offset} is not {self.encoding} text.",
            location=Location(self.name, line=line),
            hint=f"{guess}, or save the file as UTF-8.",
        )


def _leaping(stream: BinaryIO, leaps: Leaps) -> Iterator[bytes]:
    """The lines, without those that are leaped over: up to the end of the line where the leap ends, and on over lines
    with an odd number of quotation marks, which begin or end a row of several lines.
    """
    while True:
        wanted, leaps.skip = leaps.skip, 0
        leaps.count += wanted > 0
        left = wanted
        while left > 0 and (block := stream.read(min(left, HEAD_BYTES))):
            left -= len(block)
            leaps.offset, leaps.lines = leaps.offset + len(block), leaps.lines + block.count(b"\n")
        raw = stream.readline()
        while wanted and raw and (left == 0 or raw.count(b'"') % 2):
            left = -1  # the rest of the line where it ended
            leaps.offset, leaps.lines = leaps.offset + len(raw), leaps.lines + 1
            raw = stream.readline()
        if not raw:
            return
        leaps.offset += len(raw)
        yield raw


def read_text(path: Path, encoding: str | None = None) -> str:
    """The whole text of a small file beside the rows (labels, names of classes), which may be empty.

    Raises:
        DataFileError: it cannot be read, or not in ``encoding``; names the likely one.
    """
    try:
        content = read_whole(path, most=MOST_BYTES)
    except OSError as error:
        raise DataFileError(f"cannot be read: {error.strerror}.", location=Location(str(path))) from None
    except DataFileError as error:
        raise DataFileError(error.message, location=Location(str(path))) from None
    source = _examine(str(path), path, content, encoding, io.BytesIO(content)) if content.strip() else None
    return "".join(source.lines()).removeprefix("\ufeff") if source else ""


class _Wide(NamedTuple):
    """What tells text in an encoding of two bytes a character from Latin letters, of which each stands alone between
    ASCII: the first bytes of its commonest characters, the least of their second bytes, how many of all characters
    beyond ASCII are such, and how many there must be at least.
    """

    first: tuple[range, ...]
    second: int
    share: float
    least: int = 1


_WIDE = {
    "euc_jp": _Wide((range(0xA4, 0xA6),), 0xA1, 0.3, 3),  # kana
    "cp949": _Wide((range(0xA4, 0xA5), range(0xB0, 0xC9)), 0xA1, 0.95, 8),  # Hangul; half of Chinese lies beyond
    "gb18030": _Wide((range(0xA1, 0xA4), range(0xB0, 0xD8)), 0xA1, 0.6),  # GB 2312's punctuation and first level
    "big5": _Wide((range(0xA1, 0xA4), range(0xA4, 0xC7)), 0x40, 0.7),  # its punctuation and first level
    "shift_jis": _Wide((range(0x82, 0x84),), 0x40, 0.2),  # kana
}
_OTHER_LETTERS = {
    "cp1251": "Cyrillic", "koi8-r": "Cyrillic", "cp1253": "Greek", "cp1255": "Hebrew", "cp1256": "Arabic",
    "cp874": "Thai",
}  # fmt: skip
"""Encodings of one byte per character whose letters are beyond ASCII, so that they stand side by side."""


def guess_encoding(raw: bytes) -> str:
    """The likely encoding of a line that is not UTF-8: a Chinese, Japanese or Korean one if it decodes to common
    characters, one of other letters if it is full of bytes beyond ASCII, else that of western Windows or latin-1.
    """
    if several := _of_other_letters(raw):
        return next(iter(several))
    return _of_wide_characters(raw) or ("cp1252" if any(0x80 <= byte < 0xA0 for byte in raw) else "latin-1")


def _of_other_letters(raw: bytes) -> dict[str, str]:
    """The encodings of ``_OTHER_LETTERS`` that a line may be in; none where it is another text."""
    beyond = sum(byte > 0x7F for byte in raw)
    in_words = sum(map(len, re.findall(rb"[\xa1-\xff]{3,}", raw)))
    if in_words <= beyond / 2 or _of_wide_characters(raw):
        return {}
    fitting = {}
    for name, letters in _OTHER_LETTERS.items():
        with suppress(UnicodeDecodeError):
            raw.decode(name)
            fitting[name] = letters
    return fitting


def _of_wide_characters(raw: bytes) -> str:
    """The encoding of two bytes per character that a line is likely in, else ""."""
    for name, wide in _WIDE.items():
        try:
            text = raw.decode(name)
        except UnicodeDecodeError:
            continue
        pairs = [c.encode(name) for c in text if c > "\x7f"]
        common = sum(len(p) == 2 and any(p[0] in part for part in wide.first) and p[1] >= wide.second for p in pairs)
        runs = name == "gb18030" or re.search(r"[^\x00-\x7f]{2}", text)  # its second bytes are enough of a proof
        if len(pairs) >= wide.least and runs and common >= wide.share * len(pairs):
            return name
    return ""


def refuse(
    reason: str,
    location: Location,
    report: ReadReport,
    *,
    skip: bool,
    hint: str = f"Repair it, or skip such rows with {SKIP}.",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Raises RowError; with ``skip`` it writes the rejection into ``report`` instead, and the reader goes on. about:
    see ``Rejection``.
    """
    if not skip:
        raise RowError(reason, location=location, hint=hint)
    report.reject(location, reason, about)


def leave_out(kind: str, reason: str, location: Location, report: ReadReport, *, skip: bool) -> None:
    """``refuse`` for what is no row (an annotation of no image): with ``skip`` it is counted, and takes the place of no
    row.
    """
    if not skip:
        refuse(reason, location, report, skip=False)
    report.note(kind, reason, location)


def existing(source: str | Path) -> Path:
    """``source`` as a path where something is. Raises DataFileError, also for a text that can be no file's name."""
    path = Path(source)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataFileError(f"no such file: {_name(path)}.", hint=_near(path)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise DataFileError(f"no such file: {_name(path)} ({reason}).", hint="Check the path.") from None
    return path


def _name(path: Path) -> str:
    return repr(shown(str(path), 120))


def reject(
    error: BaseException,
    location: Location,
    report: ReadReport,
    *,
    skip: bool,
    about: Mapping[str, Any] | None = None,
) -> None:
    """The guard around the reading of every single row: whatever failed there rejects that row alone, see ``refuse``
    and ``errors.row_fault``.
    """
    fault = row_fault(error, location)
    how = {"hint": fault.hint} if fault.hint else {}
    refuse(fault.message, fault.location or location, report, skip=skip, about=about, **how)


def open_source(source: str | Path, *, encoding: str | None = None, wanted: str | None = None) -> Source:
    """Looks at the first bytes of a file or of standard input. wanted: the format that the user named.

    Raises:
        DataFileError: missing, a folder, unreadable, empty, or an archive or an image.
    """
    if str(source) == "-":
        standard: Any = sys.stdin.buffer
        held: Any = standard if hasattr(standard, "peek") else io.BufferedReader(standard)
        return _examine("-", None, held.peek(1), encoding, held)
    path = existing(source)
    if path.is_dir():
        raise DataFileError(
            "is a folder, expected a file of rows, or a folder of images, of Pascal VOC or of YOLO.",
            location=Location(str(path)),
        )
    try:
        stream: Any = open(path, "rb", buffering=HEAD_BYTES)  # noqa: SIM115
    except OSError as error:
        raise DataFileError(f"cannot be read: {error.strerror}.", location=Location(str(path))) from None
    if path.is_block_device() or (path.is_char_device() and not stream.isatty()):
        stream.close()
        raise DataFileError("is a device, expected a file of rows.", location=Location(str(path)))
    if not path.is_file():  # a pipe: what was read cannot be read again
        return _examine(str(path), path, stream.peek(1), encoding, stream)
    with stream:
        return _examine(str(path), path, stream.read(HEAD_BYTES), encoding, None, wanted)


def _examine(
    name: str,
    path: Path | None,
    head: bytes,
    encoding: str | None,
    held: BinaryIO | None,
    wanted: str | None = None,
) -> Source:
    location = Location(STANDARD_INPUT if name == "-" else name)
    if not head.strip():
        raise DataFileError("is empty, expected rows of data.", location=location)
    workbook = path is not None and (wanted or path.suffix).lower().lstrip(".") == "xlsx"
    for mark, what in _FOREIGN:
        if head.startswith(mark) and not (workbook and mark == _ZIP):
            hint = "Unpack it or export it as CSV."
            if what.endswith("image"):
                hint = "To have the image itself answered, say format='images' (--format images)."
            elif mark == _ZIP:
                hint += f" A workbook under another suffix is read with {option('format', 'xlsx')}."
            raise DataFileError(f"is {what}, expected rows of text or Parquet.", location=location, hint=hint)
    if encoding is None:
        known = next((e for mark, e in _MARKS if head.startswith(mark)), "utf-8")
        if known == "utf-8" and (likely := _unmarked(head)):
            raise DataFileError(
                f"looks like {likely.upper()}{' without a mark' * likely.startswith('utf')}.",
                location=location,
                hint=f"Pass {option('encoding', likely)}, or save the file as UTF-8.",
            )
    else:
        known = _codec(encoding)
    if held is None and not head.decode(known, errors="replace").strip(_BLANKS):
        raise DataFileError("is empty, expected rows of data.", location=location)
    return Source(str(location), path, head, known, held)


def _codec(encoding: str) -> str:
    """The usual name of an encoding of text. Raises DataFileError."""
    try:
        "".encode(encoding)  # refuses what is no encoding of text, such as base64
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError, UnicodeError):
        hint = "Usual ones: utf-8, gb18030, latin-1."
        raise DataFileError(f"unknown encoding {encoding!r:.60}.", hint=hint) from None
    return "utf-8" if name == "utf-8-sig" else name


def _unmarked(head: bytes) -> str:
    """UTF-16 or UTF-32 whose mark is missing, by where the zero bytes of its ASCII characters stand; ISO-2022-JP, which
    is ASCII but for what its escape sequences mean; else "".
    """
    if head.startswith((b"PAR1", _ZIP)):
        return ""
    if head.isascii() and (b"\x1b$B" in head or b"\x1b$@" in head):
        return "iso-2022-jp"
    part = head[: min(len(head), 1 << 12) & ~3]
    zeros = [part[i::4].count(0) for i in range(4)]
    names = {(0, 1, 0, 1): "utf-16-le", (1, 0, 1, 0): "utf-16-be", (0, 1, 1, 1): "utf-32-le", (1, 1, 1, 0): "utf-32-be"}
    likely = names.get(tuple(int(n > 0) for n in zeros), "")  # type: ignore[arg-type]
    surely = likely and (sum(zeros) >= len(part) // 5 or "\n" in part.decode(likely, errors="replace"))
    return likely if surely else ""


def _near(path: Path) -> str:
    import difflib

    folder = path.parent
    if not folder.is_dir():
        return f"The folder {str(folder)!r} does not exist either."
    near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=1)
    return f"Did you mean {str(folder / near[0])!r}?" if near else "Check the path."
