"""Makes ``src/polydetr/reports/fonts/polydetr-cjk.otf.xz``: the characters of Chinese, Japanese and Korean labels.

    python docs/make_font.py

A subset of Noto Sans CJK SC 1.004 (SIL Open Font License 1.1), fetched out of a pinned wheel: GB 2312 (6,763), Big5
level 1 (5,401, traditional), JIS X 0208 level 1 (2,965), the 2,350 syllables of KS X 1001, kana, punctuation, full
width forms and Latin; without hints and features. As the license wants of a changed font it has a name of its own.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from fontTools import subset
from fontTools.ttLib import TTFont

from polydetr.fetch.wheels import Archive, Member, fetch_members

FOLDER = Path(__file__).parents[1] / "src" / "polydetr" / "reports" / "fonts"
NAME = "Polydetr CJK"
WHEEL = Archive(
    "mplfonts",
    "0.0.11",
    "mplfonts-0.0.11-py3-none-any.whl",
    "b5e05ba7fd9a59cae48d1db41f657f50e6765e6f04b8d78504438b93a66b6e13",
)
FONT = Member(
    "mplfonts/fonts/NotoSansCJKsc-Regular.otf",
    "1652500938055a232cfbfa321de6ebaadfc5635dd9f75e369bc991d14a6512dd",
    16_412_332,
)
PLAIN = (
    range(0x20, 0x7F), range(0xA0, 0x180), range(0x2010, 0x2040), range(0x3000, 0x3100), range(0x31F0, 0x3200),
    range(0xFF00, 0xFFF0),
)  # fmt: skip


def characters() -> set[str]:
    def of(encoding: str, first: Iterable[int], second: Iterable[int]) -> set[str]:
        pairs = (bytes([a, b]) for a in first for b in second)
        return {pair.decode(encoding, "ignore") for pair in pairs} - {""}

    high = range(0xA1, 0xFF)
    return set().union(
        of("gb2312", range(0xB0, 0xF8), high),
        of("big5", range(0xA4, 0xC7), [*range(0x40, 0x7F), *high]),
        of("euc_jp", range(0xB0, 0xD0), high),
        of("euc_kr", range(0xB0, 0xC9), high),
        *(map(chr, block) for block in PLAIN),
    )


def smaller(font: TTFont) -> bytes:
    options = subset.Options()
    options.layout_features, options.hinting, options.desubroutinize, options.notdef_outline = [], False, True, True
    options.drop_tables += ["GSUB", "GPOS", "BASE", "vhea", "vmtx", "VORG", "DSIG"]
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(sorted(characters())))
    subsetter.subset(font)
    names = {
        1: NAME,
        3: f"{NAME} 1",
        4: NAME,
        6: NAME.replace(" ", ""),
        5: "Version 1.004, a subset of Noto Sans CJK SC",
    }
    for record in font["name"].names:
        if record.nameID in names:
            record.string = names[record.nameID]
    font["head"].modified = font["head"].created  # the same bytes every time
    font.recalcTimestamp = False
    top = font["CFF "].cff
    top.fontNames = [names[6]]
    top[0].FullName = top[0].FamilyName = NAME
    file = io.BytesIO()
    font.save(file)
    return file.getvalue()


def main() -> None:
    with TemporaryDirectory() as folder:
        paths = fetch_members(WHEEL, {"source.otf": FONT}, folder=Path(folder), report=print)
        content = smaller(TTFont(paths["source.otf"]))
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    (FOLDER / "polydetr-cjk.otf.xz").write_bytes(packed)
    print(f"{len(content):,} bytes, {len(packed):,} packed, for {len(characters()):,} characters")


if __name__ == "__main__":
    main()
