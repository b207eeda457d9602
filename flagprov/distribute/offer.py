"""The controller as the source: it goes to the first host, and to any host that nobody else can serve."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from flagprov.host.transfer import frames, talk
from flagprov.host.transfer.frames import Broken, Link
from flagprov.host.transfer.pace import Pace
from flagprov.host.transfer.secure import Secure
from flagprov.host.transfer.store import SWITCH_S, Source
from flagprov.host.wire import Blocked

CONNECT_S = 3.0
RETRY_S = 0.1
GIVE_UP_S = 15.0

Dial = Callable[[], socket.socket]


class Channel(Protocol):
    """What we use of a paramiko channel."""

    def recv(self, count: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...


class Offering:
    """Sends a store's chunks to the hosts that it is told of; a thread each, in truth nearly always one."""

    def __init__(self, store: Source, tls: dict[str, str], content: str, cap: float = 0.0) -> None:
        self._store = store
        self._secure = Secure(tls)
        self._content = content
        self._pace = Pace(cap)
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.note = ""

    def start(self) -> None:
        sys.setswitchinterval(SWITCH_S)
        threading.Thread(target=self._store.hash, name="source", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._store.stop()

    def offer(self, name: str, tls_name: str, dials: Sequence[Dial]) -> None:
        """Go to that host until it has everything; nothing where we are with it already."""
        with self._lock:
            if name in self._busy or self._stopped.is_set():
                return
            self._busy.add(name)
        threading.Thread(target=self._go, args=(name, tls_name, dials), daemon=True).start()

    def _go(self, name: str, tls_name: str, dials: Sequence[Dial]) -> None:
        last = time.monotonic()
        try:
            while not self._stopped.is_set() and time.monotonic() - last < GIVE_UP_S:
                for dial in dials:
                    try:
                        link = self._connect(dial, tls_name)
                    except Broken as error:
                        self.note = f"{name}: {error}"
                        continue
                    try:
                        self._send(link)
                        return
                    except (OSError, Blocked) as error:  # of a file: what a link meets is Broken
                        self._store.useless(error)
                        last = time.monotonic()
                    except (Broken, KeyError) as error:
                        self.note = f"{name}: {error}"
                        last = time.monotonic()
                    finally:
                        link.close()
                    break
                self._stopped.wait(RETRY_S)
        finally:
            with self._lock:
                self._busy.discard(name)

    def _connect(self, dial: Dial, tls_name: str) -> Link:
        try:
            sock = dial()
        except OSError as error:
            raise Broken(str(error)) from None
        return Link(self._secure.connect(sock, tls_name, CONNECT_S), talk.PATIENCE_S, self._pace)

    def _send(self, link: Link) -> None:
        link.say(frames.HELLO, {"role": "offer", "content": self._content})
        _, length = link.hear()
        theirs = frames.unpacked(link.words(length)["have"], self._store.layout.count)
        talk.send(link, self._store, theirs, lambda: self._store.bytes)


def direct(address: str, port: int) -> Dial:
    return lambda: socket.create_connection((address, port), timeout=CONNECT_S)


def through(open_channel: Callable[[int], Channel], port: int) -> Dial:
    """Through the SSH connection, where the port cannot be reached from here."""

    def dial() -> socket.socket:
        try:
            channel = open_channel(port)
        except Exception as error:  # paramiko raises many kinds
            raise OSError(f"through SSH: {error}") from None
        here, there = socket.socketpair()
        threading.Thread(target=_pump, args=(there.recv, channel.sendall, channel), daemon=True).start()
        threading.Thread(target=_pump, args=(channel.recv, there.sendall, there), daemon=True).start()
        return here

    return dial


def _pump(read: Callable[[int], bytes], write: Callable[[bytes], None], end: Channel | socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := read(1 << 16):
            write(data)
    with contextlib.suppress(OSError, EOFError):
        end.close()
