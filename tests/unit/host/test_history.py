"""The history of a replica: numbered, bounded, and enough to go back."""

from pathlib import Path
from typing import Any

import pytest

from flagprov.host import docker, history, lease, slots
from flagprov.host.resources import container
from flagprov.host.wire import Blocked


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "STATE", str(tmp_path))


def resources(config: str) -> list[dict[str, Any]]:
    return [
        {"kind": "image", "replica": "m-0", "spec": {}},
        {"kind": "container", "replica": "m-0", "spec": {"config": config}},
        {"kind": "container", "replica": "n-0", "spec": {"absent": True}},
    ]


def deploy(config: str, result: str = "done") -> None:
    history.remember(resources(config), {"command": f"deploy {config}"}, result)


def config_of(number: int | None) -> str:
    assert number is not None
    return str(history.read("m-0", number)["resources"][1]["spec"]["config"])


def test_deployments_are_numbered_and_listed() -> None:
    deploy("a")
    deploy("b")
    entries = history.answer({})["deployments"]
    assert [(e["replica"], e["number"], e["command"]) for e in entries] == [
        ("m-0", 1, "deploy a"),
        ("m-0", 2, "deploy b"),
    ]


def test_the_oldest_go() -> None:
    for number in range(history.KEEP + 5):
        deploy(str(number))
    assert history.numbers("m-0") == list(range(6, history.KEEP + 6))


def test_what_served_last_stays_however_often_others_failed() -> None:
    deploy("a")
    for number in range(history.KEEP + 5):
        deploy(str(number), "failed")
    assert config_of(history.last_good("m-0")) == "a"
    assert len(history.numbers("m-0")) == history.KEEP + 1
    deploy("b")
    deploy("b")
    assert 1 not in history.numbers("m-0")


def test_back_is_the_last_that_served_and_was_different() -> None:
    deploy("a")
    deploy("b")
    deploy("b")
    assert config_of(history.previous("m-0")) == "a"


def test_back_from_a_failure_is_the_last_that_served() -> None:
    deploy("a")
    deploy("b", "failed")
    assert config_of(history.previous("m-0")) == "a"
    assert config_of(history.last_good("m-0")) == "a"


def test_a_deployment_that_started_but_was_refused_is_never_gone_back_to() -> None:
    deploy("a")
    deploy("b", "pending")
    history.mark("m-0", "refused")
    assert config_of(history.previous("m-0")) == "a"


def test_what_was_settled_stays_as_it_is() -> None:
    deploy("a")
    history.mark("m-0", "refused")
    assert history.read("m-0", 1)["result"] == "done"


