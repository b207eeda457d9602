"""Start before stop: new engines prove themselves while the old ones serve; only then these go."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagprov.apply.bring import Brought
from flagprov.apply.converge import converge
from flagprov.desired import returning, vacated
from flagprov.errors import HostError, UnreachableError
from flagprov.models.desired import Replica, Stage
from flagprov.models.fleet import Host
from flagprov.rollout.gate import Figures
from flagprov.rollout.moving import Moving, of_gateway
from flagprov.rollout.slots import Slots
from flagprov.rollout.whole import tail
from flagprov.transport import Session


@dataclass(frozen=True, slots=True)
class Beside:
    """The replicas of a run that start in their other slots, and how a host is told to."""

    slots: Slots
    start: Callable[[Session, Mapping[str, Any]], Brought]  # with what is kept in the host's history
    switch: Callable[[Session], Brought]


class Pair:
    """Both engines of each such replica of one batch."""

    def __init__(self, moving: Moving, beside: Beside, hosts: Sequence[Host]) -> None:
        self._moving, self._beside = moving, beside
        self._hosts = [host for host in hosts if host.name in beside.slots.hosts]
        self.names = frozenset(host.name for host in self._hosts)

    def start(self, before: Mapping[str, Mapping[str, Figures]]) -> dict[str, HostError]:
        """New ones started, judged, let in and soaked; what failed on which hosts."""

        def start(session: Session) -> None:
            self._start(session, before[session.host.name])

        answers = self._moving.connections.each(self._hosts, start)
        answers |= self._moving.when_back(answers, start)
        return {name: error for name, error in answers.items() if isinstance(error, HostError)}

    def switch(self, session: Session) -> Brought:
        """The old ones, which were drained, are gone; the new ones are the replicas.

        Gateways send to these already: one that does not take up their new names is no reason to go back.
        """
        brought = self._beside.switch(session)
        try:
            self._moving.let_in(session.host.name, brought.notes)
        except HostError as error:
            said = f"gateways still know the new one as one beside the old one: {error.message}"
            self._moving.say([session.host], said)
        return brought

    def give_up(self, broken: Mapping[str, HostError]) -> tuple[dict[str, HostError], dict[str, Any]]:
        """The new ones gone, with those that were well; errors in full, what hosts say of the old ones."""
        moving = self._moving
        replicas = [replica.name for host in self._hosts for replica in self._new(host.name)]
        if moving.gateways is not None and replicas:
            for name, error in moving.gateways.part(moving.release, replicas).items():
                moving.say(self._hosts, f"gateway {name} still knows the new ones: {error.message}")
        answers = moving.connections.each(self._hosts, self._vacate)
        told, notes = {}, {}
        for name, error in broken.items():
            if name not in self.names:
                told[name] = error
                continue
            answer = answers[name]
            if isinstance(answer, HostError):
                said = f"removing the new one failed: {answer.message}; the next deploy removes it"
            else:
                said = "the new one was removed, the old one served all the time"
                notes[name] = answer
            kind = UnreachableError if isinstance(error, UnreachableError) else HostError
            told[name] = kind(
                name, error.step, f"{error.message}; {said}", remedy=error.remedy, log=error.log
            )
        for name, answer in answers.items():
            if isinstance(answer, HostError) and name not in told:
                said = f"removing the new one failed: {answer.message}"
                told[name] = HostError(name, "rollout", said, remedy="the next deploy removes it")
        return told, notes

    def _new(self, host: str) -> tuple[Replica, ...]:
        return self._beside.slots.on(host)

    def _start(self, session: Session, before: Mapping[str, Figures]) -> None:
        moving, host = self._moving, session.host.name
        orders = self._beside.slots.orders()
        for new in self._new(host):
            moving.say([session.host], f"{new.name} starts anew beside itself: {orders[new.name][1]}")
        brought = self._beside.start(session, moving.kept(before))
        moving.gate(session, brought, before)
        names = {new.name for new in self._new(host)}
        probes = [probe for probe in probes_of(brought) if probe["replica"] in names]
        if moving.gateways is not None:
            try:
                moving.gateways.join(moving.release, probes)
            except HostError as error:
                raise of_gateway(host, error) from None
        self._soak(session, probes)
        # It is about to be the only one that gateways send to: a power cut amid the drain must not end it.
        for new in self._new(host):
            units = returning(new.name, new.instance)
            converge(session, units, "", moving.lease, moving.on_event)

    def _soak(self, session: Session, probes: Collection[Mapping[str, Any]]) -> None:
        """Under requests of the gateway, if there is one, while the old ones have theirs, too."""
        deadline = time.monotonic() + self._moving.options.soak_s
        resources = [
            {
                "kind": "probe",
                "name": probe["container"],
                "stage": Stage.VERIFY.label,
                "replica": probe["replica"],
                "spec": dict(probe),
            }
            for probe in probes
        ]
        while time.monotonic() < deadline:
            for note in session.ask({"op": "look", "resources": resources})["notes"].values():
                if note["state"] != "ready":
                    name, said = note["replica"], f"{note['state']}: {note.get('detail', '')}"
                    log = tail(session, name, note["probe"]["container"])
                    raise HostError(session.host.name, "soak", f"{name} became {said}", log=log)
            self._moving.sleep(min(1.0, max(0.0, deadline - time.monotonic())))

    def _vacate(self, session: Session) -> Mapping[str, Any]:
        """What the host says of the old ones, which serve on; its history has them as its newest, too."""
        moving, host = self._moving, session.host.name
        good = self._good(host)
        for new in self._new(host):
            old = next(r for r in moving.surveys[host].running if r.replica == new.name)
            converge(
                session, vacated(new.name, new.instance, old.instance), "", moving.lease, moving.on_event
            )
            self._mark(session, new.name, good.get(new.name))
        wishes = [{"replica": name, "number": number} for name, number in good.items()]
        found: Mapping[str, Any] = session.ask({"op": "look", "from": wishes})["notes"] if wishes else {}
        return found

    def _good(self, host: str) -> dict[str, int]:
        """Replica -> the deployment that serves on; what no gate has proved is not the last good one."""
        never = self._moving.surveys[host].facts.get("unproved") or {}
        good = {wish["replica"]: wish["number"] for wish in self._moving.good.get(host, ())}
        names = [new.name for new in self._new(host) if new.name not in never]
        return {name: good[name] for name in names if name in good}

    def _mark(self, session: Session, replica: str, kept: int | None) -> None:
        """Of what is gone already, whatever its history says: another run may hold the host by now."""
        wire = self._moving.lease.wire
        mark: dict[str, Any] = {"op": "mark", "replica": replica, "result": "refused", "lease": wire}
        if kept is not None:
            by = {"by": wire.get("holder"), "at": wire.get("since")}
            mark["kept"] = {"number": kept, "command": f"kept after {wire.get('command', '')}", **by}
        try:
            session.ask(mark)
        except HostError as error:
            said = f"the history of {replica} does not know what came of it: {error.message}"
            self._moving.say([session.host], said)


def probes_of(brought: Brought) -> list[Mapping[str, Any]]:
    notes = brought.notes.values()
    return [note["probe"] for note in notes if isinstance(note, Mapping) and note.get("probe")]
