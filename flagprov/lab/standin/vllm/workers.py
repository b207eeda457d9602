"""Workers of the engine: in its own process when it has one, else a process each, `python -m vllm.workers`.

They matter only to plugins, so there are none without.
"""

from __future__ import annotations

import subprocess
import sys

from .plugins import general_plugins
from .v1.worker.worker_base import WorkerWrapperBase


def start(count: int) -> None:
    """Raises when a worker cannot start; workers in processes of their own end with this one."""
    if not general_plugins():
        return
    if count == 1:
        work(0)
        return
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "vllm.workers", f"VLLM::Worker_TP{rank}", str(rank)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for rank in range(count)
    ]
    for process in processes:
        assert process.stdout
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(
                "WorkerProc initialization failed due to an exception in a background process."
            )


def work(rank: int) -> None:
    wrapper = WorkerWrapperBase()
    wrapper.init_worker(rank)
    wrapper.init_device()


if __name__ == "__main__":
    work(int(sys.argv[2]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
