"""A rollout with `--surge` from its plan to the next deploy, against the real host program and a gateway."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slotted import Killed, Machine, alone, installed

from flagprov import desired, drawing, pipeline, serving
from flagprov.apply import lease, provision
from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.errors import HostError, UsageError
from flagprov.gateway import gateways
from flagprov.gateway import provision as gateway_provision
from flagprov.host import converge, gate, main, status
from flagprov.host.facts import devices
from flagprov.host.resources import claim, container, unit
from flagprov.host.wire import Blocked
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.image import ImageFacts
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Plan
from flagprov.preparation import Job, Request, probe_version
from flagprov.rollout import back
from flagprov.rollout.options import Options
from flagprov.scope import Scope
from flagprov.serving import image_key
from flagprov.settings import apply_settings, merge_settings, parse_sets
from flagprov.site import Site

RELEASE, REPLICA = "qwen3-tiny-standin", "qwen3-tiny-standin-0"
SECOND, NEXT = f"{REPLICA}.b", f"{RELEASE}-1"
CAREFUL = Options(soak_s=0, return_s=0, surge=True)
BRIEF = Options(soak_s=0, return_s=0, allow_downtime=True)
DEVICE = {"name": "x86", "memory_mib": 9, "processes": [], "uuid": ""}


class Gateway:
    """Its servers as the host program keeps them."""

    def __init__(self) -> None:
        self.servers: dict[str, dict[str, Any]] = {}

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        names = payload.get("replicas") or [payload.get("replica")]
        if payload["do"] == "show":
            shown = {name: dict(server) for name, server in self.servers.items()}
            return {"provisioned": "print", "running": True, "releases": {RELEASE: shown}}
        if payload["do"] == "put":
            for name, server in payload["servers"].items():
                there = self.servers.get(name)
                kept = there["state"] if there and there["port"] == server["port"] else "out"
                self.servers[name] = {**server, "state": kept}
        for name in names if payload["do"] in ("admit", "drain", "remove") else ():
            if payload["do"] == "remove":
                self.servers.pop(name, None)
            elif name in self.servers:
                self.servers[name]["state"] = "in" if payload["do"] == "admit" else "out"
        return {}


class World:
    """One host, one gateway, and a controller beside them."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.gateway = machine, Gateway()
        self.asked = False  # from then on somebody asks the gateway at every step
        self.unserved: list[str] = []  # there was no engine for him
        self.dead: list[str] = []  # he was sent to one that is not there
        self.nonsense: set[int] = set()  # ports
        self.fleet = Fleet(
            folder / "hosts.ini",
            (Host("h1", Connection("192.0.2.1"), chip="cpu-x86"),),
            (Host("gw", Connection("192.0.2.9")),),
        )
        self.site = Site(folder)
        step = machine.step
        machine.step = lambda: (self.look("a step"), step())[1]  # type: ignore[method-assign]

    def look(self, what: str) -> None:
        """Somebody asks the gateway."""
        ports = {9010: REPLICA, 9110: SECOND, 9011: NEXT, 9111: f"{NEXT}.b"}
        found = [server["port"] for server in self.gateway.servers.values() if server["state"] == "in"]
        dead = [port for port in found if not self.machine.runs(ports[port])]
        if self.asked and dead:
            self.dead.append(f"{what}: {found} in, {dead} dead")
        if self.asked and not found:
            self.unserved.append(what)

    def ask(self, host: str, payload: dict[str, Any]) -> dict[str, Any]:
        payload = json.loads(json.dumps(payload))
        if payload["op"] == "gateway":
            if payload["do"] != "show":
                self.machine.step()
            found = self.gateway.ask(payload)
            self.look(f"gateway {payload['do']}")
            return found
        unit.STARTED.clear()
        try:
            return main.answer(payload)
        except Blocked as problem:
            said = problem.wire()
            raise HostError(host, problem.step, problem.message, log=str(said["log"])) from None

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        texts = [""] if request["probe"]["port"] in self.nonsense else ["hello"]
        return {"seconds": [0.1], "errors": [], "texts": texts, "tokens_per_s": 9.0}

    def connections(self, fleet: Fleet) -> Any:
        def each(hosts: Sequence[Host], function: Callable[[Any], Any], **_: Any) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for host in hosts:
                ask = lambda payload, *_, name=host.name: self.ask(name, payload)  # noqa: E731
                try:
                    found[host.name] = function(SimpleNamespace(host=host, ask=ask, busy=False))
                except HostError as error:
                    found[host.name] = error
            return found

        found = SimpleNamespace(each=each, once=each, close=lambda: None)
        return nullcontext(found)

    def prepared(self, request: Request) -> Job:
        release = load_release(RELEASE)
        settings = merge_settings({}, parse_sets(request.sets), where="x")
        variant = apply_settings(release, release.variants["cpu-x86"], settings)
        key = f"{image_key(variant.image, 'cpu-x86', 'x86_64')}-{probe_version()}"
        facts = ImageFacts("sha256:" + "0" * 64, "amd64", "3.12.3", flagscale="0.8.0", vllm="0.9.0")
        self.site.save_facts(key, facts)
        keys = {"h1": frozenset(settings.serve)}
        sets, count = tuple(request.sets), settings.replicas
        return Job(self.fleet, self.site, release, load_chips(), {"h1": variant}, count, sets, keys)

    # What a user does.

    def request(self, *sets: str) -> Request:
        return Request(self.fleet.inventory, RELEASE, sets=sets)

    def rollout(self, *sets: str, options: Options = CAREFUL) -> Outcome:
        found = pipeline.deploy(
            self.request(*sets), approve=lambda plan: True, options=options, verb="rollout"
        )
        assert found
        return found

    def plan(self, *sets: str, options: Options = CAREFUL) -> Plan:
        return pipeline.plan(self.request(*sets), options=options, verb="rollout")

    def unlocked(self) -> None:
        self.machine.dies_at = 0
        self.ask("h1", {"op": "lease", "do": "break"})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], World]]:
    def make(memory: int = 1 << 20, nodes: int = 2) -> World:
        shutil.rmtree(tmp_path / "here", ignore_errors=True)
        state = tmp_path / "here/state"
        machine = installed(monkeypatch, state)
        found = World(machine, tmp_path / "here")
        for module in (serving, desired):
            monkeypatch.setattr(module, "STATE", str(state))
        nothing = SimpleNamespace(observe=lambda spec: {}, diff=lambda *_: [], note=lambda *_: {"here": True})
        load = converge.load
        stubs = ("image", "weights", "claim", "image_facts")
        own = lambda kind: nothing if kind in stubs and kind != "claim" else load(kind)  # noqa: E731
        monkeypatch.setattr(converge, "load", own)
        monkeypatch.setattr(container, "_missing", lambda spec: [])
        monkeypatch.setattr(claim.machine, "listening", dict)
        cpus = [{**DEVICE, "index": index} for index in range(nodes)]
        monkeypatch.setattr(devices, "devices", lambda: ({"cpuinfo": cpus}, {}))
        monkeypatch.setattr(claim.machine, "available_mib", lambda: memory)
        monkeypatch.setattr(drawing, "is_new", lambda seen: False)  # no doctor
        seconds = count()
        monkeypatch.setattr(lease, "_now", lambda: f"2026-01-01 {next(seconds):06d} UTC")
        monkeypatch.setattr(gate, "measure", found.measure)
        monkeypatch.setattr(provision, "fingerprint", lambda host: "print")
        monkeypatch.setattr(gateway_provision, "gateway_fingerprint", lambda host: "print")
        state.mkdir(parents=True)
        (state / "provisioned").write_text("print")
        monkeypatch.setattr(pipeline, "prepare", found.prepared)
        for module in (pipeline, back):
            monkeypatch.setattr(module, "Connections", found.connections)
        told = found.connections(found.fleet).enter_result
        monkeypatch.setattr(gateways, "Connections", lambda fleet: told)
        scope = Scope(found.fleet, found.site, RELEASE)
        monkeypatch.setattr(back, "scope_of", lambda request: scope)
        return found

    yield make


