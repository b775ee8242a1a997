"""The precision that a run trains in."""

from __future__ import annotations

from polydetr.data.store import ExampleStore
from polydetr.model.precision import ForTraining, Plain, Precision, apply, choose_for_training
from polydetr.model.runner import TorchRunner
from polydetr.nn.batch import Batch
from polydetr.training.run import Run


def set_precision(
    run: Run, runner: TorchRunner, wanted: ForTraining, store: ExampleStore, *, measured: Precision | None = None
) -> Plain:
    """Puts the model into the precision it trains in; on all devices what the first one measured. measured: what
    "auto" has been found to be.
    """

    def batch() -> Batch:
        return runner.batch([store[i] for i in range(min(8, len(store)))])

    found = measured if wanted == "auto" else None
    chosen = found or run.devices.in_first(lambda: choose_for_training(runner.model, wanted, batch))
    masters = " with fp32 master weights" if chosen.name == "bf16" else ""
    run.display.note(f"precision: {chosen.name}{masters} ({chosen.reason})")
    apply(runner.model, chosen)
    return "bf16" if chosen.name == "bf16" else "fp32"
