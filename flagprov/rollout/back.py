"""The way back, and what a fleet has drifted from: both from the history that the hosts keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flagprov.apply.bring import Brought
from flagprov.apply.converge import OnEvent, failed, host_event, to_restart
from flagprov.apply.lease import Lease
from flagprov.apply.record import RunRecord
from flagprov.errors import HostError, UsageError, VersionError
from flagprov.gateway.gateways import Gateways
from flagprov.maintenance import cordoned
from flagprov.models.desired import Placement, Replica, container_name
from flagprov.models.observed import Look, Problem, Running, Survey
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.plan import HostPlan, LeftOut, Plan
from flagprov.observe import read_look, survey
from flagprov.plan import build, host_plan
from flagprov.preparation import Request, hosts_of
from flagprov.rollout.arrange import arrange, in_their_places, interrupts, unproved
from flagprov.rollout.beside import Beside, probes_of
from flagprov.rollout.census import Census, census
from flagprov.rollout.earlier import Entry, Place, previous, who_set_what
from flagprov.rollout.hooks import hooks_of
from flagprov.rollout.move import Rolling
from flagprov.rollout.options import Options
from flagprov.rollout.slots import NO_SLOTS, Slots, slots_back
from flagprov.rollout.whole import halves
from flagprov.scope import Scope, check_named, left_out, scope_of
from flagprov.transport import KEPT, Connections, Session
from flagprov.verify.status import completions, of_placement

INNER = ("before", "what", "place")  # of an entry: figures of a gate that is to come, a hash, where it was
Which = int | str  # a number, or `last`


@dataclass(frozen=True, slots=True)
class _Picture:
    surveys: Mapping[str, Survey]
    looks: Mapping[str, Look]
    wishes: Mapping[str, list[dict[str, Any]]]
    left_out: Sequence[LeftOut]
    placement: Placement
    histories: Mapping[Place, Sequence[Entry]]


def history(request: Request) -> tuple[list[dict[str, Any]], dict[str, HostError], list[HostError]]:
    """Every deployment that the hosts remember, the hosts that could not be asked, and what is damaged."""
    scope = scope_of(request)
    wish = {"op": "history", "damaged": True}
    with Connections(scope.fleet) as connections:
        answers = connections.once(scope.fleet.hosts, lambda session: session.ask(wish))
    entries = []
    damaged = []
    for name, answer in answers.items():
        if isinstance(answer, VersionError):
            raise answer
        if not isinstance(answer, HostError):
            entries += [
                {"host": name, **{key: value for key, value in entry.items() if key not in INNER}}
                for entry in answer["deployments"]
            ]
            for each in answer["damaged"]:
                damaged.append(HostError(name, each["step"], each["message"], remedy=each["remedy"]))
    silent = {name: error for name, error in answers.items() if isinstance(error, HostError)}
    check_named(scope, (str(entry["release"]) for entry in entries), silent)
    mine = [entry for entry in entries if scope.release in (None, entry["release"])]
    mine.sort(key=lambda entry: (entry["at"], entry["host"], entry["number"]))
    return mine, silent, damaged


def drift(request: Request) -> Plan:
    """What differs from what was deployed last; changes nothing."""
    scope = scope_of(request)
    with Connections(scope.fleet) as connections:
        picture = _look(scope, connections, lambda found: dict.fromkeys(found, "last"))
    plans = {name: host_plan(name, seen, None, "") for name, seen in picture.looks.items()}
    notes = (*who_set_what(picture.histories), *in_their_places(picture.surveys, scope.release))
    return build("diff", scope.release or "", picture.placement, plans, picture.left_out, notes)


def rollback(
    request: Request,
    *,
    to: int | None,
    approve: Callable[[Plan], bool],
    on_event: OnEvent,
    options: Options,
) -> Outcome | None:
    """Put an earlier deployment back in place, in the order and with the gates of a rollout."""
    begun = time.monotonic()
    scope = scope_of(request)
    if not scope.release:
        raise UsageError("rollback needs a release", remedy="flagprov rollback INVENTORY RELEASE")
    hooks = hooks_of(scope.fleet)
    brought: dict[str, Brought] = {}
    run = ""
    with Connections(scope.fleet) as connections, Gateways(scope.fleet) as gateways:
        picture = _look(scope, connections, lambda found: _goals(found, to), changing=True)
        plans = {
            name: unproved(host_plan(name, seen, None, ""), picture.placement, picture.surveys[name])
            for name, seen in picture.looks.items()
        }
        out = {left.host for left in picture.left_out}

        def counted() -> Census:
            return census(scope.fleet, request.limit, scope.site, str(scope.release), out)

        slots = _room(picture, plans) if options.surge and not options.at_once else NO_SLOTS
        arranged = arrange(
            picture.placement, plans, picture.surveys, options, counted, surging=slots.taken.keys()
        )
        plan = build(
            "rollback",
            scope.release,
            picture.placement,
            plans,
            picture.left_out,
            (*arranged.notes, *in_their_places(picture.surveys, scope.release)),
            arranged.groups,
            slots.orders(),
        )
        if plan.changes and not approve(plan):
            return None
        if plan.changes:
            hosts = hosts_of(scope.fleet, list(plans))
            with (
                RunRecord(scope.site, "rollback", plan, on_event) as record,
                Lease(connections, hosts, f"rollback {scope.release}") as lease,
            ):
                run = str(record.directory)
                bringing = _Bringing(picture, lease, scope, record, slots)
                by_name = {host.name: host for host in scope.fleet.hosts}
                gateways.on_event = record
                rolling = Rolling(
                    *(connections, by_name, picture.surveys, options, lease, record, bringing.bring),
                    gateways=gateways,
                    hooks=hooks,
                    budget=arranged.budget,
                    beside=Beside(slots, bringing.start, bringing.switch) if slots.taken else None,
                )
                brought = rolling.roll(plan, {}, arranged.gated)
                if not arranged.gated:  # each that went through a gate gets requests since then
                    brought |= _let_in(rolling, brought)
    return _outcome(scope, picture, brought, plan, begun, run)


def _let_in(rolling: Rolling, brought: Mapping[str, Brought]) -> dict[str, Brought]:
    """What serves again gets requests again; where a gateway fails, the host has not got there."""
    found = {}
    for name, each in brought.items():
        if each.outcome.state in ("changed", "unchanged"):
            try:
                rolling.let_in(name, each.notes)
            except HostError as error:
                found[name] = Brought(failed(error, False), each.notes)
    return found


def _goals(histories: Mapping[Place, Sequence[Entry]], to: int | None) -> Mapping[Place, Which | None]:
    return previous(histories) if to is None else dict.fromkeys(histories, to)


def _look(
    scope: Scope,
    connections: Connections,
    goals: Callable[[Mapping[Place, Sequence[Entry]]], Mapping[Place, Which | None]],
    changing: bool = False,
) -> _Picture:
    """What serves, and how it differs from deployments that the hosts remember; which, say the histories."""
    surveys: dict[str, Survey] = {}
    answered: dict[str, Survey] = {}  # cordoned hosts, too
    wishes: dict[str, list[dict[str, Any]]] = {}
    histories: dict[Place, list[Entry]] = {}

    def ask(session: Session) -> None:
        host = session.host.name
        found = answered[host] = survey(session)
        if changing and (out := cordoned(found)):
            raise HostError(host, out.step, out.message, remedy=out.remedy)
        entries = session.ask({"op": "history"})["deployments"]
        for running in _mine(found, scope):
            histories[host, running.replica] = [e for e in entries if e["replica"] == running.replica]
        surveys[host] = found

    def look(session: Session) -> Look:
        host = session.host.name
        mine = _mine(surveys[host], scope)
        wishes[host] = [{"replica": r.replica, "number": chosen[host, r.replica]} for r in mine]
        return read_look(host, session.ask({"op": "look", "from": wishes[host]}))

    asked = connections.each(scope.fleet.hosts, ask, keep=KEPT)
    there = (running.release for found in answered.values() for running in found.running)
    check_named(scope, there, set(asked) - set(answered))
    chosen = goals(histories)
    serving = [h for h in scope.fleet.hosts if h.name in surveys and _mine(surveys[h.name], scope)]
    found: dict[str, Look | HostError | None] = {**asked, **connections.each(serving, look, keep=KEPT)}
    gone = [left_out(error) for error in found.values() if isinstance(error, HostError)]
    looks = {}
    for name, seen in found.items():
        if isinstance(seen, Look):
            if seen.problems:
                gone += [LeftOut(name, problem) for problem in seen.problems]
            else:
                looks[name] = seen
    replicas = {
        r.replica: Replica(r.replica, r.release, r.chip, r.hosts, r.devices, r.port, slot=r.slot)
        for name in looks
        for r in _mine(surveys[name], scope)
    }
    for name, why in halves(replicas.values(), looks).items() if changing else ():
        del looks[name]
        gone.append(LeftOut(name, Problem("placement", why, "mend that host first")))
    return _Picture(surveys, looks, wishes, gone, Placement(tuple(replicas.values())), histories)


def _mine(found: Survey, scope: Scope) -> list[Running]:
    return [running for running in found.running if scope.release in (None, running.release)]


class _Bringing:
    """Hosts bring what they remember; digests hold once, for they move with what is done."""

    def __init__(
        self, picture: _Picture, lease: Lease, scope: Scope, on_event: OnEvent, slots: Slots
    ) -> None:
        self._picture, self._lease, self._on_event, self._slots = picture, lease, on_event, slots
        self._digests = {name: seen.digest for name, seen in picture.looks.items()}
        self._deployment = {
            "command": lease.wire["command"],
            "by": lease.wire["holder"],
            "at": lease.wire["since"],
            "release": scope.release,
            "set": [],  # the host has those of what is put back
        }

    def bring(self, session: Session, kept: Mapping[str, Any]) -> Brought:
        host = session.host.name
        restarts = to_restart(self._picture.looks[host].changes)
        return self._converge(
            session,
            self._picture.wishes[host],
            digest=self._digests.pop(host, ""),
            deployment={**self._deployment, **kept},
            restarts=restarts,
        )

    def start(self, session: Session, kept: Mapping[str, Any]) -> Brought:
        """In their other slots, while what is there now serves on."""
        names = {replica.name for replica in self._slots.on(session.host.name)}
        wishes = [wish for wish in self._picture.wishes[session.host.name] if wish["replica"] in names]
        return self._converge(session, wishes, deployment={**self._deployment, **kept}, beside=True)

    def switch(self, session: Session) -> Brought:
        return self._converge(session, self._picture.wishes[session.host.name])

    def _converge(self, session: Session, wishes: Sequence[Mapping[str, Any]], **more: Any) -> Brought:
        host = session.host.name
        payload = {"op": "converge", "from": wishes, "digest": "", "lease": self._lease.wire, **more}
        answer = session.ask(payload, lambda message: self._on_event(host_event(host, message)))
        changes = int(answer["changes"])
        outcome = HostOutcome(host, "changed" if changes else "unchanged", changes, seconds=answer["seconds"])
        return Brought(outcome, answer["notes"])


def _room(picture: _Picture, plans: Mapping[str, HostPlan]) -> Slots:
    """Where what is gone back to can start beside what serves: at the place that it had."""
    changing = [r for r in picture.placement.replicas if interrupts(r, plans, picture.surveys)]
    steps = {str(step.replica) for plan in plans.values() for step in plan.steps}
    places = {}
    for replica in changing:
        host = replica.hosts[0]
        (number,) = [wish["number"] for wish in picture.wishes[host] if wish["replica"] == replica.name]
        entries = picture.histories[host, replica.name]
        places[replica.name] = next(entry["place"] for entry in entries if entry["number"] == number)
    return slots_back(changing, picture.placement, picture.surveys, places, steps)


def _moved(placement: Placement, brought: Mapping[str, Brought]) -> Iterator[Replica]:
    """Where replicas are now that have gone back: an earlier deployment may be in their other slot."""
    replicas = {replica.name: replica for replica in placement.replicas}
    for found in brought.values():
        for probe in probes_of(found) if found.outcome.state == "changed" else ():
            replica = replicas.get(probe["replica"])
            if replica and probe["readiness"] != "rank":
                slot = probe["container"].removeprefix(container_name(replica.name))
                yield replace(replica, port=int(probe["port"]), slot=slot)


def _outcome(
    scope: Scope, picture: _Picture, brought: Mapping[str, Brought], plan: Plan, begun: float, run: str
) -> Outcome:
    hosts = {name: found.outcome for name, found in brought.items()}
    for left in picture.left_out:
        problem = left.problem
        error = HostError(left.host, problem.step, problem.message, remedy=problem.remedy)
        hosts[left.host] = failed(error, left.unreachable)
    ordered = tuple(hosts.get(h.name, HostOutcome(h.name, "unchanged")) for h in scope.fleet.hosts)
    notes = {name: found.notes for name, found in brought.items()} or {
        n: s.notes for n, s in picture.looks.items()
    }
    by_name = {host.name: host for host in scope.fleet.hosts}
    scope.site.remember(_moved(picture.placement, brought))
    proofs = tuple(proof for name, note in notes.items() for proof in completions(by_name[name], note))
    return Outcome(
        verb="rollback",
        release=scope.release or "",
        hosts=ordered,
        replicas=of_placement(scope.fleet, picture.placement, notes),
        completions=proofs,
        notes=plan.notes,
        seconds=round(time.monotonic() - begun, 3),
        run_directory=run,
    )