def test_the_only_replica_changes_and_every_request_finds_an_engine(world: Any) -> None:
    here: World = world()
    assert here.rollout(options=BRIEF).succeeded
    assert here.machine.place() == alone(REPLICA)
    here.asked = True
    (replica,) = here.plan("serve.max_num_seqs=3").batches[0].replicas
    assert (replica.order, replica.order_reason) == ("start before stop", "device 1, port 9110 of h1")
    with pytest.raises(UsageError, match="allow-downtime"):
        here.plan("serve.max_num_seqs=3", options=Options())
    found = here.rollout("serve.max_num_seqs=3")
    assert found.succeeded, found
    assert [each.state for each in found.replicas] == ["ready"]
    assert found.replicas[0].endpoint == "http://192.0.2.1:9110"
    assert (here.unserved, here.dead) == ([], [])
    assert here.machine.place() == alone(SECOND)
    assert [(n, s["port"], s["state"]) for n, s in here.gateway.servers.items()] == [(REPLICA, 9110, "in")]
    assert here.plan("serve.max_num_seqs=3").changes == 0
    assert back.drift(here.request()).changes == 0
    assert here.rollout("serve.max_num_seqs=5").succeeded
    assert here.machine.place() == alone(REPLICA)
    assert (here.unserved, here.dead) == ([], [])
    assert here.machine.restarted == []
    here.asked = False
    gone = back.rollback(
        here.request(), to=None, approve=lambda plan: True, on_event=lambda event: None, options=BRIEF
    )
    assert gone
    assert gone.succeeded
    assert here.machine.place() == alone(SECOND)
    assert here.gateway.servers[REPLICA]["port"] == 9110
    remembered = here.site.deployed()[REPLICA]
    assert (remembered["port"], remembered["slot"]) == (9110, SECOND.removeprefix(REPLICA))
    assert back.drift(here.request()).changes == 0


