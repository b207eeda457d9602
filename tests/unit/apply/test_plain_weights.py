"""Plain Ansible: a host fetches missing weights by itself where it can, and says the way out where not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants

from ansible_collections.flagprov.flagprov.plugins.action import converge as action
from ansible_collections.flagprov.flagprov.plugins.module_utils.program import Refused
from ansible_collections.flagprov.flagprov.plugins.modules import converge as module
from ansible_collections.flagprov.flagprov.plugins.plugin_utils.program import ProgramAction
from flagprov import proxies

WEIGHTS = "/data/weights/Qwen3-4B"
MIRROR = "http://two:8000/m"  # a host of the fleet
HUB = {"source": "modelscope://Qwen/Qwen3-4B", "revision": "v1"}


class Program:
    """A host program whose host lacks what `change` says, until it is fetched."""

    def __init__(self, change: dict[str, Any]) -> None:
        self.change: dict[str, Any] | None = {"reason": "it is not here", "cost": "nothing", **change}
        self.asked: list[dict[str, Any]] = []
        self.steps: list[str] = []

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        if request["op"] == "look":
            changes = [self.change] if self.change else []
            return {"problems": [], "changes": changes, "notes": {}, "digest": f"of {len(changes)}"}
        if request["op"] == "fetch":
            self.change = None
        return {"storage": "nfs4 filer:/ models", "notes": {}, "seconds": {}}

    @property
    def ops(self) -> list[str]:
        return [request["op"] for request in self.asked]


def converge(program: Program, spec: dict[str, Any], environment: Any = None, check: bool = False) -> Any:
    assert program.change is not None
    resource = {"kind": program.change["kind"], "name": program.change["name"], "spec": spec}
    given = {"resources": [resource], "holder": {}, "deployment": None, "environment": environment}
    return module.converge(program, SimpleNamespace(params=given, check_mode=check))  # type: ignore[arg-type]


def weights(**fetch: Any) -> tuple[Program, dict[str, Any]]:
    program = Program({"kind": "weights", "name": WEIGHTS, "action": "fetch"})
    return program, {"path": WEIGHTS, "remedy": "bring them", "fetch": {**HUB, **fetch}}


def test_it_says_on_which_share_they_are_missing_before_anything_changes() -> None:
    program, spec = weights()
    answer = converge(program, spec)
    assert answer["lacking"] == "nfs4 filer:/ models"
    assert program.ops == ["look", "reach"]
    assert "fetch" in converge(*weights(), check=True)["diff"]["prepared"]


def test_the_host_that_is_to_fetch_does_so_and_then_converges_as_it_is() -> None:
    program, spec = weights()
    answer = converge(program, {**spec, "files": [["a", 1, "0" * 64]]}, {"HF_TOKEN": "t"})
    assert program.ops == ["look", "fetch", "look", "converge", "lease"]
    fetched = program.asked[1]
    assert fetched["spec"] == {
        **HUB, "path": WEIGHTS, "files": [["a", 1, "0" * 64]], "environment": {"HF_TOKEN": "t"}
    }  # fmt: skip
    assert program.asked[3]["digest"] == "of 0"
    assert fetched["lease"]["token"] == program.asked[4]["token"]
    assert answer["changed"] and answer["steps"] == [f"fetch {HUB['source']}"]


@pytest.mark.parametrize(("action", "restarts"), [("restart", ["endpoint of m-0"]), ("wait", [])])
def test_an_engine_is_restarted_for_how_it_is_only_where_the_look_said_so(
    action: str, restarts: list[str]
) -> None:
    program = Program({"kind": "probe", "name": "endpoint of m-0", "action": action})
    converge(program, {})
    assert program.asked[1]["restarts"] == restarts


@pytest.mark.parametrize("source", ["file:///models/Qwen3-4B", "host1:/models/Qwen3-4B"])
@pytest.mark.parametrize("check", [True, False])
def test_what_lies_on_another_machine_is_refused_in_a_check_already(source: str, check: bool) -> None:
    with pytest.raises(Refused, match="remedy: bring them, or run `flagprov deploy`"):
        converge(*weights(source=source), check=check)


@pytest.mark.parametrize("check", [True, False])
def test_an_image_that_is_fanned_out_is_refused_in_a_check_already(check: bool) -> None:
    program = Program({"kind": "image", "name": "standin:1", "action": "bring"})
    with pytest.raises(Refused, match=r"fan-out\nremedy: run `flagprov deploy`"):
        converge(program, {"brought": True}, check=check)


@pytest.mark.parametrize("check", [True, False])
def test_an_image_that_is_to_be_built_is_refused_in_a_check_already(check: bool) -> None:
    program = Program(
        {"kind": "image", "name": "standin:1", "action": "build", "reason": "it is made from r/m:1"}
    )
    with pytest.raises(Refused, match=r"made from r/m:1\nremedy: run `flagprov deploy`"):
        converge(program, {"base": {}}, check=check)


def test_a_hub_that_cannot_be_reached_leaves_two_ways_out() -> None:
    program, spec = weights()

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "fetch":
            raise Refused({"step": "weights", "message": "no route", "remedy": "check the network"})
        return Program.ask(program, request)

    program.ask = ask  # type: ignore[method-assign]
    with pytest.raises(Refused, match="remedy: check the network, or run `flagprov deploy`"):
        converge(program, spec, {})
    assert program.ops[-1] == "lease"  # given back


# --- who fetches ---


@pytest.mark.parametrize(
    ("share", "fetch_on", "check", "asked"),
    [
        ("", "", False, ["look", "fetch"]),
        ("", "one", False, ["look", "fetch"]),
        ("", "", True, ["look"]),
        ("", "two", False, ["look", "refused"]),
        ("", "two", True, ["look", "refused"]),
        ("filer:/", "two", True, ["look"]),
        ("filer:/", "two", False, ["look", "refused"]),
    ],
)
def test_each_host_fetches_unless_another_one_downloads_for_the_site(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: str, fetch_on: str, check: bool, asked: list[str]
) -> None:
    said: list[str] = []
    direct: list[str] = []
    monkeypatch.setenv("http_proxy", "http://proxy.example")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setattr(proxies, "LONGEST", 5)  # too short for all: only who is asked is in it

    def answer(self: Any, variables: Any, **more: Any) -> dict[str, Any]:
        said.append("fetch" if "environment" in more else "look")
        direct.extend([more["environment"]["no_proxy"]] if "environment" in more else [])
        return {"changed": True} if "environment" in more else {"changed": True, "lacking": share}

    monkeypatch.setattr(ProgramAction, "_answer", answer)
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    plugin = action.ActionModule.__new__(action.ActionModule)
    resources = [
        {"kind": "directory", "spec": {}},
        {"kind": "weights", "spec": {"fetch": {"source": MIRROR}}},
    ]
    plugin._task = SimpleNamespace(check_mode=check, args={"resources": resources})
    variables: dict[str, Any] = {"inventory_hostname": "one", "groups": {"all": ["one", "two"]}}
    variables |= {"flagprov_fetch_on": fetch_on} if fetch_on else {}
    found = plugin._answer(variables)
    assert "lacking" not in found
    if found.get("failed"):
        said.append("refused")
        assert "two" in found["msg"] and "remedy: run `flagprov deploy`" in found["msg"]
    assert said == asked
    assert direct == ["two"] * said.count("fetch")
