"""The way to compute a model that was measured to be the fastest on a machine, kept in the model folder: ``load`` obeys
it there, and nowhere else.

optimized.json    the way, the machine, what computed there, the model by its seal, what was measured; and a checksum of
                  all that
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polydetr.core.files import json_text, save_text
from polydetr.core.machine import machine
from polydetr.errors import ModelFolderError, faults
from polydetr.inference.folder import OPTIMIZED, SEAL, read_json

FORMAT = 1
_CHECKSUM = "sha256"
AGAIN = "polydetr optimize MODEL measures it anew."


class OptimizedWarning(UserWarning):
    """What ``optimize`` found is not obeyed, and why; the model is computed as it is by default."""


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="allow", strict=True, frozen=True, protected_namespaces=())


class Way(_Part):
    """threads: batches computed side by side, at most; batch_tokens: padded tokens per batch, at most."""

    runner: Literal["torch", "onnx"]
    precision: Literal["fp32", "bf16", "int8"]
    threads: int = Field(ge=1, le=4096)
    batch_tokens: int = Field(ge=16, le=100_000_000)

    def __str__(self) -> str:
        name = "PyTorch" if self.runner == "torch" else "ONNX Runtime"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{name} {self.precision}, {threads}, {self.batch_tokens} tokens per batch"


class Choice(_Part):
    """computes_on: see ``core.runner.SizedRunner``; earlier versions did not say."""

    format: int = Field(ge=1)
    of: str
    machine: dict[str, str]
    computes_on: str | None = None
    way: Way


def write_way(
    folder: Path, manifest: Mapping[str, Any], way: Way, measured: Sequence[Mapping[str, Any]], *, computes_on: str
) -> Path:
    """Writes the choice into the folder of the model that ``manifest`` describes. Raises SaveError."""
    found = {"format": FORMAT, "of": manifest[SEAL], "machine": machine(), "computes_on": computes_on}
    plain = json.loads(json_text({**found, "way": way.model_dump(), "measured": list(measured)}))  # as it will be read
    return save_text(folder / OPTIMIZED, json_text({**plain, _CHECKSUM: _checksum(plain)}, indent=1) + "\n")


def read_way(folder: Path, manifest: Mapping[str, Any]) -> tuple[Choice | None, str | None]:
    """The choice that holds here, and a message where the folder has one that does not. A process that has fewer cores
    than were measured with computes on fewer threads, and else in the same way.
    """
    if not (folder / OPTIMIZED).exists():
        return None, None
    place = repr(str(folder / OPTIMIZED))
    try:
        content = read_json(folder, OPTIMIZED)
        if not isinstance(content, dict) or content.get(_CHECKSUM) != _checksum(content):
            return None, f"{place} is damaged, or was changed, and is not obeyed. {AGAIN}"
        kept = Choice.model_validate(content)
    except ModelFolderError as error:
        return None, f"{error.message} It is not obeyed. {AGAIN}"
    except ValidationError as error:
        return None, f"{place} is not obeyed: {faults(error)}. {AGAIN}"
    if kept.format > FORMAT:
        return None, f"{place} was written by a newer version, and is not obeyed."
    if kept.of != manifest.get(SEAL):
        return None, f"{place} was measured with another model, and is not obeyed. {AGAIN}"
    here = machine()
    if _has_fewer_cores(here, kept.machine):
        threads = min(kept.way.threads, int(here["cores"]))
        return kept.model_copy(update={"way": kept.way.model_copy(update={"threads": threads})}), None
    if kept.machine != here:
        return None, f"{place} was measured on {_named(kept.machine)}, and is not obeyed on {_named(here)}. {AGAIN}"
    return kept, None


def _has_fewer_cores(here: Mapping[str, str], there: Mapping[str, str]) -> bool:
    """Whether these are the same processor, of which ``here`` has the smaller part."""
    cores = there.get("cores", "")
    return {**there, "cores": here["cores"]} == here and cores.isdecimal() and int(here["cores"]) < int(cores)


def _named(known: Mapping[str, str]) -> str:
    parts = [f"{key} {value}" for key, value in known.items() if key in ("family", "model") or key == "cores"]
    extra = known.get("instructions", "")
    return f"{known.get('cpu', '?')} ({', '.join([*parts, extra] if extra else parts)})"


def _checksum(content: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in content.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
