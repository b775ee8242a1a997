"""What the result files hold, as the report asks for it: the newest line of each run, averages over seeds and folds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from recording import FOLDER

Line = dict[str, Any]
SINGLE = ("text", "image", "table")


def lines_of(name: str) -> list[Line]:
    path = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def at(line: Mapping[str, Any] | None, *keys: str) -> Any:
    """The value under nested keys, None where one is not there."""
    value: Any = line
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def mean(values: Iterable[float | None]) -> float | None:
    """None where there is none, or one has not been measured."""
    found = list(values)
    return None if not found or None in found else statistics.mean(v for v in found if v is not None)


class Results:
    """Every line of benchmarks/results/, by file."""

    def __init__(self) -> None:
        self.files = {path.stem: lines_of(path.stem) for path in sorted(FOLDER.glob("*.jsonl"))}

    def all(self, file: str, **match: Any) -> list[Line]:
        return [line for line in self.files.get(file, []) if all(line.get(k) == v for k, v in match.items())]

    def newest(self, file: str, **match: Any) -> Line | None:
        found = self.all(file, **match)
        return found[-1] if found else None

    def newest_by(self, file: str, key: str, **match: Any) -> dict[Any, Line]:
        """The newest line of each value of ``key``."""
        return {line[key]: line for line in self.all(file, **match)}

    # -- text ---------------------------------------------------------------------------------------------------------

    def test(self, name: str, target: str, metric: str) -> float | None:
        return at(self.newest("quality", data=name), "metrics", "test", target, metric)

    def folds(self, metric: str) -> float | None:
        return mean(self.test(f"phrasebank-{fold}", "label", metric) for fold in range(5))

    def job(self, name: str, *keys: str) -> float | None:
        return at(self.newest("speed", job=name), *keys)

    def answers_gain(self, data: str) -> float | None:
        """F1 of question answering above the other side's, on the same rows."""
        ours, theirs = (
            at(self.newest("qa_peer", label=f"{data}, {side}"), "metrics", "f1")
            for side in ("polydetr", "transformers")
        )
        return None if ours is None or theirs is None else ours - theirs

    # -- mixed rows ---------------------------------------------------------------------------------------------------

    def ablation(self, withheld: float) -> dict[tuple[str, str, str], list[Line]]:
        """(modalities, fusion, sharing) → its runs, the newest of each seed."""
        newest: dict[tuple[tuple[str, str, str], int], Line] = {}
        for line in self.all("multimodal", what="ablation", withheld=withheld):
            for run in line["runs"]:
                newest[(" + ".join(run["modalities"]), run["fusion"], run["share"]), line["seed"]] = run
        found: dict[tuple[str, str, str], list[Line]] = {}
        for (key, _), run in newest.items():
            found.setdefault(key, []).append(run)
        return dict(
            sorted(found.items(), key=lambda item: (item[0][0].count("+"), item[0][1:] != ("joint", "none"), item[0]))
        )

    def alone(self, withheld: float) -> dict[str, float]:
        """Test accuracy of each modality by itself."""
        runs = self.ablation(withheld)
        scores = {m: mean(run["accuracy"]["test"] for run in runs.get((m, "joint", "none"), ())) for m in SINGLE}
        return {m: score for m, score in scores.items() if score is not None}

    def fashion_gain(self, withheld: float, *, over_pairs: bool) -> float | None:
        """Points of test accuracy of all modalities over the best single one, or the best single one or pair."""
        scores = {
            modalities: mean(run["accuracy"]["test"] for run in runs)
            for (modalities, fusion, share), runs in self.ablation(withheld).items()
            if (fusion, share) == ("joint", "none")
        }
        everything = scores.pop(" + ".join(SINGLE), None)
        rivals = [s for m, s in scores.items() if s is not None and (over_pairs or m in SINGLE)]
        return None if everything is None or not rivals else 100 * (everything - max(rivals))

    def table_gap(self, data: str) -> float | None:
        """Points between the best of scikit-learn's models and ours with nothing said; below zero where ours is best."""
        newest = self.newest_by("small_tables", "model", data=data)
        ours = newest.pop("polydetr", None)
        return 100 * (max(line["mean"] for line in newest.values()) - ours["mean"]) if newest and ours else None

    def cached(self, *, num_layers: int) -> Line | None:
        """The newest run on kept features with so many encoder layers."""
        runs = self.all("multimodal", what="cache")
        return next((run for run in reversed(runs) if at(run, "settings", "model", "num_layers") == num_layers), None)

    def digits(self, *keys: str) -> Any:
        return at(self.newest("generation", data="digits"), "metrics", *keys)

    def automm(self, columns: str, measure: str) -> float | None:
        """How many times more of it AutoGluon-Multimodal took, on the same rows."""
        theirs, ours = (at(self.newest("automm", who=who, columns=columns), measure) for who in ("automm", "polydetr"))
        return theirs / ours if theirs and ours else None

    def pipeline(self) -> float | None:
        """Images read and augmented in a second, over images learned from in a second."""
        rates = at(self.newest("image_pipeline", data="clothing_small"), "pictures_per_second")
        if not rates:
            return None
        return 1 / (1 / rates["read_2_threads"] + 1 / rates["augment"]) / rates["train_step"]

    # -- sets ---------------------------------------------------------------------------------------------------------

    def detectors(self) -> dict[str, list[Line]]:
        """Name of the model, with the label of the run → the runs on BCCD, the newest of each seed.

        Of the ablation the run as shipped stands here too, beside those of its size.
        """
        found: dict[tuple[str, int], Line] = {}
        for line in self.all("detection", data="bccd"):
            label = line.get("label")
            if line.get("ablation"):
                if label != "as shipped":
                    continue
                label = f"{line['settings']['image']['size']} pixels"
            found[", ".join(filter(None, (detector(line), label))), line["seed"]] = line
        return {name: [line for (n, _), line in found.items() if n == name] for name, _ in found}

    def bccd(self, name: str, metric: str) -> float | None:
        """Mean over the seeds of the runs of one model that bear no label: those with the settings of the script."""
        return mean(line["metrics"]["test"]["objects"][metric] for line in self.detectors().get(name, ()))

    def entities_gain(self, data: str) -> float | None:
        """Points of test entity F1 of the task ``entities`` over the flat tagger that its development rows prefer."""
        newest = self.newest_by("entities", "model", data=data)
        ours = newest.pop("entities", None)
        flat = [line for line in newest.values() if "entity_f1" in line.get("valid", {})]
        if ours is None or not flat:
            return None
        best = max(flat, key=lambda line: line["valid"]["entity_f1"])
        return 100 * (ours["test"]["entity_f1"] - best["test"]["entity_f1"])

    def set_speed(self, measure: str = "times_faster", **match: Any) -> float | None:
        return at(self.newest("detr_speed", **match), measure)


def detector(line: Line) -> str:
    """Whose model it was, or its architecture; lines up to 2026-11-27 have the options under ``detection``."""
    asked = at(line, "settings", "tasks", "objects", "architecture") or at(
        line, "settings", "detection", "architecture"
    )
    return line.get("model") or asked or "detr-fast"


Value = Callable[[Results], float | None]
