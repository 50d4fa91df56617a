"""How the process gets its memory from the system, and how much there is."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

from splitter.cgroups import FindGroups, find_groups

# mallopt(3): numbers of the parameters, as in <malloc.h>
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8
KEPT_BYTES = 2**31 - 1
STEP_BYTES = 64 * 2**20
LARGE_BYTES = 4 * 2**20


def reuse_freed_memory(large: bool = True) -> bool:
    """Have glibc keep what is freed for the next tile; tell whether it does.

    By default glibc maps each large array anew and unmaps it when freed. Every tile then pays for
    page faults in the kernel, which cost more than the network: see scripts/benchmark.py. A stream
    has few large arrays; without them (`large`, of 4 MB) there are no gaps where they were. This
    concerns the whole process, so only a program may call it, once, at its start; a library not.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {
        **({M_MMAP_MAX: 0} if large else {M_MMAP_THRESHOLD: LARGE_BYTES}),
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: STEP_BYTES,
        M_ARENA_MAX: 1,  # threads would have heaps of their own, which these settings do not reach
    }
    done = [mallopt(name, value) for name, value in settings.items()]
    return all(done)


def free_memory(find: FindGroups = find_groups) -> int | None:
    """Return the bytes of memory that are free for use, or None where the system does not say."""
    bounds = [_free_of_system(), *map(_free_of_group, find("memory"))]
    return min((free for free in bounds if free is not None), default=None)


def _free_of_group(group: Path) -> int | None:
    """Return what the limit of a control group leaves; None for no limit.

    What files are cached in counts as free: the kernel drops it when memory runs short.
    """
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),  # version 2
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):
            most = int((group / limit).read_text("ascii"))  # "max" is no number
            told = (group / "memory.stat").read_text("ascii")
            held = re.search(rf"^{cached} (\d+)$", told, re.MULTILINE)
            taken = int((group / used).read_text("ascii")) - int(held[1] if held else 0)
            return max(0, most - taken)
    return None


def _free_of_system() -> int | None:
    with suppress(OSError):  # Linux
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text("ascii"))
        if found:
            return int(found[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):  # macOS: all that there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
