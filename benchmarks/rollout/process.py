"""One command as the shell sees it: its time, its processor time, its memory over time."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUT = ROOT / "benchmarks" / "out"
SCRATCH = OUT / "rollout"
FLAGPROV = (sys.executable, "-m", "flagprov")


@dataclass(frozen=True)
class Figures:
    wall_s: float
    cpu_s: float
    memory_mib: tuple[float, ...]  # of the process and its descendants, looked at twice a second
    said: str


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, codes: Collection[int] = (0,)
) -> Figures:
    """Ends the benchmark with the command's last words where it fails."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    log = SCRATCH / "log"
    with log.open("w") as stream:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=ROOT,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        )  # fmt: skip
        with memory_of(process.pid) as seen:
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{log.read_text()[-3000:]}")
    return Figures(wall, usage.ru_utime + usage.ru_stime, tuple(seen), log.read_text())


@contextlib.contextmanager
def memory_of(pid: int) -> Iterator[list[float]]:
    """Resident memory of a process and its descendants in MiB, as it goes."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5 if seen else 0.15):
            seen.append(sum(map(resident, descendants(pid))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def descendants(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from descendants(int(child))


def resident(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return 0.0


def row(tool: str, work: str, n: int, found: Sequence[Figures]) -> dict[str, Any]:
    """A line of rollout.json."""
    return {
        "tool": tool,
        "work": work,
        "n": n,
        "wall_s_median": round(statistics.median(f.wall_s for f in found), 3),
        "controller_cpu_s": round(statistics.median(f.cpu_s for f in found), 3),
        "controller_rss_mib": round(max((mib for f in found for mib in f.memory_mib), default=0.0), 1),
        "runs": len(found),
    }
