"""The runner's port on a node that is entered: when it is opened, and what is said where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagprov.host import launcher_ssh
from flagprov.host.launcher_ssh import NoRunner, Runner, has_address, open_port

DAEMON = 4711


class Launching:
    """What of a node the port needs; each turn of its loop does the next of `meanwhile`."""

    def __init__(self, *meanwhile: Any) -> None:
        self.env: dict[str, str] = {}
        self.started: list[list[str]] = []
        self.ended: dict[int, int] = {}
        self.stopping = False
        self.said: list[str] = []
        self.meanwhile = list(meanwhile)

    def spawn(self, argv: list[str], plain: bool) -> int:
        self.started.append(argv)
        return DAEMON

    def turn(self) -> None:
        self.meanwhile.pop(0)(self)

    def wait_until(self, done: Any, seconds: float) -> bool:
        for _ in range(3):  # turns, in the place of seconds
            if done():
                return True
            self.turn()
        return bool(done())


class Port(Runner):
    """One whose daemon is none."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__({"rank": 1, "ssh": {"port": 1, "address": "192.0.2.7", "keys": ""}}, str(tmp_path))
        self.opened = False

    def prepare(self, env: Any) -> None:
        pass

    def daemon(self) -> list[str]:
        return ["sshd"]

    def is_open(self) -> bool:
        return self.opened


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Port:
    monkeypatch.setattr(launcher_ssh, "has_address", lambda _: True)
    return Port(tmp_path)


def test_the_port_is_opened_when_its_address_is_there(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[str] = []
    monkeypatch.setattr(launcher_ssh, "has_address", there.__contains__)

    def arrives(launching: Launching) -> None:
        assert not launching.started
        there.append("192.0.2.7")

    launching = Launching(lambda _: None, arrives, lambda _: setattr(port, "opened", True))
    assert open_port(launching, port, launching.said.append) == DAEMON
    assert launching.said == ["waiting for its own address 192.0.2.7", ""]


def test_a_stop_ends_the_wait_for_the_address(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_ssh, "has_address", lambda _: False)
    launching = Launching(lambda launching: setattr(launching, "stopping", True))
    assert open_port(launching, port, launching.said.append) is None
    assert not launching.started


def test_a_daemon_that_ends_opens_nothing_and_nobody_is_met(port: Port) -> None:
    launching = Launching(lambda launching: launching.ended.update({DAEMON: 255 << 8}))
    with pytest.raises(NoRunner, match=r"port 1 is not opened \(exit code 255\)"):
        open_port(launching, port, launching.said.append)


def test_a_port_that_does_not_open_is_said_to_be_missing(
    port: Port, capfd: pytest.CaptureFixture[str]
) -> None:
    def late(launching: Launching) -> None:
        assert launching.said == ["waiting for the runner's port 1 on 192.0.2.7"]
        port.opened = True

    launching = Launching(*3 * [lambda _: None], late)
    assert open_port(launching, port, launching.said.append) == DAEMON
    assert launching.said[1:] == [""]
    assert "waiting for the runner's port 1 on 192.0.2.7; " in capfd.readouterr().out


def test_whether_an_address_is_of_this_host() -> None:
    assert has_address("127.0.0.1")
    assert not has_address("192.0.2.7")
