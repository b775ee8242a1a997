"""What the steps of one run share: what identifies it, and where its state is kept."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from polydetr.config.sections import Config
from polydetr.core.files import cache_dir
from polydetr.core.lock import held
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.errors import SaveError
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.schema.spec import Schema
from polydetr.training.budget import Budget
from polydetr.training.callbacks import Display
from polydetr.training.checkpoint import Checkpoints, checkpoint_of
from polydetr.training.devices import Devices
from polydetr.training.encode import EncodedRows, MeasuredRows, Splits


class Encode(Protocol):
    """As ``encode.encode_rows``."""

    def __call__(
        self, engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify
    ) -> EncodedRows: ...


class WithFeatures(Protocol):
    """As ``features.with_features``."""

    def __call__(
        self, assembly: Assembly, rows: EncodedRows, *, notify: Notify, budget: Budget | None = None
    ) -> EncodedRows: ...


@dataclass(frozen=True)
class Again:
    """A run that repeats an earlier one on more rows, of which none is left to choose or to calibrate by.

    step, steps: see ``Loop``, ``until``. tasks: target → state of its task as it was calibrated; prediction: what the
    earlier model folder records of the precision it predicts in.
    """

    step: int
    steps: float
    tasks: Mapping[str, Mapping[str, Any]]
    prediction: Mapping[str, Any]


@dataclass(frozen=True)
class Hooks:
    """What a run does otherwise where it is one of many over the same rows.

    encode, with_features: take what an earlier run encoded or computed. on_evaluation: see ``Loop``. plans: whether a
    time limit may change settings and rows. measured: gets the engine that answers the validation rows, and these.
    again: how an earlier run went that it repeats.
    """

    encode: Encode | None = None
    with_features: WithFeatures | None = None
    on_evaluation: Callable[[Mapping[str, Any]], bool] = lambda entry: False
    plans: bool = True
    measured: Callable[[Engine, MeasuredRows], None] = lambda engine, rows: None
    again: Again | None = None


ALONE = Hooks()


@dataclass(frozen=True)
class Run:
    """What the steps of one run share. notify: shows a message, each once; rows_hash: of the training and validation
    rows; started: when it began, by ``time.monotonic``; budget: of its time limit. identity: what tells its checkpoint
    from those of other runs: the configuration before a plan changed it. hooks: what it does otherwise.
    """

    config: Config
    schema: Schema
    out: Path | None
    devices: Devices
    checkpoints: Checkpoints
    display: Display
    notify: Notify
    rows_hash: str
    started: float
    budget: Budget | None
    identity: Config
    hooks: Hooks


@contextmanager
def checkpoint_folder(
    config: Config, schema: Schema, rows_hash: str, *, out: Path | None, devices: Devices, notify: Notify
) -> Iterator[Path]:
    """Beside the model folder, so that saving the model never touches it; in the cache when nothing is to be kept, or,
    where the same run has that or it cannot be written, among the temporary files.
    """
    folder = cache_dir() / "runs" / fingerprint_of(config, schema, rows_hash, "")[:24]
    with ExitStack() as stack:
        if out is not None:
            folder = checkpoint_of(out)
        elif devices.is_first:
            try:
                stack.enter_context(held(folder.with_suffix(".lock"), what=f"the checkpoint in {str(folder)!r}"))
            except SaveError as error:
                notify(f"{error.message.removesuffix('.')}: this run keeps its checkpoint elsewhere, for itself")
                folder = Path(tempfile.mkdtemp(prefix="polydetr-"))
        yield devices.agree(folder)


def resumes(checkpoints: Checkpoints, *, wanted: bool, notify: Notify) -> bool:
    if wanted and not checkpoints.exists():
        notify(f"there is no checkpoint in {str(checkpoints.folder)!r}: the run starts from the beginning")
    elif not wanted and checkpoints.exists():
        notify(
            f"an interrupted run left a checkpoint in {str(checkpoints.folder)!r}; this run starts anew and replaces it"
        )
    return wanted and checkpoints.exists()


def hash_rows(records: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        row = [record.document, record.row]
        try:
            text = json.dumps(row, sort_keys=True, default=_content, ensure_ascii=False)
        except (TypeError, ValueError):  # names that are no text, an object within itself
            text = repr(row)
        digest.update(text.encode(errors="surrogatepass"))
    return digest.hexdigest()


def _content(value: object) -> str:
    """A value that JSON does not know, as text that differs where the value does: pixels, dates, decimals."""
    if hasattr(value, "tobytes"):  # NumPy and PIL
        value = value.tobytes() + repr(getattr(value, "shape", None) or getattr(value, "size", None)).encode()  # type: ignore[attr-defined]
    return hashlib.sha256(value).hexdigest() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def fingerprint_of(config: Config, schema: Schema, rows_hash: str, frozen: str) -> str:
    """The same for calls that give the same model: places of files and tracking do not matter."""
    settings = config.model_dump(
        exclude={"out", "test", "train", "valid", "unlabelled", "corrections", "track", "search"}
    )
    content = json.dumps([settings, schema.to_dict(), rows_hash, frozen], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
