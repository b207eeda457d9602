"""What a change does to single hosts: their figures from before, the gate, the gateways, the soak."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flagprov.apply.bring import Brought
from flagprov.apply.converge import OnEvent
from flagprov.apply.lease import Lease
from flagprov.errors import HostError, UnreachableError
from flagprov.gateway.gateways import Gateways
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.models.observed import Running, Survey
from flagprov.rollout.gate import Figures, judge, measure, read_figures, unlike
from flagprov.rollout.options import Options
from flagprov.rollout.whole import tail
from flagprov.transport import Connections, Session

T = TypeVar("T")

AGAIN_S = 5.0  # between two looks at a host that went away


@dataclass
class Moving:
    """One change, and the hosts that it goes over."""

    connections: Connections
    hosts: Mapping[str, Host]
    surveys: Mapping[str, Survey]
    options: Options
    lease: Lease
    on_event: OnEvent
    bring: Callable[[Session, Mapping[str, Any]], Brought]  # with what is to be kept in the host's history
    # Done to the hosts of a batch together, before each of them is brought; errors of those that stay out.
    prepare: Callable[[Sequence[str]], Mapping[str, HostError]] = lambda names: {}
    good: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # host -> what to put back
    gateways: Gateways | None = None
    release: str = ""  # a host may serve others too: they are neither measured nor judged
    sleep: Callable[[float], None] = time.sleep

    def say(self, hosts: Sequence[Host], text: str) -> None:
        for host in hosts:
            self.on_event(Event(time.time(), host.name, "note", "serve", "rollout", text))

    def running(self, host: str, release: str = "") -> list[Running]:
        return [running for running in self.surveys[host].running if release in ("", running.release)]

    def when_back(
        self, results: Mapping[str, T | HostError], function: Callable[[Session], T]
    ) -> dict[str, T | HostError]:
        """The same once more for hosts that went away (a reboot, a network), when they are back in time."""
        found: dict[str, T | HostError] = {}
        away = [self.hosts[name] for name, r in results.items() if isinstance(r, UnreachableError)]
        if away and self.options.return_s:
            self.say(away, f"it went away; it is waited for, {self.options.return_s:.0f} s at most")
        deadline = time.monotonic() + self.options.return_s
        while away and time.monotonic() < deadline:
            self.sleep(AGAIN_S)
            found |= self.connections.each(away, function)
            away = [host for host in away if isinstance(found[host.name], UnreachableError)]
        return found

    def before(self, session: Session) -> dict[str, Figures]:
        """Figures of what serves now, and which deployments to go back to.

        What a run has left unproved is no measure of itself; where it was cut off, it left the figures from
        before with it.
        """
        host = session.host.name
        newest: dict[str, Mapping[str, Any]] = {}
        last: dict[str, int] = {}
        for entry in session.ask({"op": "history"})["deployments"]:
            newest[entry["replica"]] = entry
            if entry["result"] == "done":
                last[entry["replica"]] = entry["number"]
        never = self.surveys[host].facts.get("unproved") or {}
        unproved = {n: entry for n, entry in newest.items() if entry["result"] == "pending" or n in never}
        mine = self.running(host, self.release)
        served = [r.replica for r in mine if r.state == "running" or r.replica in unproved]
        self.good[host] = [{"replica": name, "number": last[name]} for name in served if name in last]
        records = self.surveys[host].records
        figures = {}
        for name in served:
            if name not in unproved and name in records:
                probe = records[name]["probe"]
                figures[name] = measure(session, probe, self.options, self.lease.wire, warm_up=0)
            elif before := unproved.get(name, {}).get("before"):
                figures[name] = read_figures(before)
        return figures

    @staticmethod
    def kept(before: Mapping[str, Figures]) -> dict[str, Any]:
        """For the host's history, until the gate has opened."""
        return {"gated": True, "before": {name: figures.wire() for name, figures in before.items()}}

    def gate(self, session: Session, brought: Brought, before: Mapping[str, Figures]) -> None:
        """The gate; raises where it stays shut."""
        host = session.host
        for note in brought.notes.values():
            probe = note.get("probe") if isinstance(note, Mapping) else None
            if probe:
                name = probe["replica"]
                after = measure(session, probe, self.options, self.lease.wire, warm_up=1)
                if reason := judge(before.get(name), after, self.options):
                    log = tail(session, name, probe.get("container", ""))
                    raise HostError(host.name, "gate", f"{name}: {reason}", log=log)
                self.say([host], f"{name}: {after.words()}")
                if unjudged := unlike(before.get(name)):
                    self.say([host], f"{name}: {unjudged}")

    def let_in(self, host: str, notes: Mapping[str, Any]) -> None:
        """What serves again gets requests again; of a replica over several hosts its head says so."""
        probes = [note["probe"] for note in notes.values() if isinstance(note, Mapping) and note.get("probe")]
        heads = [probe for probe in probes if probe["readiness"] != "rank"]
        if self.gateways is None or not heads:
            return
        try:
            self.gateways.admit(self.release, heads)
        except HostError as error:
            raise of_gateway(host, error) from None

    def soak(self, session: Session) -> None:
        """Nothing may fall over in the first seconds."""
        deadline = time.monotonic() + self.options.soak_s
        payload = {"op": "status", "release": self.release, "lease": self.lease.wire}
        while time.monotonic() < deadline:
            for replica in session.ask(payload)["replicas"]:
                if replica["state"] != "ready":
                    name = replica["replica"]
                    message = f"{name} became {replica['state']}: {replica.get('detail', '')}"
                    raise HostError(session.host.name, "soak", message, log=tail(session, name))
            self.sleep(min(1.0, max(0.0, deadline - time.monotonic())))


def of_gateway(host: str, error: HostError) -> HostError:
    return HostError(host, "gateway", f"{error.host}: {error.message}", remedy=error.remedy, log=error.log)
