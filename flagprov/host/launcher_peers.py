"""The ranks of one replica meet before any of them starts its engine, and end together.

The head listens, the others connect and stay connected. A line is a word: `beat` now and then, `go` when
all are there, `ray` when the head's Ray may be joined, `running` when the head serves, `leaving` before an
orderly stop. A connection that ends, or is silent for too long, is a rank that is gone; then every engine is
ended, and all ranks meet anew.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from flagprov.host.launcher_log import say

BEAT_S = 1.0
GONE_S = 15.0
RETRY_S = 1.0
TELL_S = 30.0
FIRST_S = 1.0  # the same on all ranks, so that who ended first also says so first
GREETING_S = 5.0  # what a caller gets to say who it is


class Line:
    """A connection that carries words."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.partial = b""
        self.ended = False
        self.since = self.heard = time.monotonic()

    def send(self, text: str) -> None:
        try:
            self.socket.send(text.encode() + b"\n")
        except BlockingIOError:
            pass  # it does not read; its silence will be noticed
        except OSError:
            self.ended = True

    def words(self) -> List[str]:
        """What came since the last time."""
        while not self.ended:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.ended = not data
            self.partial += data
            self.heard = time.monotonic()
            if len(self.partial) > 65536:  # nobody of us talks so much
                self.ended = True
        lines = self.partial.split(b"\n")
        self.partial = lines.pop()
        return [line.decode("utf-8", "replace") for line in lines]

    def close(self) -> None:
        self.socket.close()


