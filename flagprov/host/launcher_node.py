"""This node while one engine lives: what we start, and the loop in which we hear of everything."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from typing import Any, Callable, Dict, List, Mapping, Sequence

from flagprov.host.launcher_log import Log
from flagprov.host.launcher_peers import peers_of
from flagprov.host.launcher_processes import descendants, processes
from flagprov.host.launcher_start import spawn
from flagprov.host.launcher_state import Current, State

TURN_S = 0.5  # longest sleep; child and signal wake the loop earlier
ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """They wake the loop, and say whether a stop was asked for; for as long as the launcher lives."""

    def __init__(self) -> None:
        self.stopping = False
        self.wake, self._write = os.pipe()

    def arm(self) -> None:
        for end in (self.wake, self._write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in ENDING:
            signal.signal(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def take(self) -> None:
        try:
            os.read(self.wake, 4096)
        except OSError:
            pass


class Node:
    """One engine's part of this node; the next engine has a new one."""

    def __init__(
        self, launch: Mapping[str, Any], run: str, signals: Signals, state: State, current: Current
    ) -> None:
        self.launch = launch
        self.rank = int(launch.get("rank", 0))
        self.address = str(launch.get("address", "127.0.0.1"))  # where the engine listens
        self.exp = os.path.join(run, "exp")
        self.logs = os.path.join(self.exp, "serve_logs")
        self.output = os.path.join(self.logs, "host_0_localhost.output")
        self.env: Dict[str, str] = {}
        self.signals, self.state, self.current = signals, state, current
        self.log = Log()
        self.peers = peers_of(launch, self.turn)  # the other ranks; None on one host
        self.children: List[subprocess.Popen[bytes]] = []
        self.ended: Dict[int, int] = {}  # our children that were reaped -> wait status

    @property
    def stopping(self) -> bool:
        """Whether this engine is to end in an orderly way: for good, or for another configuration."""
        return self.signals.stopping or self.current.renewed()

    def called_off(self) -> bool:
        """Whether a stop was asked for, or another rank is gone."""
        return self.stopping or bool(self.peers and self.peers.lost)

    def turn(self, longest: float = TURN_S) -> None:
        """Sleep until something happens, then take what there is."""
        waitable = [self.signals.wake, *self.log.waitable(), *(self.peers.waitable() if self.peers else ())]
        if self.signals.wake in select.select(waitable, [], [], longest)[0]:
            self.signals.take()
        self.log.pump()
        self.state.touch()
        if self.peers:
            self.peers.pump()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self.ended[pid] = status

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Turn until done() or the time is over; says which."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.turn(min(left, TURN_S))
        return True

    def spawn(self, argv: Sequence[str], output: str = "", plain: bool = False) -> int:
        """Run argv in a shell, after the vendor's and the card's lines unless it is to be plain; its pid."""
        child = spawn({} if plain else self.launch, argv, self.env, self.exp, output or self.output)
        self.children.append(child)  # a forgotten Popen reaps its child by itself, and we would never know
        return child.pid

    def ours(self) -> List[int]:
        """All that runs below us."""
        return descendants(os.getpid(), processes())
