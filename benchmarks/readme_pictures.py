"""Takes pictures of the READMEs and of the guide: what a terminal and a browser show of finished models.

    make demo && python benchmarks/readme_pictures.py demo
    polydetr train --train BCCD/ImageSets/Main/train.txt --valid BCCD/ImageSets/Main/val.txt \\
        --test BCCD/ImageSets/Main/test.txt --target objects --seed 0 --out cells \\
        --set steps=1000 --set image.size=224 --set image.augment.flip_vertical=true \\
        --set training.batch_tokens=245 --set training.freeze_layers=9
    python benchmarks/readme_pictures.py mistakes cells/reports/test-mistakes.html
    polydetr data fetch film-reviews
    awk 'NR % 14 == 1' data/film-reviews/train.csv > some.csv
    awk 'NR % 2 == 1' data/film-reviews/dev.csv > valid.csv
    polydetr tune some.csv --target label --valid valid.csv --backbone none --epochs 4 \\
        --set model.embed_dim=16 --set model.num_layers=1 --trials 20 --out reviews
    python benchmarks/readme_pictures.py tuning reviews.study/report.html
    polydetr runs compare --runs reviews.study/trials --out docs/guide/pictures/runs.png

Needs Chromium; ``--font FILE`` names a font with Chinese characters where the system has none. The third picture there,
of an explanation, is one of benchmarks/explain_picture.py.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
GUIDE = PICTURES.parent / "guide" / "pictures"
COLUMNS = 84
SCALE = 1.25
FIRST, LAST = "Test rows: whole entities", "■ LOC × 2   ■ PER × 2"
"""What is shown of the demo: from the line with the one to the line with the other."""


def demo_page(font: Path | None) -> str:
    """The end of what ``make demo`` prints, in its colors, as a page."""
    environment = os.environ | {
        "FORCE_COLOR": "1",
        "COLORTERM": "truecolor",
        "COLUMNS": str(COLUMNS),
        "TERM": "xterm-256color",
    }
    done = subprocess.run(
        [sys.executable, "-m", "polydetr.apps.demo"], env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    plain = [Text.from_ansi(line).plain for line in lines]
    start = next(i for i, line in enumerate(plain) if FIRST in line)
    end = max(i for i, line in enumerate(plain) if line.strip() == LAST)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("$ make demo\n…"))
    for line in lines[start : end + 1]:
        console.print(Text.from_ansi(line), soft_wrap=True)
    face = f"@font-face {{ font-family: chosen; src: url({_inlined(font)}); }}" if font else ""
    code = console.export_html(theme=MONOKAI, inline_styles=True, code_format="{code}")
    style = "margin: 0; padding: 18px 22px; background: #16202b; color: #e8edf2; font: 14px/1.45 'DejaVu Sans Mono', chosen, monospace"
    return f'<meta charset=\'utf-8\'><style>{face}</style><body style="margin: 0"><pre style="{style}">{code}</pre>'


def _inlined(font: Path) -> str:
    """The font, the first of a collection, inside the page: a browser lets one file take no font out of another."""
    held = io.BytesIO()
    TTFont(font, fontNumber=0).save(held)
    return f"data:font/ttf;base64,{b64encode(held.getvalue()).decode()}"


def photograph(page: Path, picture: Path, *, width: int, top: int = 0, height: int, browser: str) -> None:
    """A part of a page, from so many of its pixels down, at ``SCALE`` times as many; in 256 colors."""
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=9000",
         f"--force-device-scale-factor={SCALE}", f"--window-size={width},{top + height}", f"--screenshot={picture}",
         page.resolve().as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip
    image = Image.open(picture).convert("RGB")
    image.crop((0, round(top * SCALE), image.width, image.height)).quantize(256).save(picture, optimize=True)
    print(f"wrote {picture}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=["demo", "mistakes", "tuning"])
    parser.add_argument(
        "page", nargs="?", type=Path, help="for mistakes, tuning: the page of a finished model or study"
    )
    parser.add_argument("--font", type=Path, help="a font with Chinese characters")
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--top", type=int, default=1250, help="for mistakes: where on the page the picture begins")
    parser.add_argument("--height", type=int, help="of the part that is shown, in pixels of the page")
    asked = parser.parse_args()
    if asked.picture != "demo" and (asked.page is None or not asked.page.exists()):
        parser.error("name the page, for example cells/reports/test-mistakes.html")
    if asked.picture == "tuning":
        picture, height = GUIDE / "tuning.png", asked.height or 1030
        photograph(asked.page, picture, width=1000, height=height, browser=asked.browser)
        return
    if asked.picture == "mistakes":
        picture, height = PICTURES / "mistakes.png", asked.height or 905
        photograph(asked.page, picture, width=1000, top=asked.top, height=height, browser=asked.browser)
        return
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "demo.html"
        page.write_text(demo_page(asked.font), encoding="utf-8")
        photograph(page, PICTURES / "demo.png", width=750, height=asked.height or 580, browser=asked.browser)


if __name__ == "__main__":
    main()
