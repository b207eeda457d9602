"""The gateways of one run: looked at, told of replicas, kept from sending to one that is being changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from flagprov.apply.bring import Brought
from flagprov.apply.converge import OnEvent, failed, host_event
from flagprov.apply.record import RunRecord
from flagprov.errors import FlagprovError, HostError, UnreachableError
from flagprov.gateway.shown import gateway_status
from flagprov.gateway.wanted import beside, plan, servers
from flagprov.models.desired import Placement
from flagprov.models.event import Event
from flagprov.models.fleet import Fleet, Host
from flagprov.models.observed import Survey
from flagprov.models.outcome import GatewayStatus, HostOutcome
from flagprov.models.plan import Plan
from flagprov.preparation import Job
from flagprov.transport import Connections, Session

BringPackages = Callable[[Sequence[Host]], tuple[dict[str, bool], dict[str, HostError]]]
DRAIN_S = 300.0  # what requests at work get before the replica is stopped all the same
ADMIT_S = 60.0


def _ignore(event: Event) -> None:
    """Until a run is recorded."""


class Gateways:
    """Of a fleet without any, all of this is nothing, and costs nothing.

    Connections of their own: a host that is converging as a serving host has to answer as a gateway.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.on_event: OnEvent = _ignore
        self.shown: dict[str, dict[str, Any]] = {}
        self.silent: dict[str, HostError] = {}
        self._connections = Connections(fleet)
        self._looking: threading.Thread | None = None
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        """Looks at once, beside whatever the run does first."""
        if self.fleet.gateways:
            self._looking = threading.Thread(target=self._look, daemon=True)
            self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()

    def _look(self) -> None:
        for name, found in self._ask(self.fleet.gateways, {"do": "show"}).items():
            if isinstance(found, HostError):
                self.silent[name] = found
                self.shown.pop(name, None)
            else:
                self.shown[name] = found
                self.silent.pop(name, None)

    def _looked(self) -> None:
        if self._looking:
            self._looking.join()
            self._looking = None

    # What a plan says, and what makes it true.

    def planned(self, drawn: Plan, job: Job, placement: Placement, interrupts: bool) -> Plan:
        """The plan with the gateways' steps; raises where requests would be lost."""
        self._looked()
        if not self.fleet.gateways:
            return drawn
        away = self._away()
        if away and interrupts:
            raise self._no_drain(away[0])
        from flagprov.gateway.provision import gateway_fingerprint

        wanted = servers(job, placement)
        steps = []
        for host in self.fleet.gateways:
            if host.name in away:
                continue
            shown = self.shown.get(host.name, {})
            reason = ""
            if shown.get("provisioned") != gateway_fingerprint(host):
                reason = "roles have changed" if shown.get("provisioned") else "it is no gateway yet"
            found = plan(host.name, job.release.name, wanted, shown, reason)
            steps += [found] if found else []
        return replace(drawn, gateways=tuple(steps))

    def provision(self, drawn: Plan, record: RunRecord, bring: BringPackages | None) -> None:
        """Make gateways of the hosts that the plan says so of; what failed is in `silent`.

        `bring`: packages to hosts, from the bundle that is deployed.
        """
        self.on_event = record
        needy = [p.host for p in drawn.gateways if any(step.action == "provision" for step in p.steps)]
        if not needy:
            return
        from flagprov.gateway.provision import provision_gateways

        hosts = [host for host in self.fleet.gateways if host.name in needy]
        packages = None
        if bring is not None:
            packages, broken = bring(hosts)
            self.silent.update(broken)
            hosts = [host for host in hosts if host.name not in broken]
        if not hosts:
            return
        found = provision_gateways(self.fleet, hosts, record, record.directory, packages)
        for name, outcome in found.items():
            if outcome.state in ("failed", "unreachable"):
                self.silent[name] = HostError(
                    name, outcome.step, outcome.message, remedy=outcome.remedy, log=outcome.log
                )
            else:
                self.silent.pop(name, None)
                self.shown.setdefault(name, {})

    def settle(self, job: Job, placement: Placement, brought: Mapping[str, Brought]) -> None:
        """Every gateway knows all replicas, and those that were brought and serve get requests."""
        if not self.fleet.gateways:
            return
        fine = {name for name, found in brought.items() if found.outcome.state in ("changed", "unchanged")}
        fit = [replica.name for replica in placement.replicas if fine.issuperset(replica.hosts)]
        wanted = servers(job, placement)
        release = job.release.name
        before = {name: (shown.get("releases") or {}).get(release, {}) for name, shown in self.shown.items()}

        def tell(session: Session) -> None:
            self._say(session, {"do": "put", "release": release, "servers": wanted})
            known = before.get(session.host.name, {})
            failures = []
            for name in fit:
                there = known.get(name) or {}
                same = all(there.get(key) == wanted[name][key] for key in ("address", "port"))
                if not (same and there.get("state") == "in" and name not in self._moved):
                    try:
                        self._say(session, {"do": "admit", "release": release, "replica": name})
                    except UnreachableError:
                        raise
                    except HostError as error:  # the others are let in all the same
                        failures.append(error)
            stale = [beside(name) for name in fit if beside(name) in known or name in self._joined]
            if stale and not failures:
                self._say(session, {"do": "remove", "release": release, "replicas": stale})
            if failures:
                raise _together(failures)

        hosts = [host for host in self.fleet.gateways if host.name not in self.silent]
        self._keep_errors(self._connections.each(hosts, tell))

    # A replica that is being changed.

    _moved: frozenset[str] = frozenset()

    def knows(self, release: str, replicas: Iterable[str]) -> list[str]:
        """Those of the replicas that a gateway sends requests to."""
        self._looked()
        known = {
            name for shown in self.shown.values() for name in (shown.get("releases") or {}).get(release, {})
        }
        return [name for name in replicas if name in known]

    def drain(self, release: str, replicas: Iterable[str], deadline_s: float = DRAIN_S) -> None:
        """No requests any more on any gateway; those at work have ended, or their time is over.

        Raises where a gateway fails; then all is as it was before.
        """
        names = self.knows(release, replicas)
        for name in self._away() if names else ():
            raise self.silent[name]
        stale = set(self._besides(release, names)) - {beside(name) for name in self._joined}
        failures = self._out(release, [*names, *stale], deadline_s)
        if failures:
            self._take_back(release, names, failures)
            raise next(iter(failures.values()))

    def _take_back(self, release: str, names: Sequence[str], broken: Collection[str] = ()) -> None:
        """Nothing was changed, and nothing will be."""
        fine = [host for host in self._answering() if host.name not in broken]
        for name in names:
            self._ask(fine, {"do": "admit", "release": release, "replica": name, "deadline_s": ADMIT_S})
        self._moved -= set(names)

    def put_out(
        self, release: str, replicas: Iterable[str], deadline_s: float = DRAIN_S
    ) -> dict[str, HostError]:
        """Drained on every gateway that can, with what serves beside them; the errors of the others."""
        names = self.knows(release, replicas)
        return self._out(release, [*names, *self._besides(release, names)], deadline_s)

    def _out(self, release: str, names: Sequence[str], deadline_s: float) -> dict[str, HostError]:
        if not names:
            return {}
        replicas = list(dict.fromkeys(names))
        payload = {"do": "drain", "release": release, "replicas": replicas, "deadline_s": deadline_s}
        self._moved |= set(names)
        failures = _errors(self._ask(self._answering(), payload))
        return failures | {name: self.silent[name] for name in self._away()}

    def admit(self, release: str, probes: Iterable[Mapping[str, Any]]) -> None:
        """Requests again, after a completion from each gateway; the probes say what serves there now."""
        found = {str(probe["replica"]): probe for probe in probes}
        names = self.knows(release, found)
        if not names:
            return

        self._let_in(release, {name: found[name] for name in names}, str)
        if besides := self._besides(release, names):
            self._remove(release, besides)
            with self._guard:
                self._joined -= set(names)
        self._moved -= set(names)

    def _let_in(
        self, release: str, found: Mapping[str, Mapping[str, Any]], called: Callable[[str], str]
    ) -> None:
        def let_in(session: Session) -> None:
            known = (self.shown[session.host.name].get("releases") or {}).get(release, {})
            told = {called(n): _spec(known[n]["address"], found[n]) for n in found if n in known}
            if not told:
                return
            self._say(session, {"do": "put", "release": release, "servers": told})
            for name in told:
                payload = {"do": "admit", "release": release, "replica": name, "deadline_s": ADMIT_S}
                self._say(session, payload)

        for error in _errors(self._connections.each(self._answering(), let_in)).values():
            raise error

    # New engines that serve beside the old ones of the same replicas, under names of their own.

    _joined: frozenset[str] = frozenset()

    def join(self, release: str, probes: Iterable[Mapping[str, Any]]) -> None:
        """Let in beside the old ones; `admit` puts them in their places."""
        found = {str(probe["replica"]): probe for probe in probes}
        names = self.knows(release, found)
        with self._guard:  # hosts start theirs side by side
            self._joined |= set(names)
        if names:
            self._let_in(release, {name: found[name] for name in names}, beside)

    def part(self, release: str, replicas: Iterable[str]) -> dict[str, HostError]:
        """Drained and forgotten, while the old ones serve on; the errors of gateways that were not told."""
        names = self._besides(release, self.knows(release, replicas))
        if not names:
            return {}
        failures = self._out(release, names, DRAIN_S)
        self._moved -= set(names)
        return failures | self._remove(release, names)

    def tidy(self, release: str, surveys: Mapping[str, Survey]) -> None:
        """What a run that was cut off left: the replica by its record gets the requests again."""
        self._looked()
        probes = {}
        for seen in surveys.values() if self.fleet.gateways else ():
            for running in seen.running:
                probe = (seen.records.get(running.replica) or {}).get("probe")
                if running.release == release and running.state == "running" and probe:
                    probes[running.replica] = probe
        for name, probe in probes.items():
            if self._besides(release, [name]):
                try:
                    self._let_in(release, {name: probe}, str)
                except HostError:  # it is drained before it is changed
                    continue
                self.part(release, [name])

    def _besides(self, release: str, replicas: Iterable[str]) -> list[str]:
        """What a gateway knows beside these replicas."""
        wanted = {beside(name) for name in replicas}
        mine = {beside(name) for name in self._joined}
        return sorted(wanted & mine | set(self.knows(release, wanted)))

    def _remove(self, release: str, names: Sequence[str]) -> dict[str, HostError]:
        payload = {"do": "remove", "release": release, "replicas": names}
        failures = _errors(self._ask(self._answering(), payload))
        for name, shown in self.shown.items():
            for gone in names if name not in failures else ():
                (shown.get("releases") or {}).get(release, {}).pop(gone, None)
        return failures

    def leave(self, replicas: Iterable[str]) -> None:
        """Drain replicas of any release, before they are stopped for long; raises where a gateway fails."""
        out: dict[str, list[str]] = {}
        for release, names in self._by_release(replicas).items():
            try:
                self.drain(release, names)
            except HostError:
                for before, theirs in out.items():
                    self._take_back(before, theirs)
                raise
            out[release] = names

    def must_answer(self, interrupted: Collection[str]) -> None:
        """Raises where a gateway that may send requests to these cannot be told to drain."""
        self._looked()
        for name in self._away() if interrupted else ():
            raise self._no_drain(name)

    def _no_drain(self, name: str) -> FlagprovError:
        return FlagprovError(
            f"gateway {name} cannot be told to drain: {self.silent[name].message}",
            remedy="bring it back, or take it out of the group flagprov_gateway if it is out of service",
        )

    def forget(self, replicas: Iterable[str], uninstall: bool) -> None:
        """Replicas that are no more; a gateway without any goes, too, where that is asked for."""
        found = self._by_release(replicas)

        def tell(session: Session) -> None:
            for release, names in found.items():
                self._say(session, {"do": "remove", "release": release, "replicas": names})
            if uninstall:
                self._say(session, {"do": "uninstall"})

        self._keep_errors(self._connections.each(self._answering(), tell))

    def _by_release(self, replicas: Iterable[str]) -> dict[str, list[str]]:
        self._looked()
        wanted = {called for name in replicas for called in (name, beside(name))}
        found: dict[str, set[str]] = {}
        for shown in self.shown.values():
            for release, known in (shown.get("releases") or {}).items():
                found.setdefault(release, set()).update(wanted & set(known))
        return {release: sorted(names) for release, names in found.items() if names}

    # What became of them.

    def status(self, again: bool = False) -> tuple[GatewayStatus, ...]:
        self._looked()
        if again and self.fleet.gateways:
            failures = dict(self.silent)
            self._look()
            self.silent.update(failures)
        return tuple(
            gateway_status(host, self.shown.get(host.name, {}), self.silent.get(host.name))
            for host in self.fleet.gateways
        )

    def outcomes(self) -> dict[str, HostOutcome]:
        return {
            name: failed(error, isinstance(error, UnreachableError)) for name, error in self.silent.items()
        }

    def _away(self) -> list[str]:
        """Gateways that may serve and do not answer; one without Python yet serves nobody."""
        return [name for name, error in self.silent.items() if error.step != "python"]

    def _answering(self) -> list[Host]:
        return [host for host in self.fleet.gateways if host.name in self.shown]

    def _say(self, session: Session, payload: Mapping[str, Any]) -> dict[str, Any]:
        host = session.host.name
        return session.ask(
            {"op": "gateway", **payload}, lambda message: self.on_event(host_event(host, message))
        )

    def _ask(
        self, hosts: Sequence[Host], payload: Mapping[str, Any]
    ) -> dict[str, dict[str, Any] | HostError]:
        return self._connections.each(hosts, lambda session: self._say(session, payload))

    def _keep_errors(self, answers: Mapping[str, object]) -> None:
        self.silent.update(_errors(answers))


def _errors(answers: Mapping[str, object]) -> dict[str, HostError]:
    return {name: answer for name, answer in answers.items() if isinstance(answer, HostError)}


def _together(failures: Sequence[HostError]) -> HostError:
    first = failures[0]
    said = "; ".join(error.message for error in failures)
    return HostError(first.host, first.step, said, remedy=first.remedy, log=first.log)


def _spec(address: str, probe: Mapping[str, Any]) -> dict[str, Any]:
    return {"address": address, **{key: probe.get(key) for key in ("port", "model", "readiness", "path")}}
