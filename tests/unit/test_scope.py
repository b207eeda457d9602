"""A release's name that nobody knows is a typo; it is not told that nothing is there."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov import asking, upkeep
from flagprov.errors import FlagprovError, HostError, ReleaseError
from flagprov.models.desired import Replica
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.request import Request
from flagprov.rollout import back
from flagprov.scope import Scope, check_named
from flagprov.site import Site
from flagprov.verify import proof

MINE = {"replica": "mine-7b-0", "release": "mine-7b", "chip": "c", "hosts": ["h0"], "devices": [], "port": 1,
        "state": "ready", "wrong": []}  # fmt: skip
HOST = {"arch": "x", "os": "d", "kernel": "6", "cpus": 1, "memory_mib": 1, "docker_version": "27",
        "provisioned": None, "devices": {}, "running": [MINE], "records": {}, "facts": {},
        "looked": None}  # fmt: skip
ENTRY = {"replica": "mine-7b-0", "release": "mine-7b", "number": 1, "result": "done", "run": "1", "at": "1"}


@pytest.fixture
def scope(tmp_path: Path) -> Any:
    fleet = Fleet(tmp_path / "lab.ini", tuple(Host(name, Connection("192.0.2.1")) for name in ("h0", "h1")))
    return lambda release, **more: Scope(fleet, Site(tmp_path), release, **more)


def test_names_of_the_catalog_the_site_and_the_hosts_are_known(scope: Any, tmp_path: Path) -> None:
    check_named(scope(None), ())
    check_named(scope("qwen3-4b"), ())
    check_named(scope("mine-7b"), ["mine-7b"])  # long gone from the catalog
    check_named(scope("mine-8b", by_file=True), ())
    Site(tmp_path).remember([Replica("mine-7b-0", "mine-7b", "c", ("h0",), (0,), 9010)])
    check_named(scope("mine-7b"), (), ["h0"])


def test_a_typo_is_wrong_input_with_the_nearest_names(scope: Any) -> None:
    with pytest.raises(ReleaseError, match="no release is called 'mine7b'; nearest: mine-7b") as refused:
        check_named(scope("mine7b"), ["mine-7b", "other"])
    assert refused.value.exit_code == 2
    assert refused.value.remedy.startswith("Deployed: mine-7b, other.")
    with pytest.raises(ReleaseError, match="nearest: qwen3-4b"):
        check_named(scope("qwen3-4B"), ())


def test_what_a_silent_host_may_have_is_no_typo_yet(scope: Any) -> None:
    with pytest.raises(FlagprovError, match="nearest: mine-7b; h1 could not be asked, and may") as refused:
        check_named(scope("mine7b"), ["mine-7b"], ["h1"])
    assert refused.value.exit_code == 1


@pytest.mark.parametrize("verb", ["status", "stop", "teardown", "diff", "history", "rollback", "verify"])
@pytest.mark.parametrize("silent", [False, True])
def test_each_verb_says_so(verb: str, silent: bool, scope: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"status": {"replicas": [MINE]}, "verify": {"replicas": [MINE]}, "survey": HOST,
               "history": {"deployments": [ENTRY], "damaged": []},
               "look": {"digest": "d", "changes": [], "problems": [], "notes": {}}}  # fmt: skip

    def each(hosts: Any, work: Any, **_: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            if silent and host.name == "h1":
                found[host.name] = HostError("h1", "connect", "no answer")
            else:
                found[host.name] = work(
                    SimpleNamespace(host=host, ask=lambda asked, *_: answers[asked["op"]])
                )
        return found

    connections = nullcontext(SimpleNamespace(each=each, once=each))
    for module in (asking, upkeep, back, proof):
        monkeypatch.setattr(module, "Connections", lambda fleet: connections)
        monkeypatch.setattr(module, "scope_of", lambda request: scope(request.release))
    unasked: dict[str, Any] = {"approve": lambda plan: False, "on_event": print}

    def act(release: str) -> None:
        request = Request(Path("lab.ini"), release)
        {
            "status": lambda: asking.status(request),
            "stop": lambda: upkeep.stop(request, **unasked),
            "teardown": lambda: upkeep.teardown(request, weights=False, **unasked),
            "diff": lambda: back.drift(request),
            "history": lambda: back.history(request),
            "rollback": lambda: back.rollback(request, to=None, options=back.Options(), **unasked),
            "verify": lambda: proof.verify(request, deep=False, on_event=print),
        }[verb]()

    act("mine-7b")
    with pytest.raises(FlagprovError, match="no release is called 'mine7b'") as refused:
        act("mine7b")
    assert refused.value.exit_code == (1 if silent else 2)