def test_what_fails_its_gate_is_removed_and_the_old_one_never_stopped(world: Any) -> None:
    here: World = world()
    here.rollout(options=BRIEF)
    before = dict(here.machine.containers)
    here.asked, here.nonsense = True, {9110}
    found = here.rollout("serve.max_num_seqs=3")
    assert (found.hosts[0].state, found.replicas[0].state) == ("failed", "ready")
    assert str(found.hosts[0].message).endswith("the new one was removed, the old one served all the time")
    assert found.replicas[0].endpoint == "http://192.0.2.1:9010"
    assert (here.unserved, here.dead) == ([], [])
    assert here.machine.containers == before
    assert here.machine.place() == alone(REPLICA)
    assert here.plan().changes == 0
    entries, _, _ = back.history(here.request())
    assert [entry["result"] for entry in entries] == ["done", "refused", "done"]


def test_what_serves_beside_the_one_that_fails_stays_as_it_was(world: Any) -> None:
    here: World = world(nodes=3)
    here.rollout("replicas=2", options=BRIEF)
    before = here.machine.place()
    here.machine.hung, here.nonsense = {NEXT}, {9111}
    found = here.rollout("replicas=2")
    assert found.hosts[0].state == "failed"
    assert here.machine.place() == before
    results: dict[str, list[str]] = {}
    for entry in back.history(here.request())[0]:
        results.setdefault(entry["replica"], []).append(entry["result"])
    assert results == {REPLICA: ["done"], NEXT: ["done", "refused", "done"]}


@pytest.mark.parametrize(
    ("room", "why"),
    [
        ({"nodes": 1, "memory": 900}, "no free memory on h1: 1026 MiB are needed, 900 are available"),
        ({"nodes": 1, "memory": 4000}, ""),
    ],
)
def test_a_host_without_room_stops_first(world: Any, room: dict[str, int], why: str) -> None:
    here: World = world(**room)
    here.rollout(options=BRIEF)
    options = Options(soak_s=0, surge=True, allow_downtime=True)
    (replica,) = here.plan("serve.max_num_seqs=3", options=options).batches[0].replicas
    assert replica.order == ("stop before start" if why else "start before stop")
    assert replica.order_reason == (why or "device 0, port 9110 of h1")
    assert here.rollout("serve.max_num_seqs=3", options=options).succeeded
    assert here.machine.place() == alone(REPLICA if why else SECOND)


