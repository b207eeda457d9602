"""One host of a transfer: pulls from the nearest node before it, serves those behind it."""

from __future__ import annotations

import socket
import threading
import time

from flagprov.host.transfer import frames, talk
from flagprov.host.transfer.frames import Broken, Link
from flagprov.host.transfer.pace import Pace
from flagprov.host.transfer.secure import CONTROLLER, Secure
from flagprov.host.transfer.store import Incoming, Source, disk_trouble
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flagprov.host.transfer.store import Store

CONNECT_S = 2.0
PROBE_S = 0.7
GRACE_S = 6.0  # the others may start later than we do: the nearest one is asked again
REST_S = 5.0  # a node that failed is left alone for so long


class Node:
    """Serves a store; fills it too where it is incoming."""

    def __init__(self, spec: dict[str, Any], store: Store) -> None:
        self.spec = spec
        self.store = store
        self.secure = Secure(spec["tls"])
        self.pace = Pace(float(spec.get("cap") or 0))
        self.peers: list[dict[str, Any]] = list(spec["peers"])
        self.note = ""  # why we cannot get on, for people
        self.sender = ""  # whom we pull from
        self.theirs = 0  # what the one before us has
        self.serving = 0
        self.offered = 0
        self.orphan = False  # nobody before us answers
        self.damaged = 0
        self.broken: Blocked | None = None
        self.last_served = time.monotonic()
        self._begun = time.monotonic()
        self._rest: dict[str, float] = {}
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        self._listen()
        if isinstance(self.store, Incoming):
            threading.Thread(target=self._pull, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._listener is not None:
            self._listener.close()

    # Serving

    def _listen(self) -> None:
        """A node that cannot listen still receives; the ones behind it go around it."""
        try:
            family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
            address = "::" if family == socket.AF_INET6 else "0.0.0.0"
            self._listener = socket.create_server(
                (address, self.spec["port"]), family=family, dualstack_ipv6=family == socket.AF_INET6
            )
        except OSError as error:
            self.note = "port %d: %s" % (self.spec["port"], error.strerror or error)
            return
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        try:
            secured, name = self.secure.accept(sock, talk.PATIENCE_S)
        except (Broken, OSError):
            return
        link = Link(secured, talk.PATIENCE_S, self.pace)
        try:
            kind, length = link.hear()
            hello = link.words(length)
            if kind != frames.HELLO or hello.get("content") != self.spec["content"]:
                raise Broken("another transfer")
            if hello.get("role") == "offer":
                if name == CONTROLLER and isinstance(self.store, Incoming):
                    self._take(link, self.store)
            else:
                self._serve(link, frames.unpacked(hello["have"], self.store.layout.count))
        except Blocked as problem:
            self._break(problem)
        except OSError as error:  # of a file: what a link meets is Broken
            self._break(disk_trouble(error, self.store.folder))
        except (Broken, talk.Behind, KeyError, TypeError, ValueError):
            pass
        finally:
            link.close()

    def _serve(self, link: Link, theirs: bytearray) -> None:
        with self._lock:
            self.serving += 1
        try:
            talk.send(link, self.store, theirs, lambda: self.theirs)
        finally:
            with self._lock:
                self.serving -= 1
                self.last_served = time.monotonic()

    def _take(self, link: Link, store: Incoming) -> None:
        """The controller is the source and has come to us."""
        with self._lock:
            self.offered += 1
            self.orphan = False
        try:
            link.sock.settimeout(talk.SILENCE_S)
            link.say(frames.HELLO, self._greeting(store))
            self.sender = "the controller"
            self._receive(link, store, may_go_around=False)
        finally:
            with self._lock:
                self.offered -= 1

    # Pulling

    def _greeting(self, store: Incoming) -> dict[str, Any]:
        return {"role": "pull", "content": self.spec["content"], "have": frames.packed(store.have)}

    def _receive(self, link: Link, store: Incoming, may_go_around: bool) -> None:
        receiver = talk.Receiver(store, self._heard)
        try:
            receiver.run(link, may_go_around)
        finally:
            self.damaged += receiver.damaged

    def _heard(self, theirs: int) -> None:
        self.theirs = theirs

    def _pull(self) -> None:
        store = self.store
        assert isinstance(store, Incoming)
        try:
            while not (store.full or store.fault or self._stopped.is_set()):
                if self.offered or not any(self._pull_from(peer, store) for peer in self._candidates()):
                    self._stopped.wait(0.1)
        except Blocked as problem:
            self._break(problem)

    def _candidates(self) -> list[dict[str, Any]]:
        """Nearest first; at the beginning only the nearest, which may not be up yet."""
        now = time.monotonic()
        if self.peers and now - self._begun < GRACE_S and not self._rest:
            return self.peers[:1]
        able = [peer for peer in self.peers if self._rest.get(peer["name"], 0.0) <= now]
        if not able and not self.offered:
            self.orphan = True
        return able

    def _pull_from(self, peer: dict[str, Any], store: Incoming) -> bool:
        """True where this brought anything, so that the nearest is asked first again."""
        before = store.bytes
        while self._pull_once(peer, store, CONNECT_S if store.bytes == before else PROBE_S):
            continue  # it was silent, or hung up: it may be there all the same
        return store.bytes > before

    def _pull_once(self, peer: dict[str, Any], store: Incoming, patience: float) -> bool:
        """True where it brought something and broke off: worth another try."""
        begun_with = store.bytes
        try:
            link = self._connect(peer, patience)
        except Broken as error:
            early = time.monotonic() - self._begun < GRACE_S and peer is self.peers[0] and not self._rest
            if not early:
                self._leave(peer, str(error))
            return False
        self.sender, self.orphan = peer["name"], False
        try:
            link.say(frames.HELLO, self._greeting(store))
            self._receive(link, store, may_go_around=peer is not self.peers[-1])
        except talk.Behind:
            self._leave(peer, "slow", 60.0)
        except Broken as error:
            if store.bytes > begun_with:
                return True
            self._leave(peer, str(error))
        finally:
            link.close()
        return False

    def _leave(self, peer: dict[str, Any], why: str, rest: float = REST_S) -> None:
        self.note = "%s: %s" % (peer["name"], why)
        self._rest[peer["name"]] = time.monotonic() + rest

    def _connect(self, peer: dict[str, Any], patience: float) -> Link:
        problem = "it has no address"
        for address in peer["addresses"]:
            try:
                sock = socket.create_connection((address, peer["port"]), timeout=patience)
            except OSError as error:
                problem = "%s port %d: %s" % (address, peer["port"], error.strerror or error)
                continue
            return Link(self.secure.connect(sock, peer["tls_name"], CONNECT_S * 2), talk.SILENCE_S)
        raise Broken(problem)

    def _break(self, problem: Blocked) -> None:
        """A source's fault is everybody's; what is wrong with our own disk is not: others go around us."""
        self.broken = self.broken or problem
        if isinstance(self.store, Source):
            self.store.useless(problem)
