"""What a lab command that was killed leaves behind: its children, and what they had mounted."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from flagprov.lab.layout import Layout
from flagprov.lab.shell import MARK, attempt, lines


def end_processes(layout: Layout) -> int:
    """End every process that the lab of this checkout started and that outlived its command."""
    ended = set()
    for attempts in range(50):
        alive = set(_processes(layout))
        for pid in alive:
            # First politely: mmdebstrap then unmounts what it mounted.
            _signal(pid, signal.SIGKILL if attempts > 20 else signal.SIGTERM)
        ended |= alive
        if not alive:
            break
        time.sleep(0.1)
    return len(ended)


def remove(path: Path) -> None:
    """Remove a file or tree; what is still mounted in it is unmounted, never emptied."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for point in mounted_below(path):
        attempt(["umount", "--lazy", point])
    if not mounted_below(path):
        shutil.rmtree(path, ignore_errors=True)


def mounted_below(path: Path) -> list[str]:
    """Mount points below a directory, the deepest first."""
    points = [line.split()[1] for line in lines(Path("/proc/mounts").read_text())]
    points = [point.replace("\\040", " ") for point in points]
    return sorted((point for point in points if point.startswith(f"{path}/")), key=len, reverse=True)


def _processes(layout: Layout) -> Iterator[int]:
    mark = f"{MARK}={layout.root}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:  # it ended meanwhile
            continue


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
