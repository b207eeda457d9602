"""One change at a time: who holds this host, judged by the host's own clock."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time

from flagprov.host.files import read_json, replace
from flagprov.host.machine import read
from flagprov.host.wire import Blocked, Newer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Any

STATE = "/var/lib/flagprov"
SCHEMA_VERSION = 1


def _path() -> str:
    return os.path.join(STATE, "lease.json")


def _boot() -> str:
    return read("/proc/sys/kernel/random/boot_id").strip()


def current() -> dict[str, Any] | None:
    """The lease that holds now; a reboot or a heartbeat that stayed away ends it."""
    lease = read_json(_path())
    if not lease:
        return None
    if lease.get("schema_version", 0) > SCHEMA_VERSION:
        raise Newer("lease", "a newer flagprov holds this host", "update flagprov on this controller")
    left = lease["beat"] + lease["ttl_s"] - time.monotonic()
    if lease["boot_id"] != _boot() or left <= 0:
        return None
    return dict(lease, left_s=round(left, 1))


class Exclusive:
    """Short: makes look-then-write of the lease file one thing."""

    def __enter__(self) -> None:
        os.makedirs(STATE, exist_ok=True)
        self._stream: IO[str] = open(os.path.join(STATE, "lease.lock"), "a")
        fcntl.flock(self._stream, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def take(wish: dict[str, Any]) -> dict[str, Any]:
    """Take or renew; refused while somebody else holds it."""
    with Exclusive():
        held = current()
        if held and held["token"] != wish["token"]:
            raise Blocked(
                "lease",
                "held by %s since %s: %s (runs out in %d s unless it is renewed)"
                % (held["holder"], held["since"], held["command"], held["left_s"]),
                "wait for it; `flagprov lock show` lists such leases, `flagprov lock break` ends them",
            )
        lease = dict(wish, schema_version=SCHEMA_VERSION, beat=time.monotonic(), boot_id=_boot())
        replace(_path(), json.dumps(lease).encode(), 0o600)
    return {}


def renew(lease: dict[str, Any]) -> dict[str, Any]:
    """Of a lease that was taken here; nothing where this very run has taken flagprov away from the host."""
    return take(lease) if os.path.isdir(STATE) else {}


def release(token: str | None) -> dict[str, Any]:
    """Give it back; None breaks whatever is held."""
    if not os.path.exists(_path()):
        return {"was": None}
    with Exclusive():
        held = current()
        if held and token in (None, held["token"]):
            os.unlink(_path())
    return {"was": held}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The lease operations of the wire."""
    what = request["do"]
    if what == "take":
        return take(request["lease"])
    if what == "renew":
        return renew(request["lease"])
    if what == "release":
        return release(request["token"])
    if what == "break":
        return release(None)
    return {"lease": current()}


class Beating:
    """Renews a lease while this program works; when the program dies, so does the lease."""

    def __init__(self, lease: dict[str, Any] | None) -> None:
        self._lease = lease
        self._over = threading.Event()

    def __enter__(self) -> None:
        if self._lease:
            take(self._lease)
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        assert self._lease
        while not self._over.wait(self._lease["ttl_s"] / 3.0):
            try:
                renew(self._lease)
            except Blocked:
                return  # broken by hand: the work in hand goes on, the next step is refused

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._lease:
            self._thread.join()  # a late heartbeat would bring back a lease that was given back meanwhile
