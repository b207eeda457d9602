"""The engine of this node: how each kind of launch starts it, and what tells that it serves and lives."""

from __future__ import annotations

import os
import time
from typing import Callable, List, Optional

from flagprov.host.http import listens
from flagprov.host.launcher_log import say
from flagprov.host.launcher_node import Node
from flagprov.host.launcher_processes import children_of, name_of, still_there, stopped, workers
from flagprov.host.launcher_ray import DAEMONS, Ray, count, join, look, span
from flagprov.host.launcher_ssh import Runner, open_port
from flagprov.host.launcher_start import (
    NotStarted,
    describe,
    engine_environment,
    engine_of_flagscale,
    fresh_directory,
)

HOST = "-host"  # the folder beside the launcher's own, where only the host writes
LOOK_S = 5.0  # between two looks at what does not wake the loop
ASK_S = 2.0  # between two tries of the port


class Engine:
    """One engine from its fresh directory on."""

    def __init__(self, node: Node, directory: str, run: str) -> None:
        self.node, self.directory, self.run = node, directory, run
        self.kind = str(node.launch["kind"])
        self.pid: Optional[int] = None
        self.workers: List[int] = []  # on a rank of several; none of them may end
        self.frozen: List[str] = []  # processes that somebody has stopped
        self.ray = Ray(node.launch["ray"], node.exp) if node.launch.get("ray") else None
        self.daemon: Optional[int] = None  # sshd, where FlagScale comes in by it
        self.asked_at = self.looked_at = 0.0

    # Start

    def open(self, waiting: Callable[[str], None]) -> None:
        """All that is made before the ranks meet: a fresh directory, the log, the runner's port."""
        node = self.node
        fresh_directory(node.exp)
        node.env = engine_environment(node.launch, self.directory, self.run)
        # FlagScale appends the engine's output to this file for ever; a FIFO costs no disk and wakes us.
        os.mkfifo(node.output, 0o600)
        node.log.add(node.output)
        if self.ray:
            self.ray.write(node.env)
        if node.launch.get("ssh"):
            self.daemon = open_port(node, Runner(node.launch, self.run), waiting)
        self._hold(waiting)

    def _hold(self, waiting: Callable[[str], None]) -> None:
        """While somebody starts the engine by hand: all is prepared, nobody is met, nothing is started."""
        path = os.path.join(self.run + HOST, "hold")
        if not os.path.exists(path):
            return
        text = "held by hand, until %s is removed" % path
        waiting(text)
        say("%s; by hand: bash %s/start.sh" % (text, self.directory))
        while os.path.exists(path) and not self.node.stopping:
            self.node.turn()
        waiting("")

    def start(self) -> None:
        """Leaves a pid unless it was called off, or raises NotStarted."""
        node = self.node
        if self.ray and node.rank:
            self.pid = self.daemon or join(node, self.ray)
            return
        if self.ray and self.kind == "ray":
            self.workers.append(span(node, self.ray))
        if node.called_off():
            return
        if self.kind == "flagscale":
            self.pid = self._flagscale()
        else:
            self.pid = node.spawn([str(word) for word in node.launch["argv"]])

    def _flagscale(self) -> Optional[int]:
        node, said = self.node, self.node.launch["flagscale"]
        front = node.spawn(
            ["flagscale", "serve", said["label"], os.path.join(self.directory, said["config"])]
        )
        while front not in node.ended:
            node.turn()
            if node.called_off():
                return None
        # FlagScale returns 0 for nearly everything, so its pid file is what counts.
        pid = engine_of_flagscale(node.exp)
        if pid is None:
            how = describe(node.ended[front])
            raise NotStarted(
                "flagscale serve came back (%s) and left no engine; its own lines are above" % how
            )
        return pid

    # Watch

    def alive(self) -> bool:
        pid = self.pid
        if pid is None or pid in self.node.ended or not os.path.exists("/proc/%d" % pid):
            return False
        # FlagScale's shell ends with a `sync` of all file systems, which may take minutes.
        if [name_of(child) for child in children_of(pid)] == ["sync"]:
            return False
        return still_there(self.workers)

    def serves(self) -> bool:
        """A rank beside the head has no port; it serves when the head does."""
        if self.node.peers and self.node.rank:
            return self.node.peers.serving
        return self.node.log.ready or self._listens()

    def _listens(self) -> bool:
        """Whether the port answers; for engines which are told not to log that they are up."""
        port, now = self.node.launch.get("port"), time.monotonic()
        if not port or self.node.rank or now - self.asked_at < ASK_S:
            return False
        self.asked_at = now
        return listens(self.node.address, int(port))

    def count(self) -> None:
        """Now that it serves, who belongs to it: the nodes of its Ray, the processes that may not end."""
        node = self.node
        if self.ray and not node.rank and self.kind == "flagscale":
            count(node, self.ray)  # its script goes on whatever becomes of Ray
        if node.peers:
            self.workers += workers(node.ours())
        if self.ray:
            self.workers += [pid for pid in node.ours() if name_of(pid) in DAEMONS]

    def look(self) -> bool:
        """Whether there is news of what nobody tells us: stopped processes, and nodes that Ray still has."""
        before = (self.frozen, self.ray.seen if self.ray else None)
        if self.ray and not self.node.rank:
            look(self.node, self.ray)
        if time.monotonic() - self.looked_at >= LOOK_S:
            self.looked_at = time.monotonic()
            self.frozen = stopped(self.node.ours())
        return before != (self.frozen, self.ray.seen if self.ray else None)

    def end(self) -> str:
        """How it ended, as far as that is known of a child of ours."""
        status = self.node.ended.get(self.pid or 0)
        return "" if status is None or self.kind == "flagscale" else " (%s)" % describe(status)
