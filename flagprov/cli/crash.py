"""The private debug file of an error that nobody expected."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
import traceback
from pathlib import Path

from flagprov import __version__
from flagprov.cli.screen import Run


def write_debug_file(error: BaseException, state: Run) -> Path | None:
    """Write the traceback where only its owner reads it; None where no directory takes it."""
    name = f"debug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = "\n".join(
        (
            f"flagprov {__version__}, Python {platform.python_version()}, {platform.platform()}",
            # Not the whole command line: --set may hold a secret.
            f"verb: {state.verb or 'none'}",
            "",
            *traceback.format_exception(error),
        )
    )
    for directory in _directories(state):
        with contextlib.suppress(OSError):
            path = directory / name
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return path
    return None


def _directories(state: Run) -> list[Path]:
    found = []
    if state.inventory:
        inventory = Path(state.inventory)
        with contextlib.suppress(OSError):
            site = (inventory if inventory.is_dir() else inventory.parent) / ".flagprov"
            if site.is_dir():
                found.append(site)
    return [*found, Path(tempfile.gettempdir())]
