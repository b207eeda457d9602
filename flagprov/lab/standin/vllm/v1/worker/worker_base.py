"""What drives a worker, under the name by which plugins know it in the real one."""

from __future__ import annotations

import os

from vllm.plugins import load_general_plugins


class Worker:
    """Computes nothing."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.device: str | None = None

    def init_device(self) -> None:
        # The lab's torch is there for workers alone, for much else tries to import it.
        os.environ["STANDIN_TORCH"] = "1"
        self.device = f"emulated:{self.rank}"


class WorkerWrapperBase:
    """One worker of this process."""

    def __init__(self) -> None:
        self.worker: Worker | None = None

    def init_worker(self, rank: int) -> None:
        load_general_plugins()
        self.worker = Worker(rank)

    def init_device(self) -> None:
        assert self.worker
        self.worker.init_device()
