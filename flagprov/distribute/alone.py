"""One run at a time fills a directory of the controller: parts of two would be mixed in one file."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".flagprov-lock"


@contextmanager
def alone(folder: Path, others: Callable[[], None]) -> Iterator[None]:
    """Waits for another run that is at it, after saying so; a killed one holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            others()
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