@pytest.mark.parametrize("then", ["the same again", "back to the old one", "rollback"])
@pytest.mark.parametrize("rebooted", [False, True])
def test_whatever_kills_it_the_next_run_leaves_one_engine_and_one_server(
    world: Any, then: str, rebooted: bool
) -> None:
    """Before every third step of the host's and the gateway's, in turn."""
    at, over = 0, False
    while not over:
        at += 3
        here: World = world()
        here.rollout(options=BRIEF)
        here.asked = not rebooted
        here.machine.dies_at = here.machine.steps + at
        try:
            here.rollout("serve.max_num_seqs=3")
            over = True
        except Killed:
            pass
        here.unlocked()
        if rebooted:
            here.machine.reboot()
        if then == "rollback":
            approve, quiet = (lambda plan: True), (lambda event: None)
            back.rollback(here.request(), to=None, approve=approve, on_event=quiet, options=BRIEF)
            sets: tuple[str, ...] = ()
            assert here.rollout(options=BRIEF).succeeded
        elif then == "the same again":
            sets = ("serve.max_num_seqs=3",)
            assert here.rollout(*sets, options=CAREFUL if here.machine.active else BRIEF).succeeded
        else:
            sets = ()
            assert here.rollout(options=BRIEF).succeeded, at
        now = here.machine.place()
        assert here.dead == [], at
        assert then != "the same again" or here.unserved == [], at
        assert now in (alone(REPLICA), alone(SECOND)), (at, now)
        port = 9010 if now == alone(REPLICA) else 9110
        known = [(n, s["port"], s["state"]) for n, s in here.gateway.servers.items()]
        assert known == [(REPLICA, port, "in")], (at, known)
        assert here.plan(*sets).changes == 0
        assert back.drift(here.request()).changes == 0
    assert at > 30


def test_whatever_kills_it_and_the_power_the_gateway_has_an_engine_to_send_to(world: Any) -> None:
    at, over = 0, False
    while not over:
        at += 1
        here: World = world()
        here.rollout(options=BRIEF)
        here.machine.dies_at = here.machine.steps + at
        try:
            here.rollout("serve.max_num_seqs=3")
            over = True
        except Killed:
            pass
        here.machine.reboot()
        ports = {9010: REPLICA, 9110: SECOND}
        found = [s["port"] for s in here.gateway.servers.values() if s["state"] == "in"]
        assert any(here.machine.runs(ports[port]) for port in found), at
        units = {f"flagprov@{name}.service" for name in (REPLICA, SECOND)}
        (said,) = status.status({})["replicas"]
        assert here.machine.active != units or "a second container" in said["detail"], at


def test_a_way_back_starts_before_it_stops_too(world: Any) -> None:
    here: World = world()
    here.rollout(options=BRIEF)
    here.rollout("serve.max_num_seqs=3")
    here.asked = True
    plans: list[Plan] = []

    def again(sick: set[int]) -> Outcome:
        here.nonsense = sick
        found = back.rollback(
            here.request(),
            to=None,
            approve=lambda plan: not plans.append(plan),  # type: ignore[func-returns-value]
            on_event=lambda event: None,
            options=CAREFUL,
        )
        assert found
        return found

    assert again({9010}).hosts[0].state == "failed"
    assert here.machine.place() == alone(SECOND)
    assert here.plan("serve.max_num_seqs=3").changes == 0
    assert again(set()).succeeded
    (replica,) = plans[-1].batches[0].replicas
    assert (replica.order, replica.order_reason) == ("start before stop", "device 0, port 9010 of h1")
    assert here.machine.place() == alone(REPLICA)
    assert (here.unserved, here.dead) == ([], [])
    assert here.plan().changes == back.drift(here.request()).changes == 0
    assert here.gateway.servers == {REPLICA: {**here.gateway.servers[REPLICA], "port": 9010, "state": "in"}}
    results = [(e["result"], e.get("restores")) for e in back.history(here.request())[0]]
    assert results == [("done", None), ("done", None), ("refused", 1), ("done", 2), ("done", 1)]
    here.asked = False
    here.rollout("serve.max_num_seqs=5", options=BRIEF)
    with pytest.raises(UsageError, match="allow-downtime"):
        again(set())


