"""Writing a report beside what it describes: whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SaveError


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes through a temporary file in the same folder, so that a reader or a full disk never meets half a file.

    Raises:
        SaveError: the folder cannot be made or written to; what stood at ``path`` is untouched.
    """
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise SaveError(
            f"Cannot write {str(target)!r}: {reason}. Nothing was changed; free space or name another place."
        ) from error
    return target


def write_text(path: str | Path, text: str) -> Path:
    """UTF-8, through :func:`write_bytes`."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, obj: Any) -> Path:
    """``obj`` as indented JSON, Chinese left readable.

    Reports (anything with ``to_dict``), NumPy values and paths become plain values; NaN and infinities become null,
    which is all that JSON has for them.
    """
    return write_text(path, json.dumps(plain(obj), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def plain(obj: Any) -> Any:
    """``obj`` in JSON's own types; what has none is refused by ``json`` itself."""
    if hasattr(obj, "to_dict"):
        return plain(obj.to_dict())
    if hasattr(obj, "tolist"):  # NumPy arrays and scalars
        return plain(obj.tolist())
    if isinstance(obj, Mapping):
        return {str(key): plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [plain(value) for value in (sorted(obj, key=str) if isinstance(obj, (set, frozenset)) else obj)]
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    return str(obj) if isinstance(obj, Path) else obj
