"""What the host program does to a gateway, with an HAProxy of a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import engine, gateway, gateway_proxy
from flagprov.host.shell import Result
from flagprov.host.wire import Blocked


class Proxy:
    """Keeps servers as HAProxy's runtime API would; `requests` are those at work, one ends with each look."""

    def __init__(self) -> None:
        self.status: dict[str, str] = {}
        self.requests: dict[str, int] = {}
        self.reloads = 0
        self.valid = True
        self.active = True
        self.said: list[str] = []

    def ask(self, command: str, path: str = "") -> str:
        self.said.append(command)
        words = command.split()
        if command == "show stat":
            rows = []
            for name, status in self.status.items():
                rows.append(f"flagprov-r,{name},{self.requests.get(name, 0)},0,{status},L7OK,")
                self.requests[name] = max(0, self.requests.get(name, 0) - 1)
            return "\n".join(["# pxname,svname,scur,qcur,status,check_status,check_desc", *rows, "", ""])
        if words[:2] == ["add", "server"]:
            self.status[words[2].split("/")[1]] = "MAINT"
            return "New server registered.\n"
        if command.endswith(("state ready", "state drain", "state maint")):
            self.status[words[2].split("/")[1]] = {"ready": "UP", "drain": "DRAIN", "maint": "MAINT"}[
                words[4]
            ]
        if command == "show info":
            return f"Name: HAProxy\nPid: {self.reloads + 100}\n"
        return "\n" if command != "show proc" else "# workers\n# old workers\n# programs\n"

    def run(self, argv: list[str], timeout: float = 0) -> Result:
        if argv[0] == "haproxy":
            return Result(0 if self.valid else 1, "", "" if self.valid else "[ALERT] no such thing\n")
        if argv[:2] == ["systemctl", "reload"]:
            self.reloads += 1
            written = Path(gateway.HOME, "backends.cfg").read_text().splitlines()
            servers = [line.split() for line in written if line.lstrip().startswith("server ")]
            self.status = {words[1]: "MAINT" if words[-1] == "disabled" else "UP" for words in servers}
        return Result(0, "", "")


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    found = Proxy()
    for name in ("HOME", "STATE", "UNITS"):
        monkeypatch.setattr(gateway, name, str(tmp_path / name.lower()))
    monkeypatch.setattr(gateway, "SETTINGS", str(tmp_path / "etc" / "settings.json"))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "settings.json").write_text('{"agent_port": 9199}')
    monkeypatch.setattr(gateway, "run", found.run)
    state = lambda unit: {"ActiveState": "active" if found.active else "inactive"}  # noqa: E731
    monkeypatch.setattr(gateway, "unit_state", state)
    monkeypatch.setattr(gateway_proxy, "ask", found.ask)
    monkeypatch.setattr(gateway, "agent_says", lambda name: {"state": "up", "detail": ""})
    monkeypatch.setattr(engine, "completion", lambda *_, **__: {"text": "hello"})
    yield found


def server(port: int = 9010) -> dict[str, Any]:
    return {"address": "192.0.2.1", "port": port, "model": "m", "readiness": "chat", "path": "/health"}


def ask(do: str, **more: Any) -> dict[str, Any]:
    return gateway.answer({"op": "gateway", "do": do, "release": "r", **more})


def wanted() -> dict[str, str]:
    state = json.loads(Path(gateway.HOME, "backends.json").read_text())
    return {name: s["state"] for r in state["releases"].values() for name, s in r["servers"].items()}


