"""Control groups, by which Linux bounds what containers, services and batch jobs may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeAlias

FindGroups: TypeAlias = Callable[[str], Sequence[Path]]


def find_groups(
    controller: str, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[Path]:
    """Return the folders of the groups that this process is in, whose bounds all hold.

    `controller` is "cpu" or "memory": under version 1 each has groups of its own, under version 2
    they are shared (cgroups(7)). What a container shows as the root is its own group.
    """
    found = [root, root / controller]
    lines: list[str] = []
    with suppress(OSError, UnicodeError):
        lines = own.read_text("utf-8").splitlines()
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers or controller in controllers.split(","):
            top = root / controller if controllers else root
            within = PurePosixPath(path.strip("/"))
            found.extend(top / each for each in (within, *within.parents))
    return list(dict.fromkeys(found))