@pytest.mark.parametrize("then", [(), ("serve.max_num_seqs=3",), None])
def test_a_way_back_that_is_killed_leaves_one_engine_to_the_next_run(
    world: Any, then: tuple[str, ...] | None
) -> None:
    """`None`: the way back once more."""

    def again() -> None:
        back.rollback(
            here.request(), to=None, approve=lambda plan: True, on_event=lambda event: None, options=CAREFUL
        )

    at, over = 0, False
    while not over:
        at += 4
        here: World = world()
        here.rollout(options=BRIEF)
        here.rollout("serve.max_num_seqs=3")
        here.asked = True
        here.machine.dies_at = here.machine.steps + at
        try:
            again()
            over = True
        except Killed:
            pass
        here.unlocked()
        if then is None:
            again()
        else:
            assert here.rollout(*then).succeeded, at
        assert (here.unserved, here.dead) == ([], []), at
        assert here.machine.place() in (alone(REPLICA), alone(SECOND)), at
        assert back.drift(here.request()).changes == 0, at
        assert then is None or here.plan(*then).changes == 0, at
    assert at > 30


def test_a_way_back_without_gates_ends_with_requests_too(world: Any) -> None:
    """What was stopped, or drained by a run that was killed, is out of the gateways."""
    here: World = world()
    here.rollout(options=BRIEF)
    here.rollout("serve.max_num_seqs=3", options=BRIEF)
    at_once = Options(at_once=True, allow_downtime=True)
    gone = back.rollback(
        here.request(), to=None, approve=lambda plan: True, on_event=lambda event: None, options=at_once
    )
    assert gone
    assert gone.succeeded
    assert [server["state"] for server in here.gateway.servers.values()] == ["in"]


def left_serving(here: World) -> None:
    """A rollout was killed when both had requests, and then the replica by its record went down."""
    ask = here.gateway.ask

    def killed(payload: dict[str, Any]) -> dict[str, Any]:
        if payload["do"] == "drain":
            raise Killed
        return ask(payload)

    here.rollout(options=BRIEF)
    here.gateway.ask = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        here.rollout("serve.max_num_seqs=3")
    here.gateway.ask = ask  # type: ignore[method-assign]
    here.unlocked()
    here.machine.active.discard(f"flagprov@{REPLICA}.service")
    here.gateway.servers[REPLICA]["state"] = "out"
    assert here.machine.place()[2] == [SECOND]
    here.asked = True


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("sets", [("serve.max_num_seqs=3",), ("serve.max_num_seqs=5",), ()])
def test_what_serves_alone_though_nobody_proved_it_serves_until_the_wanted_one_is_proved(
    world: Any, sets: tuple[str, ...], settled: bool
) -> None:
    here: World = world()
    left_serving(here)
    if settled:
        here.ask("h1", {"op": "mark", "replica": REPLICA, "result": "refused"})
    found = here.plan(*sets)
    said = f"flagprov-{SECOND} on h1 serves in the place of flagprov-{REPLICA}"
    assert any(said in note for note in found.notes), found.notes
    assert any(said in note for note in back.drift(here.request()).notes)
    assert f"flagprov-{SECOND} serves in its place" in status.status({})["replicas"][0]["detail"]
    assert here.rollout(*sets).succeeded
    assert (here.unserved, here.dead) == ([], [])
    assert here.machine.place() == alone(SECOND if sets == ("serve.max_num_seqs=3",) else REPLICA)
    assert here.plan(*sets).changes == 0
    assert back.drift(here.request()).changes == 0
    assert here.plan(*sets).notes == ()


