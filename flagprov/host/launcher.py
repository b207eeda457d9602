"""PID 1 of a serving container: starts the engine as launch.json says, follows its log, ends when it ends.

Standard library only, Python 3.8: it runs with the python3 of any image, as
`python3 /var/lib/flagprov/configs/HASH/launcher.py`; launch.json and the package it imports lie beside it.
Exit codes: 0 stopped by request, 1 the engine ended by itself, 2 launch.json is unusable, 3 not started.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from flagprov.host.launcher_launch import SCHEMA_VERSION, Unusable, empty_shm, read_launch
from flagprov.host.launcher_log import Log, say
from flagprov.host.launcher_peers import peers_of
from flagprov.host.launcher_processes import (
    adopt_orphans,
    children_of,
    command_line,
    descendants,
    is_front,
    name_of,
    named,
    processes,
    send,
    still_there,
    stopped,
    workers,
)
from flagprov.host.launcher_ray import DAEMONS, Ray, count, join, look, span
from flagprov.host.launcher_ssh import OPEN_S, NoRunner, Runner
from flagprov.host.launcher_start import (
    NotStarted,
    describe,
    engine_environment,
    engine_of_flagscale,
    fresh_directory,
    in_flight,
    listens,
    spawn,
)
from flagprov.host.launcher_state import State

STOPPED, ENDED, UNUSABLE, NOT_STARTED = 0, 1, 2, 3
TURN_S = 0.5  # longest sleep; child and signal wake the loop earlier
LOOK_S = 5.0  # between two looks at what does not wake the loop
SETTLE_S = 5.0  # what the engine's other processes get to end by themselves


class Launcher:
    """Starts one engine, watches it, stops it; and again, when it was ended for another rank's sake."""

    def __init__(self, directory: str, run: str) -> None:
        self.directory = directory
        self.run = run
        self.exp = os.path.join(run, "exp")
        self.logs = os.path.join(self.exp, "serve_logs")
        self.launch = read_launch(directory)
        self.address = str(self.launch.get("address", "127.0.0.1"))  # where the engine listens
        self.state = State(run)
        self.stopping = False
        self.wake_read, self.wake_write = os.pipe()
        self.rank = int(self.launch.get("rank", 0))
        self.again = 0  # engines of ours that were ended for another rank's sake
        self.lost = ""  # and why the last one was
        self.begin()

    def begin(self) -> None:
        """All that belongs to one engine."""
        self.log = Log()
        self.children: List[subprocess.Popen[bytes]] = []
        self.ended: Dict[int, int] = {}  # our children that were reaped -> wait status
        self.engine: Optional[int] = None
        self.phase = ""
        self.started_at = time.time()
        self.asked_port_at = self.looked_at = 0.0
        self.frozen: List[str] = []  # processes of the engine that somebody has stopped
        self.peers = peers_of(self.launch, self.turn)  # the other ranks; None on one host
        self.workers: List[int] = []  # of the engine, on a rank of several; none of them may end
        self.ray = Ray(self.launch["ray"], self.exp) if self.launch.get("ray") else None
        self.daemon: Optional[int] = None  # sshd, where FlagScale comes in by it
        self.env: Dict[str, str] = {}
        self.output = ""

    # What others may know

    def enter(self, phase: str, reason: str = "") -> None:
        self.phase = phase
        state: Dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "phase": phase,
            "reason": reason,
            "kind": self.launch["kind"],
            "replica": self.launch.get("replica", ""),
            "rank": self.launch.get("rank", 0),
            "launcher_pid": os.getpid(),
            "engine_pid": self.engine,
            "started_at": round(self.started_at, 3),
            "tail": self.log.lines(),
            "processes": named(self.ours()) if phase == "running" else [],
            "again": self.again,
            "lost": self.lost,
            "stopped": self.frozen,
        }
        if self.ray and self.ray.seen is not None:
            state["ray"] = {"nodes": self.ray.seen, "of": self.ray.nodes}
        self.state.write(state)

    # The loop

    def arm(self) -> None:
        """Signals wake the loop; orphans of the engine come to us."""
        if not adopt_orphans():
            say("this system has no child subreaper; orphans of the engine may not be seen")
        for end in (self.wake_read, self.wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.ask_to_stop)

    def ask_to_stop(self, *_: object) -> None:
        self.stopping = True

    def turn(self, longest: float = TURN_S) -> None:
        """Sleep until something happens, then take what there is."""
        waitable = [self.wake_read, *self.log.waitable(), *(self.peers.waitable() if self.peers else ())]
        readable = select.select(waitable, [], [], longest)[0]
        if self.wake_read in readable:
            try:
                os.read(self.wake_read, 4096)
            except OSError:
                pass
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

    # Start

    def prepare(self) -> Dict[str, str]:
        """A fresh experiment directory, and the environment of everything that we start."""
        fresh_directory(self.exp)
        return engine_environment(self.launch, self.directory, self.run)

    def start(self) -> None:
        """Leaves self.engine set, or raises NotStarted."""
        if self.ray and self.rank:
            self.engine = join(self, self.ray)
            return
        if self.ray and self.launch["kind"] == "ray":
            self.workers.append(span(self, self.ray))
        if self.stopping or (self.peers and self.peers.lost):
            return
        if self.launch["kind"] == "flagscale":
            self.start_flagscale(self.env, self.output)
        else:
            self.engine = self.spawn([str(word) for word in self.launch["argv"]], self.env, self.output)

    def open(self) -> None:
        """All that is made before the ranks meet: a fresh directory, the log, the runner's port."""
        self.env = self.prepare()
        self.output = os.path.join(self.logs, "host_0_localhost.output")
        # FlagScale appends the engine's output to this file for ever; a FIFO costs no disk and wakes us.
        os.mkfifo(self.output, 0o600)
        self.log.add(self.output)
        if self.ray:
            self.ray.write(self.env)
        if self.launch.get("ssh"):
            runner = Runner(self.launch, self.run)
            runner.prepare(self.env)
            if self.rank:
                daemon = spawn({}, runner.daemon(), self.env, self.exp, self.output)
                self.children.append(daemon)
                self.daemon = daemon.pid
                self.wait_until(lambda: runner.is_open() or daemon.pid in self.ended, OPEN_S)

    def start_flagscale(self, env: Mapping[str, str], output: str) -> None:
        config = os.path.join(self.directory, self.launch["flagscale"]["config"])
        front = self.spawn(["flagscale", "serve", self.launch["flagscale"]["label"], config], env, output)
        while front not in self.ended:
            self.turn()
            if self.stopping:
                return
        # FlagScale returns 0 for nearly everything, so its pid file is what counts.
        pid = engine_of_flagscale(self.exp)
        if pid is None:
            how = describe(self.ended[front])
            raise NotStarted(
                "flagscale serve came back (%s) and left no engine; its own lines are above" % how
            )
        self.engine = pid

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], output: str) -> int:
        """Run argv in a shell after the vendor's and the card's lines; its pid."""
        child = spawn(self.launch, argv, env, self.exp, output)
        self.children.append(child)  # a forgotten Popen reaps its child by itself, and we would never know
        return child.pid

    # Watch

    def alive(self) -> bool:
        if self.engine is None or self.engine in self.ended or not os.path.exists("/proc/%d" % self.engine):
            return False
        # FlagScale's shell ends with a `sync` of all file systems, which may take minutes.
        if [name_of(pid) for pid in children_of(self.engine)] == ["sync"]:
            return False
        return still_there(self.workers)

    def watch(self) -> None:
        """Returns when the engine ended, another rank is gone, or a stop was asked for."""
        while self.alive() and not self.stopping and not (self.peers and self.peers.lost):
            if self.phase == "starting" and self.serves():
                if self.ray and not self.rank and self.launch["kind"] == "flagscale":
                    count(self, self.ray)  # its script goes on whatever becomes of Ray
                self.enter("running")
                if self.peers:
                    self.peers.tell("running")
                    self.workers += workers(self.ours())
                if self.ray:
                    self.workers += [pid for pid in self.ours() if name_of(pid) in DAEMONS]
            if self.phase == "running":
                self.look()
            self.log.find(self.logs)
            self.turn()

    def look(self) -> None:
        """What nobody tells us: processes that were stopped, and how many nodes Ray still has."""
        before = (self.frozen, self.ray.seen if self.ray else None)
        if self.ray and not self.rank:
            look(self, self.ray)
        if time.monotonic() - self.looked_at >= LOOK_S:
            self.looked_at = time.monotonic()
            self.frozen = stopped(self.ours())
        if before != (self.frozen, self.ray.seen if self.ray else None):
            self.enter("running")

    def serves(self) -> bool:
        """A rank beside the head has no port; it serves when the head does."""
        if self.peers and self.peers.rank:
            return self.peers.serving
        return self.log.ready or self.listens()

    def listens(self) -> bool:
        """Whether the port answers; for engines which are told not to log that they are up."""
        port = self.launch.get("port")
        if not port or self.launch.get("rank", 0) or time.monotonic() - self.asked_port_at < 2:
            return False
        self.asked_port_at = time.monotonic()
        return listens(self.address, int(port))

    # Stop

    def ours(self) -> List[int]:
        return descendants(os.getpid(), processes())

    def front(self) -> List[int]:
        """The process that answers HTTP; all that we started where it cannot be told."""
        ours = self.ours()
        return [pid for pid in ours if is_front(command_line(pid))][:1] or ours

    def stop(self) -> None:
        grace = float(self.launch.get("stop_grace_s", 60))
        deadline = time.monotonic() + grace
        self.enter("stopping")
        if self.peers:
            self.peers.leave(self.wait_until, grace * 0.9)
        if self.launch.get("drain") == "outside":
            self.drain(grace)
        front = self.front()
        send(front, signal.SIGTERM)
        self.wait_until(lambda: not set(front) & set(self.ours()), max(1.0, deadline - time.monotonic()))
        self.sweep()

    def drain(self, seconds: float) -> None:
        """For engines which drop their requests at SIGTERM: wait until none is left."""
        port = int(self.launch.get("port", 0))
        asked = in_flight(self.address, port)
        if asked:
            say("waiting for %d requests" % asked)
        deadline = time.monotonic() + seconds
        while asked and time.monotonic() < deadline:
            self.turn(0.5)
            asked = in_flight(self.address, port)

    def sweep(self) -> int:
        """End what is left of the engine; the number of processes which had to be ended."""
        settle = float(self.launch.get("settle_s", SETTLE_S))
        if self.wait_until(lambda: not self.ours(), settle):
            return 0
        left = self.ours()
        send(left, signal.SIGTERM)
        if not self.wait_until(lambda: not self.ours(), settle):
            send(self.ours(), signal.SIGKILL)
            self.wait_until(lambda: not self.ours(), SETTLE_S)
        return len(left)

    # All of it

    def main(self) -> int:
        self.arm()
        while True:
            code = self.life()
            if code is not None:
                return code
            self.log.close()
            self.begin()

    def life(self) -> Optional[int]:
        """One engine from its start to its end; None where another rank is gone, and all are to meet anew."""
        self.enter("starting", self.lost)
        try:
            self.open()
            if self.peers:
                before = " (before: %s)" % self.lost if self.lost else ""
                self.peers.meet(lambda: self.stopping, lambda text: self.enter("starting", text + before))
                self.enter("starting")  # nobody is waited for any more, though Ray may take minutes
            if not self.stopping:
                self.start()
                self.enter("starting")
                self.watch()
        except (NotStarted, NoRunner, OSError) as error:
            if not (self.peers and self.peers.first(self.wait_until)):
                self.sweep()
                self.turn(0)
                return self.over(NOT_STARTED, "not started: %s" % error)
        lost = self.peers.first(self.wait_until) if self.peers and not self.stopping else ""
        if self.stopping or lost.endswith("stopped"):
            self.stop()
            self.turn(0)
            return self.over(STOPPED, "stopped by request") if self.stopping else self.gone(lost)
        if self.peers:
            self.peers.close()  # so that the others end now, not after our own end
            self.enter("stopping", lost)  # half a replica still answers some requests
        seconds = time.time() - self.started_at
        left = self.sweep()
        self.log.find(self.logs)
        self.turn(0)
        if lost:
            return self.gone(lost)
        how = "ended by itself after %.0f s" % seconds
        if self.engine in self.ended and self.launch["kind"] != "flagscale":
            how += " (%s)" % describe(self.ended[self.engine])
        if left:
            how += "; %d of its processes outlived it and were ended" % left
        return self.over(ENDED, "the engine %s; its last lines are above" % how)

    def gone(self, lost: str) -> Optional[int]:
        """Not our own failure, so no end that systemd would count; memory that is not freed ends us yet."""
        if self.peers:
            self.peers.close()
        if self.ours():
            return self.over(ENDED, "the engine was to end, and does not: %s" % lost)
        if self.launch.get("own_shm"):
            empty_shm()
        self.again, self.lost = self.again + 1, lost
        say("the engine was ended: %s" % lost)
        return None

    def over(self, code: int, reason: str) -> int:
        self.enter("ended", reason)
        say(reason)
        return code


def main() -> int:
    directory = os.path.dirname(os.path.abspath(__file__))
    run = os.environ.get("FLAGPROV_RUN", "/run/flagprov")
    try:
        os.makedirs(run, exist_ok=True)
        launcher = Launcher(directory, run)
    except (Unusable, OSError) as error:
        say(str(error))
        return UNUSABLE
    return launcher.main()


if __name__ == "__main__":
    sys.exit(main())
