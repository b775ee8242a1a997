"""The fonts of all images: which characters can be drawn, and with what.

Beside DejaVu Sans, which matplotlib carries, an installed Chinese font where there is one; and always the one that lies
here, packed, with the characters that Chinese, Japanese and Korean labels have (``docs/make_font.py`` says which).
matplotlib is imported on first use.
"""

from __future__ import annotations

import functools
import lzma
import tempfile
from importlib import resources
from pathlib import Path

from polydetr.core.files import cache_dir, save_bytes
from polydetr.errors import SaveError

PACKED, OWN_FAMILY = "polydetr-cjk.otf.xz", "Polydetr CJK"
PLAIN_FAMILY = "DejaVu Sans"
_CJK_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)
_CJK_FILES = ("notosanscjk", "notosanssc", "sourcehansans", "wqy", "simhei", "msyh", "droidsansfallback", "pingfang")


def families() -> list[str]:
    """The fonts to draw with, in the order in which a character is looked for in them."""
    installed = installed_cjk()
    return [PLAIN_FAMILY, *([installed] if installed else []), _own()]


def cjk_family() -> str:
    """The one that has Chinese, Japanese and Korean characters."""
    return installed_cjk() or _own()


@functools.cache
def installed_cjk() -> str | None:
    """The name of an installed font with Chinese characters, or None; also of one installed since matplotlib last
    listed the fonts.
    """
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    for family in _CJK_FAMILIES:
        if family in known:
            return family
    for file in font_manager.findSystemFonts():
        if Path(file).name.lower().replace("-", "").replace("_", "").startswith(_CJK_FILES):
            try:
                font_manager.fontManager.addfont(file)
            except (OSError, RuntimeError):  # not a font that FreeType reads
                continue
            return font_manager.fontManager.ttflist[-1].name
    return None


def _own() -> str:
    """The family of the packed font, known to matplotlib; unpacked again where its file is gone, as a cache may be."""
    if not _unpacked().is_file():
        _unpacked.cache_clear()
        _unpacked()
    return OWN_FAMILY


@functools.cache
def _unpacked() -> Path:
    """The packed font as a file, which is what matplotlib reads: in the cache."""
    from matplotlib import font_manager

    content = lzma.decompress(resources.files(__name__).joinpath(PACKED).read_bytes())
    path = cache_dir() / "fonts" / PACKED.removesuffix(".xz")
    if not path.is_file() or path.read_bytes() != content:
        try:
            save_bytes(path, content)
        except SaveError:  # a cache that cannot be written
            path = save_bytes(Path(tempfile.mkdtemp(prefix="polydetr-fonts-")) / path.name, content)
    fonts = font_manager.fontManager
    fonts.ttflist = [font for font in fonts.ttflist if font.name != OWN_FAMILY]
    fonts.addfont(str(path))
    return path


@functools.cache
def _drawn_by(family: str) -> frozenset[int]:
    """The characters that a font has."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font_manager.findfont(family)).get_charmap())


def undrawable(text: str) -> set[str]:
    """The characters of ``text`` that no font has: they would be drawn as boxes."""
    plain = _drawn_by(PLAIN_FAMILY)
    rest = {char for char in text if ord(char) not in plain and not char.isspace()}
    for family in families()[1:] if rest else ():
        rest = {char for char in rest if ord(char) not in _drawn_by(family)}
    return rest


def drawable(text: str, *, family: str | None = None) -> str:
    """``text`` with "?" in place of what no font has, or what ``family`` has not, where it is drawn with that alone."""
    missing = {char for char in text if ord(char) not in _drawn_by(family)} if family else undrawable(text)
    return "".join("?" if char in missing else char for char in text) if missing else text
