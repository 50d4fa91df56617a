"""Which processors of the machine this process may use, and what they can do."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from splitter.cgroups import FindGroups, find_groups


def count_processors(find: FindGroups = find_groups) -> int:
    """Return how many processors affinity and the limits of control groups leave, at least one.

    OMP_NUM_THREADS bounds them, too: it is how a user says it, whoever computes.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        allowed = os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    bounds = (*map(_read_limit, find("cpu")), int(wanted) if wanted.isdecimal() else None)
    return max(1, min(bound or allowed for bound in (allowed, *bounds)))


def _read_limit(group: Path) -> int | None:
    """Return how many processors a control group may use, rounded up; None for no limit."""
    with suppress(OSError, ValueError):  # version 2
        quota, period = (group / "cpu.max").read_text("ascii").split()
        return None if quota == "max" else -(-int(quota) // int(period))
    with suppress(OSError, ValueError):  # version 1
        quota, period = (
            (group / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period")
        )
        return None if int(quota) < 0 else -(-int(quota) // int(period))
    return None


def has_bfloat16() -> bool:
    """Tell whether the CPU has bfloat16 instructions (elsewhere bfloat16 is emulated, and slow)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