class Peers:
    """One rank's connections with the others; `turn` is the launcher's loop."""

    def __init__(self, launch: Mapping[str, Any], turn: Callable[[], None]) -> None:
        peers = launch["peers"]
        self.rank = int(launch.get("rank", 0))
        self.hosts: List[str] = [str(host) for host in peers["hosts"]]
        self.place = (str(peers["address"]), int(peers["port"]))
        self.token = str(peers["token"])
        self.gone_s = float(peers.get("gone_s", GONE_S))
        self.turn = turn
        self.listener: Optional[socket.socket] = None
        self.callers: List[Line] = []  # not introduced yet
        self.lines: Dict[int, Line] = {}  # rank -> its connection; the head's only, on the others
        self.met = False
        self.serving = False  # the head says so
        self.spans = False  # its Ray is there, and may be joined
        self.lost = ""  # why this replica cannot go on
        self.beat_at = 0.0
        self.said: List[str] = []

    def name(self, rank: int) -> str:
        return "rank %d on %s" % (rank, self.hosts[rank])

    def missing(self) -> List[str]:
        if self.rank:
            return [] if self.met else [self.name(0)] if 0 not in self.lines else ["the others"]
        if not self.listener:
            return ["its own address %s" % self.place[0]]
        return [self.name(rank) for rank in range(1, len(self.hosts)) if rank not in self.lines]

    # Meeting

    def meet(self, stopping: Callable[[], bool], waiting: Callable[[str], None]) -> None:
        """Returns when all ranks are there, or a stop was asked for. It waits as long as it takes:
        nothing is held meanwhile, and a host that was away for hours comes back to a whole replica."""
        told_at = tried_at = 0.0
        while not self.met and not stopping():
            now = time.monotonic()
            if not self.rank and not self.listener and now - tried_at >= RETRY_S:
                tried_at = now
                self.listen()
            if self.rank and 0 not in self.lines and now - tried_at >= RETRY_S:
                tried_at = now
                self.call()
            if now - told_at >= TELL_S:
                told_at = now
                say("waiting for %s" % " and ".join(self.missing()))
                waiting("waiting for %s" % " and ".join(self.missing()))
            self.turn()
            if not self.met:
                self.lost = ""  # of what was never there
        if self.met:
            say("all %d ranks are there" % len(self.hosts))

    def listen(self) -> None:
        family = socket.AF_INET6 if ":" in self.place[0] else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(self.place)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL:
                return  # a network that is not up yet, after a boot
            raise OSError("%s port %d cannot be listened on: %s" % (*self.place, error)) from None
        listener.listen(16)
        listener.setblocking(False)
        self.listener = listener

    def call(self) -> None:
        try:
            line = Line(socket.create_connection(self.place, timeout=RETRY_S))
        except OSError:
            return
        line.send(json.dumps({"rank": self.rank, "token": self.token}))
        self.lines[0] = line

    # The launcher's loop

    def waitable(self) -> List[int]:
        lines = [*self.callers, *self.lines.values()]
        found = [line.socket.fileno() for line in lines if not line.ended]
        return found + ([self.listener.fileno()] if self.listener else [])

    def pump(self) -> None:
        """Take what came, say that we live, notice who does not."""
        self.accept()
        for caller in list(self.callers):
            self.introduce(caller)
        now = time.monotonic()
        for rank, line in list(self.lines.items()):
            for word in line.words():
                self.take(rank, word)
            if line.ended or now - line.heard > self.gone_s:
                self.drop(rank, "ended" if line.ended else "is silent for %.0f s" % self.gone_s)
        if not self.rank and not self.met and len(self.lines) == len(self.hosts) - 1:
            self.met = True
            self.tell("go")
        if now - self.beat_at >= BEAT_S:
            self.beat_at = now
            self.tell("beat")

    def accept(self) -> None:
        while self.listener:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.callers.append(Line(connection))

    def introduce(self, caller: Line) -> None:
        """A caller becomes a rank by its first line."""
        words = caller.words()
        if words:
            self.callers.remove(caller)
            rank = self.who(words[0])
            if rank is None:
                caller.send("refused")
                caller.close()
            elif self.met:
                # Its launcher is a new one, so the one that we knew is gone.
                caller.close()
                self.lost = "%s started anew" % self.name(rank)
            else:
                if rank in self.lines:
                    self.lines[rank].close()
                self.lines[rank] = caller
        elif caller.ended or time.monotonic() - caller.since > GREETING_S:
            self.callers.remove(caller)
            caller.close()

    def who(self, text: str) -> Optional[int]:
        """The rank that says so, of this replica with this very configuration."""
        try:
            said = json.loads(text)
            rank = int(said["rank"])
        except (ValueError, KeyError, TypeError):
            return None
        if said.get("token") != self.token or not 0 < rank < len(self.hosts):
            self.say_once("somebody with another configuration asks to be rank %d; refused" % rank)
            return None
        return rank

    def take(self, rank: int, word: str) -> None:
        if word == "go":
            self.met = True
        elif word == "ray":
            self.spans = True
        elif word == "running":
            self.serving = True
        elif word == "leaving":
            self.lost = "%s is being stopped" % self.name(rank)
        elif word == "refused" and not self.met:
            self.say_once("%s has another configuration" % self.name(rank))

    def say_once(self, text: str) -> None:
        if text not in self.said:
            self.said.append(text)
            say(text)

    def drop(self, rank: int, why: str) -> None:
        self.lines.pop(rank).close()
        if self.met and not self.lost:
            self.lost = "%s %s" % (self.name(rank), why)

    def tell(self, word: str) -> None:
        for line in self.lines.values():
            line.send(word)

    # The end

    def first(self, wait: Callable[[Callable[[], bool], float], bool]) -> str:
        """Which rank was lost, empty where our own engine ended before any. One that ended only because
        of another hears of that one here, and is no failure of its own."""
        wait(lambda: bool(self.lost), FIRST_S)
        return self.lost

    def leave(self, wait: Callable[[Callable[[], bool], float], bool], seconds: float) -> None:
        """Before an orderly stop: the head drains first, the others wait for it."""
        self.tell("leaving")
        if self.rank and self.met:
            wait(lambda: 0 not in self.lines, seconds)

    def close(self) -> None:
        """The others notice at once."""
        for line in [*self.callers, *self.lines.values()]:
            line.close()
        if self.listener:
            self.listener.close()
        self.callers, self.lines, self.listener = [], {}, None


def peers_of(launch: Mapping[str, Any], turn: Callable[[], None]) -> Optional[Peers]:
    return Peers(launch, turn) if launch.get("peers") else None
