"""Locks on files, which end with the process that has them, however it ends."""

from __future__ import annotations

from types import ModuleType
from typing import IO, Any

_locks: ModuleType | None
try:
    import fcntl as _locks
except ImportError:  # Windows
    _locks = None


def try_lock(file: IO[Any], shared: bool = False) -> bool | None:
    """Lock an open file until it is closed; tell whether that went well.

    False if another process, or another open file of this one, has the lock; None where the system,
    or the file system, has no locks. A shared lock excludes only one that is not.
    """
    if _locks is None:
        return None
    try:
        _locks.flock(file, (_locks.LOCK_SH if shared else _locks.LOCK_EX) | _locks.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
