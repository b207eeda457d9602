"""One content to many hosts: a node on each as a job, the source here or on one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flagprov.apply.converge import host_event
from flagprov.distribute.certificates import CONTROLLER, tls_name
from flagprov.distribute.chain import Member, before, ordered
from flagprov.distribute.content import Content, Here, There
from flagprov.distribute.disk import on_disk
from flagprov.distribute.offer import Dial, Offering, direct, through
from flagprov.distribute.run import Run, open_run
from flagprov.distribute.watch import Watch
from flagprov.errors import FlagprovError, HostError
from flagprov.host.transfer.layout import Layout
from flagprov.host.transfer.store import Source
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.site import Site
from flagprov.transport import Connections, Session

OnEvent = Callable[[Event], None]
WAKES = 3  # times that a source on a host is started again
AHEAD = 64  # chunks that the controller hashes before they are sent

__all__ = ["Here", "Target", "There", "Transfer"]


@dataclass(frozen=True, slots=True)
class Target:
    """A host that lacks the content, and where it wants it."""

    host: Host
    path: str
    addresses: tuple[str, ...] = ()


@dataclass(slots=True)
class Transfer:
    """One fan-out. `run` returns each host's result or error; a dead host never hides the others."""

    connections: Connections
    site: Site
    content: Content
    source: Here | There
    targets: Sequence[Target]
    on_event: OnEvent
    lease: Mapping[str, Any] | None = None  # of the run, renewed meanwhile on the hosts that it holds
    cap: float = 0.0  # bytes per second that each node sends at most
    stage: str = "weights"  # of the events
    patience: float = 0.0  # seconds to wait for another one that writes to the same place
    _far: dict[str, tuple[int, float]] = field(default_factory=dict)  # host -> bytes, rate
    _lost: set[str] = field(default_factory=set)
    _waking: threading.Semaphore = field(default_factory=threading.Semaphore)
    _wakes: int = WAKES
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> dict[str, dict[str, Any] | HostError]:
        try:
            with on_disk(self.site.root / "transfers"):
                return self._run()
        except FlagprovError as error:  # of this controller: nobody gets anything from it
            gives = isinstance(self.source, There) and not self.source.place
            names = [host.name for host in self._hosts()[1 if gives else 0 :]]
            return {name: HostError(name, self.stage, error.message, remedy=error.remedy) for name in names}

    def _run(self) -> dict[str, dict[str, Any] | HostError]:
        hosts = {target.host.name: target.host for target in self.targets}
        with open_run(self.site, self.content.id, tuple(self._members())) as run:
            source, rest = [], list(hosts.values())
            if isinstance(self.source, There):
                source = [self.source.host]
            offering = self._offering(run)
            watch = Watch([host.name for host in (*source, *rest)])
            try:
                if offering:
                    offering.start()
                    if not run.joined:
                        self._offer(offering, run, next(m.name for m in run.chain if m.name in hosts))
                with watch.running():
                    found = self.connections.each(
                        [*source, *rest], lambda session: self._ask(session, run, offering, watch)
                    )
            finally:
                if offering:
                    offering.stop()
            self._release(run, [*source, *rest], found)
            if isinstance(self.source, There) and not self.source.place:
                del found[self.source.host.name]  # it only gives
            run.finish(keep=any(isinstance(answer, HostError) for answer in found.values()))
        return found

    def _members(self) -> list[Member]:
        first = self.source.host if isinstance(self.source, There) else None
        listed = [*([Target(first, "")] if first else []), *self.targets]
        members = [Member(target.host.name, _addresses(target), target.host.site or "") for target in listed]
        return list(ordered(members, (first.site or "") if first else members[0].site))

    def _offering(self, run: Run) -> Offering | None:
        if not isinstance(self.source, Here):
            return None
        layout = Layout(list(self.content.files), self.content.chunk)
        store = Source(str(self.source.path), layout, AHEAD, host="the controller")
        tls = run.authority.issue(CONTROLLER, [])
        caps = [self.cap or _cap(target.host) for target in self.targets]
        return Offering(store, tls, self.content.id, max(caps) if all(caps) else 0.0)

    def _offer(self, offering: Offering, run: Run, name: str) -> None:
        member = next(member for member in run.chain if member.name == name)
        dials: list[Dial] = [direct(address, run.port) for address in member.addresses]
        host = next(target.host for target in self.targets if target.host.name == name)
        dials.append(through(lambda port: self.connections.session(host).tunnel(port), run.port))
        offering.offer(name, tls_name(name), dials)

    def _ask(self, session: Session, run: Run, offering: Offering | None, watch: Watch) -> dict[str, Any]:
        name = session.host.name
        spec = self._spec(name, run)
        begun = time.monotonic()
        self.on_event(self._event(name, "started", "the source" if spec["source"] else ""))

        def on_event(message: Mapping[str, Any]) -> None:
            data = message.get("data") or {}
            if data.get("orphan"):
                if offering:
                    self._offer(offering, run, name)
                else:
                    self._wake_source(run)
            if not spec["source"]:
                self._heard(name, data)
            if "total" in data:
                watch.heard(name, int(data["bytes"]), int(data["total"]))
            event = host_event(name, {**message, "stage": self.stage, "step": _step(self.content.id)})
            self.on_event(event)

        try:
            with watch.host(session):
                answer = session.ask({"op": "transfer", "spec": spec, "lease": self.lease}, on_event)
        except HostError as error:
            error = watch.explained(error)
            if not spec["source"]:
                self._missed(name)
            self.on_event(self._event(name, "failed", error.message))
            raise error from None
        if not spec["source"]:
            self._heard(name, {"bytes": self.content.total, "rate": 0})
        seconds = {"seconds": round(time.monotonic() - begun, 3)}
        self.on_event(self._event(name, "done", "", seconds))
        return {**answer, **seconds}

    def _wake_source(self, run: Run) -> None:
        """Its node was killed, or has ended while somebody was slow: the others go on from where they are."""
        assert isinstance(self.source, There)
        host = self.source.host

        def wake() -> None:
            spec = self._spec(host.name, run)
            try:
                self.connections.session(host).ask({"op": "transfer", "spec": spec, "lease": self.lease})
            except HostError:
                pass  # the ones that lack something say so
            finally:
                self._waking.release()

        if self._wakes and self._waking.acquire(blocking=False):
            self._wakes -= 1
            threading.Thread(target=wake, daemon=True).start()

    def _spec(self, name: str, run: Run) -> dict[str, Any]:
        source = isinstance(self.source, There) and self.source.host.name == name
        path = self.source.path if source and isinstance(self.source, There) else ""
        member = next(member for member in run.chain if member.name == name)
        return {
            "job": run.job,
            "host": name,
            "content": self.content.id,
            "path": path or next(target.path for target in self.targets if target.host.name == name),
            "source": source,
            "place": self.source.place if source and isinstance(self.source, There) else "",
            "files": [list(entry) for entry in self.content.files],
            "chunk": self.content.chunk,
            "origin": dict(self.content.origin),
            "port": run.port,
            "peers": [
                {
                    "name": peer.name,
                    "tls_name": tls_name(peer.name),
                    "addresses": list(peer.addresses),
                    "port": run.port,
                }
                for peer in before(run.chain, name)
            ],
            "tls": run.identity(member),
            "patience_s": self.patience,
            "cap": self.cap or _cap(next(h for h in self._hosts() if h.name == name)),
        }

    def _hosts(self) -> list[Host]:
        first = [self.source.host] if isinstance(self.source, There) else []
        return [*first, *(target.host for target in self.targets)]

    def _heard(self, name: str, data: Mapping[str, Any]) -> None:
        """The whole in bytes, rate and time left, beside what each host says of itself."""
        if "bytes" in data:
            with self._lock:
                self._far[name] = (int(data["bytes"]), float(data.get("rate") or 0))
            self._say_whole()

    def _missed(self, name: str) -> None:
        """Nobody waits for what this host has not got."""
        with self._lock:
            self._far.pop(name, None)
            self._lost.add(name)
        self._say_whole()

    def _say_whole(self) -> None:
        with self._lock:
            hosts = len(self.targets) - len(self._lost)
            total = self.content.total * hosts
            have = sum(far[0] for far in self._far.values())
            rate = sum(far[1] for far in self._far.values())
        left = round((total - have) / rate, 1) if rate else None
        where = f"{hosts} host{'s' if hosts != 1 else ''}"
        text = f"{have >> 20} of {total >> 20} MiB on {where}, {rate / (1 << 20):.0f} MiB/s"
        if left:
            text += f", {left:.0f} s left"
        whole = {"bytes": have, "total": total, "rate": round(rate), "eta": left}
        self.on_event(self._event("", "progress" if have < total else "done", text, whole))

    def _event(self, host: str, kind: Any, text: str, data: Mapping[str, Any] | None = None) -> Event:
        step = _step(self.content.id)
        return Event(time.time(), host, kind, self.stage, step, text, data=dict(data or {}))

    def _release(
        self, run: Run, hosts: Sequence[Host], found: Mapping[str, dict[str, Any] | HostError]
    ) -> None:
        reached = [host for host in hosts if not isinstance(found[host.name], HostError)]
        self.connections.each(reached, lambda session: session.ask({"op": "release", "job": run.job}))


def _cap(host: Host) -> float:
    """`flagprov_transfer_mib_s`: what a host may send at most."""
    return float(host.variables.get("flagprov_transfer_mib_s") or 0) * (1 << 20)


def _step(content: str) -> str:
    return f"fan out {content[:8]}"


def _addresses(target: Target) -> tuple[str, ...]:
    """What the inventory says first, where others can use it; then what the host says of itself."""
    said = str(target.host.variables.get("flagprov_address") or "")
    own = target.host.connection
    known = "" if own.proxy or own.proxy_command else own.address
    if known.startswith("127.") or known in ("localhost", "::1"):
        known = ""
    return tuple(dict.fromkeys(address for address in (said, known, *target.addresses) if address))
