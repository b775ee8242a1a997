"""What a measured speed holds for: the processor, as far as it decides which way to compute is the fastest."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from polydetr.core.ahead import cores

_CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""Machines of one name differ in these: a host may keep some from its guests."""


@functools.cache
def processor() -> dict[str, str]:
    """Its name, family and model, and which instructions it has for products; as far as the system says."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:  # no Linux
        return {"cpu": f"{platform.machine()} {platform.processor()}".strip()}
    found = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}
    name = found.get("model name") or platform.machine()
    flags = set(found.get("flags", found.get("Features", "")).split())
    known = {key.removeprefix("cpu "): found[key] for key in ("cpu family", "model") if key in found}
    return {"cpu": name, **known, "instructions": " ".join(i for i in _INSTRUCTIONS if i in flags)}


def machine() -> dict[str, str]:
    """``processor``, and the cores that this process may use."""
    return {**processor(), "cores": str(cores())}
