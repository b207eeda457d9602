"""PID 1 of a serving container: starts the engine as launch.json says, follows its log, ends when it ends.

Standard library only, Python 3.8: it runs with the python3 of any image, as
`python3 CONFIGS/current/launcher.py`; launch.json and the package it imports lie beside it. When `current` is
made to point elsewhere, or only made anew, it ends its engine in an orderly way, starts that of the
configuration there, and becomes the launcher that lies there where that is another one.
Exit codes: 0 stopped by request, 1 the engine ended by itself, 2 launch.json is unusable, 3 not started.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Dict, Optional

if __name__ == "__main__":  # all of one configuration, whenever the link is made anew
    sys.path[0] = os.path.realpath(sys.path[0])

from flagprov.host.launcher_engine import Engine
from flagprov.host.launcher_launch import SCHEMA_VERSION, Unusable, empty_shm, read_launch
from flagprov.host.launcher_log import say
from flagprov.host.launcher_node import ENDING, Node, Signals
from flagprov.host.launcher_processes import adopt_orphans, named
from flagprov.host.launcher_ssh import NoRunner
from flagprov.host.launcher_start import NotStarted
from flagprov.host.launcher_state import Current, State
from flagprov.host.launcher_stop import stop, sweep

STOPPED, ENDED, UNUSABLE, NOT_STARTED = 0, 1, 2, 3
RENEWED = "another configuration takes its place"


class Launcher:
    """Starts one engine, watches it, stops it; and again, when it was ended for another rank's sake."""

    def __init__(self, current: Current, run: str) -> None:
        self.current = current
        self.run = run
        self.launch = read_launch(current.directory)
        self.state = State(run)
        self.signals = Signals()
        self.again = 0  # engines of ours that were ended for another rank's sake
        self.lost = ""  # and why the last one was
        self.begin()

    def begin(self) -> None:
        """All that belongs to one engine."""
        self.node = Node(self.launch, self.run, self.signals, self.state, self.current)
        self.engine = Engine(self.node, self.current.directory, self.run)
        self.phase = ""
        self.started_at = time.time()

    def enter(self, phase: str, reason: str = "") -> None:
        """A phase begins; the host may read it."""
        self.phase = phase
        state: Dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "phase": phase,
            "reason": reason,
            "kind": self.engine.kind,
            "replica": self.launch.get("replica", ""),
            "rank": self.node.rank,
            "launcher_pid": os.getpid(),
            "engine_pid": self.engine.pid,
            "started_at": round(self.started_at, 3),
            "tail": self.node.log.lines(),
            "processes": named(self.node.ours()) if phase == "running" else [],
            "again": self.again,
            "lost": self.lost,
            "stopped": self.engine.frozen,
            "config": os.path.basename(self.current.directory),
            "current": self.current.made_ns,
        }
        ray = self.engine.ray
        if ray and ray.seen is not None:
            state["ray"] = {"nodes": ray.seen, "of": ray.nodes}
        self.state.write(state)

    def main(self) -> int:
        """Signals wake the loop; orphans of the engine come to us."""
        if not adopt_orphans():
            say("this system has no child subreaper; orphans of the engine may not be seen")
        self.signals.arm()
        while True:
            code = self.life()
            if code is not None:
                return code
            self.node.log.close()
            self.begin()

    def life(self) -> Optional[int]:
        """One engine from its start to its end; None where another rank is gone, and all are to meet anew."""
        node, peers = self.node, self.node.peers
        self.enter("starting", self.lost)
        try:
            self.engine.open(lambda text: self.enter("starting", text))
            if peers:
                before = " (before: %s)" % self.lost if self.lost else ""
                peers.meet(lambda: node.stopping, lambda text: self.enter("starting", text + before))
                self.enter("starting")  # nobody is waited for any more, though Ray may take minutes
            if not node.stopping:
                self.engine.start()
                self.enter("starting")
                self.watch()
        except (NotStarted, NoRunner, OSError) as error:
            if not (peers and peers.first(node.wait_until)):
                sweep(node)
                node.turn(0)
                return self.over(NOT_STARTED, "not started: %s" % error)
        lost = peers.first(node.wait_until) if peers and not node.stopping else ""
        if node.stopping or lost.endswith("stopped"):
            self.enter("stopping", "" if self.signals.stopping else lost or RENEWED)
            stop(node)
            node.turn(0)
            if self.signals.stopping:
                return self.over(STOPPED, "stopped by request")
            return self.gone(lost or RENEWED)
        if peers:
            peers.close()  # so that the others end now, not after our own end
            self.enter("stopping", lost)  # half a replica still answers some requests
        seconds = time.time() - self.started_at
        left = sweep(node)
        node.log.find(node.logs)
        node.turn(0)
        if lost:
            return self.gone(lost)
        how = "ended by itself after %.0f s%s" % (seconds, self.engine.end())
        if left:
            how += "; %d of its processes outlived it and were ended" % left
        return self.over(ENDED, "the engine %s; its last lines are above" % how)

    def watch(self) -> None:
        """Returns when the engine ended, another rank is gone, or a stop was asked for."""
        node = self.node
        while self.engine.alive() and not node.called_off():
            if self.phase == "starting" and self.engine.serves():
                self.engine.count()
                self.enter("running")
                if node.peers:
                    node.peers.tell("running")
            if self.phase == "running" and self.engine.look():
                self.enter("running")
            node.log.find(node.logs)
            node.turn()

    def gone(self, lost: str) -> Optional[int]:
        """Not our own failure, so no end that systemd would count; memory that is not freed ends us yet."""
        if self.node.peers:
            self.node.peers.close()
        if self.node.ours():
            return self.over(ENDED, "the engine was to end, and does not: %s" % lost)
        if self.launch.get("own_shm"):
            empty_shm()
        say("the engine was ended: %s" % lost)
        if self.current.renewed():
            return self.renew()
        self.again, self.lost = self.again + 1, lost
        return None

    def renew(self) -> Optional[int]:
        """What `current` points to now, with the launcher that lies there where it may be another one."""
        current = Current(self.current.link)
        try:
            launch = read_launch(current.directory)
        except Unusable:
            launch = {}  # by this launcher; the one beside it may know more, or says why
        stays = bool(launch.get("launcher")) and launch["launcher"] == self.launch.get("launcher")
        if not stays or current.directory == self.current.directory:  # or its own files were put right
            self.node.log.close()
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # a stop that comes now finds its handlers
            if not self.signals.stopping:
                os.execvp("python3", ["python3", os.path.join(current.link, "launcher.py")])
            return self.over(STOPPED, "stopped by request")
        self.current, self.launch, self.again, self.lost = current, launch, 0, ""
        return None

    def over(self, code: int, reason: str) -> int:
        self.enter("ended", reason)
        say(reason)
        return code


def main() -> int:
    current = Current(os.path.dirname(os.path.abspath(__file__)), sys.path[0])
    run = os.environ.get("FLAGPROV_RUN", "/run/flagprov")
    try:
        os.makedirs(run, exist_ok=True)
        launcher = Launcher(current, run)
    except (Unusable, OSError) as error:
        say(str(error))
        return UNUSABLE
    return launcher.main()


if __name__ == "__main__":
    sys.exit(main())