def test_a_new_replica_gets_nothing_before_it_is_let_in(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    assert (proxy.status, wanted()) == ({"r-0": "MAINT"}, {"r-0": "out"})
    ask("admit", replica="r-0")
    assert (proxy.status, wanted()) == ({"r-0": "UP"}, {"r-0": "in"})


def test_one_more_joins_without_a_reload_and_disturbs_nobody(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    ask("admit", replica="r-0")
    reloads = proxy.reloads
    ask("put", servers={"r-0": server(), "r-1": server(9011)})
    assert proxy.reloads == reloads
    assert wanted() == {"r-0": "in", "r-1": "out"}
    assert proxy.status == {"r-0": "UP", "r-1": "MAINT"}


def test_the_same_again_changes_nothing(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    proxy.said.clear()
    assert ask("put", servers={"r-0": server()}) == {"changes": 0}
    assert not [command for command in proxy.said if command.startswith(("set", "add"))]


def test_one_that_moved_is_let_in_anew(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    ask("admit", replica="r-0")
    ask("put", servers={"r-0": server(9020)})
    assert wanted() == {"r-0": "out"}
    assert "192.0.2.1:9020" in Path(gateway.HOME, "backends.cfg").read_text()


def test_what_haproxy_refuses_is_not_written(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    before = Path(gateway.HOME, "backends.cfg").read_text()
    proxy.valid = False
    with pytest.raises(Blocked) as refused:
        ask("put", servers={"r-0": server(), "r-1": server(9011)})
    assert "no such thing" in refused.value.log
    assert Path(gateway.HOME, "backends.cfg").read_text() == before
    assert wanted() == {"r-0": "out"}


def test_a_drain_ends_with_the_last_request_and_survives_a_restart(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server(), "r-1": server(9011)})
    for name in ("r-0", "r-1"):
        ask("admit", replica=name)
    proxy.requests = {"r-0": 3, "r-1": 5}
    assert ask("drain", replicas=["r-0"], deadline_s=30) == {"sessions": 0, "replicas": ["r-0"]}
    assert proxy.status == {"r-0": "MAINT", "r-1": "UP"}
    assert wanted() == {"r-0": "out", "r-1": "in"}
    line = next(x for x in Path(gateway.HOME, "backends.cfg").read_text().splitlines() if "server r-0" in x)
    assert line.endswith("disabled")


def test_a_drain_has_a_deadline(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    ask("admit", replica="r-0")
    proxy.requests = {"r-0": 1000}
    assert ask("drain", replicas=["r-0"], deadline_s=0)["sessions"] > 0
    assert proxy.status == {"r-0": "MAINT"}


def test_one_that_the_agent_refuses_stays_out(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("put", servers={"r-0": server()})
    monkeypatch.setattr(gateway, "agent_says", lambda name: {"state": "down", "detail": "hung: 3 requests"})
    with pytest.raises(Blocked, match="hung: 3 requests"):
        ask("admit", replica="r-0", deadline_s=0)
    assert wanted() == {"r-0": "out"}


def test_one_that_haproxy_keeps_down_stays_out(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("put", servers={"r-0": server()})
    monkeypatch.setattr(gateway, "_status", lambda release, name: "DOWN 1/3")
    with pytest.raises(Blocked, match="keeps r-0 out: DOWN"):
        ask("admit", replica="r-0", deadline_s=0)
    assert (proxy.status, wanted()) == ({"r-0": "MAINT"}, {"r-0": "out"})


def test_the_last_replica_takes_its_release_along(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    assert ask("remove", replicas=["r-0", "never-there"]) == {"changes": 1}
    assert wanted() == {}
    assert Path(gateway.HOME, "routes.map").read_text() == ""


def test_a_gateway_that_serves_is_not_taken_away(proxy: Proxy) -> None:
    ask("put", servers={"r-0": server()})
    assert ask("uninstall") == {"changes": 0}
    assert Path(gateway.HOME).exists()
    ask("remove", replicas=["r-0"])
    assert ask("uninstall") == {"changes": 1}
    assert not Path(gateway.HOME).exists()


def test_a_host_without_the_role_says_so(proxy: Proxy) -> None:
    Path(gateway.SETTINGS).unlink()
    with pytest.raises(Blocked, match="no gateway yet"):
        ask("put", servers={"r-0": server()})