def test_what_serves_alone_serves_on_where_the_wanted_one_is_refused(world: Any) -> None:
    here: World = world()
    left_serving(here)
    here.nonsense = {9010}
    found = here.rollout("serve.max_num_seqs=5")
    assert found.hosts[0].state == "failed"
    assert (here.unserved, here.dead) == ([], [])
    assert here.machine.place()[2] == [SECOND]
    here.nonsense = set()
    assert here.rollout("serve.max_num_seqs=5").succeeded
    assert (here.unserved, here.dead) == ([], [])
    assert here.machine.place() == alone(REPLICA)


def test_without_room_beside_it_downtime_is_to_be_allowed(world: Any) -> None:
    here: World = world()
    left_serving(here)
    with pytest.raises(UsageError, match="allow-downtime"):
        here.plan("serve.max_num_seqs=5", options=Options())
    with pytest.raises(UsageError, match="allow-downtime"):
        back.rollback(
            here.request(),
            to=None,
            approve=lambda plan: True,
            on_event=lambda event: None,
            options=Options(),
        )


@pytest.mark.parametrize("surge", [True, False])
def test_what_was_refused_and_not_put_back_is_said_and_proved_or_ended(world: Any, surge: bool) -> None:
    here: World = world()
    options = CAREFUL if surge else BRIEF
    here.rollout(options=BRIEF)
    ask = here.ask

    def no_way_back(host: str, payload: dict[str, Any]) -> dict[str, Any]:
        resources = payload.get("resources") or [{"kind": ""}]
        if payload["op"] == "converge" and ("from" in payload or resources[0]["kind"] == "slot"):
            raise HostError(host, "image", "disk full")
        return ask(host, payload)

    for again in range(2):
        here.ask, here.nonsense = no_way_back, {9010 if not surge else 9110}  # type: ignore[method-assign]
        assert here.rollout("serve.max_num_seqs=3", options=options).hosts[0].state == "failed"
        here.ask = ask  # type: ignore[method-assign]
        assert back.drift(here.request()).changes > 0, again
        (said,) = status.status({})["replicas"]
        assert "a second container of it" in said["detail"] if surge else status.UNPROVED in said["detail"]
        assert here.plan("serve.max_num_seqs=3", options=options).changes > 0, again
    assert here.rollout("serve.max_num_seqs=3", options=options).hosts[0].state == "failed"
    assert here.machine.place() == alone(REPLICA)
    assert back.drift(here.request()).changes == 0
    here.nonsense = set()
    assert here.rollout("serve.max_num_seqs=3", options=options).succeeded
    assert back.drift(here.request()).changes == here.plan("serve.max_num_seqs=3").changes == 0


@pytest.mark.parametrize("then", ["serve.max_num_seqs=3", "serve.max_num_seqs=5", "serve.max_num_seqs=7"])
def test_two_that_are_killed_one_after_the_other_leave_one_engine_that_was_proved(
    world: Any, then: str
) -> None:
    """The first one when both had requests, the second one at each of its steps."""
    at, over = 0, False
    while not over:
        at += 1 if 26 < at < 34 else 4
        here: World = world()
        here.rollout(options=BRIEF)
        here.asked = True
        for steps, sets in ((34, "serve.max_num_seqs=3"), (at, "serve.max_num_seqs=5")):
            here.machine.dies_at = here.machine.steps + steps
            over = not killed(here, sets)
        (said,) = status.status({})["replicas"]
        if len(here.machine.place()[2]) > 1:
            assert "a second container" in said["detail"], at
            assert back.drift(here.request()).changes > 0, at
        assert here.rollout(then).succeeded, at
        assert (here.unserved, here.dead) == ([], []), at
        assert here.machine.place() in (alone(REPLICA), alone(SECOND)), at
        assert here.plan(then).changes == 0, at
        assert back.drift(here.request()).changes == 0, at
    assert at > 30


def killed(here: World, sets: str) -> bool:
    try:
        here.rollout(sets)
    except Killed:
        return True
    finally:
        here.unlocked()
    return False