def test_who_lost_his_lease_settles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest deployment may be that of another run by now."""
    monkeypatch.setattr(lease, "STATE", str(tmp_path))
    mine, other = (
        {"token": token, "holder": token, "command": "deploy", "since": "now", "ttl_s": 60}
        for token in ("mine", "other")
    )
    deploy("a", "pending")
    lease.take(other)
    with pytest.raises(Blocked, match="held by other"):
        history.marked({"replica": "m-0", "result": "done", "lease": mine})
    assert history.read("m-0", 1)["result"] == "pending"
    history.marked({"replica": "m-0", "result": "done", "lease": other})
    assert history.read("m-0", 1)["result"] == "done"


def test_what_was_never_proved_is_known_and_makes_way() -> None:
    history.remember(resources("a"), {"gated": True, "before": {"m-0": {"x": 1}, "n-0": {}}}, "pending")
    assert history.read("m-0", 1)["before"] == {"x": 1}
    assert history.unproved() == {"m-0": True}
    assert history.last_good("m-0") is None
    deploy("b")
    assert history.unproved() == {}
    assert history.read("m-0", 1)["result"] == "cut off"


@pytest.mark.parametrize(
    ("link", "digest", "running", "knows_links", "found"),
    [
        ("good", "same", True, True, {}),
        ("bad", "same", True, True, {"m-0": True}),
        (None, "same", True, True, {"m-0": True}),
        ("good", "other", True, True, {"m-0": True}),
        ("bad", "same", False, True, {}),
        (None, "same", True, False, {}),
        (None, "other", True, False, {"m-0": True}),
    ],
    ids=[
        "what served runs on",
        "its container runs another configuration",
        "its container runs nobody knows what",
        "another container runs",
        "nothing runs",
        "what served before there were links runs on",
        "another one than what served before there were links",
    ],
)
def test_after_a_failure_what_runs_is_proved_only_where_it_is_what_served_last(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    link: str | None,
    digest: str,
    running: bool,
    knows_links: bool,
    found: dict[str, bool],
) -> None:
    monkeypatch.setattr(slots, "STATE", str(tmp_path))
    monkeypatch.setattr(docker, "container", lambda _: {"State": {"Running": running}})
    monkeypatch.setattr(container, "observe", lambda _: {"digest": digest, "wanted": "same"})
    configs = tmp_path / "replicas" / "m-0" / "configs"
    configs.mkdir(parents=True)
    if link:
        (configs / "current").symlink_to(link)
    for name, result in (("good", "done"), ("bad", "failed")):
        spec = {"path": str(configs / "current"), "config": str(configs / name)}
        brought = [{"kind": "container", "name": "flagprov-m-0", "replica": "m-0", "spec": {}}]
        if knows_links:
            brought.append({"kind": "current", "name": spec["path"], "replica": "m-0", "spec": spec})
        history.remember(brought, {}, result)
    assert history.unproved() == found


DAMAGED = ["half an ent", "[]", '"x"', '{"schema_version": 99}', '{"schema_version": "two"}']


@pytest.mark.parametrize("damaged", DAMAGED)
def test_an_entry_that_cannot_be_read_is_its_own_replicas_alone(tmp_path: Path, damaged: str) -> None:
    """Neither what others are is hidden by it, nor what is deployed next refused."""
    history.remember(resources("a"), {"gated": True}, "pending")
    beside = tmp_path / "replicas" / "a-0" / "deployments" / "1.json"
    beside.parent.mkdir(parents=True)
    beside.write_text(damaged)
    assert history.unproved() == {"m-0": True}

    deploy("b")
    (tmp_path / "replicas" / "m-0" / "deployments" / "3.json").write_text(damaged)
    assert history.unproved() == {}
    for number in range(history.KEEP + 5):
        deploy(str(number), "failed")
    assert config_of(2) == "b"


def test_what_is_put_back_is_that_of_the_run_which_made_it() -> None:
    history.remember(resources("a"), {"at": "1", "by": "x", "set": ["port=1"]}, "done")
    history.remember(resources("b"), {"at": "2", "by": "y"}, "refused")
    wishes = [{"replica": "m-0", "number": 1}]
    back = {"at": "2", "by": "y", "set": []}
    history.remember(history.chosen(wishes), back, "done", history.restored(wishes))
    first, second, third = history.answer({})["deployments"]
    assert (third["run"], third["set"], third["restores"]) == ("1 x", ["port=1"], 1)
    assert first["what"] == third["what"] != second["what"]


def test_what_never_served_is_not_gone_back_to_by_number() -> None:
    deploy("a", "refused")
    with pytest.raises(Blocked, match="deployment 1 of m-0 never served: refused"):
        history.chosen([{"replica": "m-0", "number": 1}])


def test_nowhere_to_go() -> None:
    deploy("a")
    with pytest.raises(Blocked, match="no earlier deployment"):
        history.chosen([{"replica": "m-0", "number": None}])
    with pytest.raises(Blocked, match="no deployment 7"):
        history.chosen([{"replica": "m-0", "number": 7}])


def test_what_was_deployed_last_is_known_for_the_same_settings_only() -> None:
    history.remember(resources("a"), {"release": "m", "set": ["port=1"]}, "done")
    mine = resources("a")[:2]
    assert history.asked(history.latest("m", ["port=1"])) == history.asked(reversed(mine))
    assert history.asked(mine) != history.asked(mine[:1])
    assert history.latest("m", []) == []
    assert history.latest("other", ["port=1"]) == []


def test_keys_are_no_part_of_the_history(tmp_path: Path) -> None:
    key = {"kind": "file", "replica": "m-0", "spec": {"path": "/k", "content": "PRIVATE", "secret": True}}
    history.remember([*resources("a"), key], {"command": "deploy a"}, "done")
    assert all("PRIVATE" not in path.read_text() for path in tmp_path.rglob("*.json"))
    assert config_of(1) == "a"


def test_a_damaged_entry_is_named_and_hides_no_other(tmp_path: Path) -> None:
    deploy("a")
    deploy("b")
    path = tmp_path / "replicas/m-0/deployments/1.json"
    for text in ("", "[]", '{"result": "done"}'):
        path.write_text(text)
        answer = history.answer({"damaged": True})
        assert [entry["number"] for entry in answer["deployments"]] == [2]
        assert [each["message"] for each in answer["damaged"]] == [f"deployment 1 of m-0 is damaged: {path}"]
        with pytest.raises(Blocked, match="deployment 1 of m-0 is damaged"):
            history.answer({})
