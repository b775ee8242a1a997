"""The table of 5,000 answers in a real browser: how long sorting, filtering and searching take until they are drawn.

    python benchmarks/studio_batch.py MODEL_FOLDER ROWS.csv

It starts a service of its own over the model, drops the file on the page Batch and waits until all is answered (and
measured, where the rows are labeled). Needs Chromium and playwright. Prints the median of 9 times each, in milliseconds,
from the call to the frame that shows the outcome; and when the first answer and the last one were in the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "studio"))
TABLE = "getElement(document.querySelector('.pd-table-view').id.slice(1))"
TIMED = """async work => {
  const table = TABLE, times = [], label = table.values[0]?.[0] ?? '';
  const drawn = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  for (let i = 0; i < 9; i++) {
    await drawn();
    const began = performance.now();
    const by = {colId: i % 2 ? 'o0' : 'n', sort: i % 2 ? 'asc' : 'desc'};
    work === 'sort' ? table.api.applyColumnState({state: [by], defaultState: {sort: null}})
      : work === 'search' ? table.find(i % 2 ? 'a' : '1')
      : table.choose(i % 2 ? label : '');
    await drawn();
    times.push(performance.now() - began);
  }
  table.find(''); table.choose('');
  return times.sort((a, b) => a - b)[4];
}""".replace("TABLE", TABLE)


def main(model: Path, rows: Path) -> None:
    from playwright.sync_api import sync_playwright
    from running_studio import CHROMIUM, serving

    with (
        tempfile.TemporaryDirectory() as folder,
        serving({"m": model}, folder=Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.monotonic()
        page.goto(f"{address}/studio/m/batch")
        page.wait_for_selector(".pd-file-drop")
        found = {"page_s": time.monotonic() - began}
        began = time.monotonic()
        page.set_input_files("input[type=file]", str(rows))
        page.wait_for_selector(".ag-row", timeout=600_000)
        found["first_answer_s"] = time.monotonic() - began
        page.wait_for_selector("progress", state="detached", timeout=3_600_000)
        page.wait_for_function(f"() => {TABLE}.have === {TABLE}.there", timeout=600_000)
        found["all_answers_s"] = time.monotonic() - began
        page.wait_for_function("() => !document.body.innerText.includes('Measuring')", timeout=3_600_000)
        page.wait_for_timeout(2000)
        found["rows"] = page.evaluate(f"() => {TABLE}.have")
        found |= {f"{work}_ms": page.evaluate(TIMED, work) for work in ("sort", "filter", "search")}
        browser.close()
    print(json.dumps({name: round(value, 2) for name, value in found.items()}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    arguments = parser.parse_args()
    main(arguments.model, arguments.rows)
