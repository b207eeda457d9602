"""Programs of the site: what they are told, and what their answer means."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flagprov.errors import HostError, InventoryError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.plan import Batch, HostPlan, ReplicaPlan
from flagprov.rollout.hooks import Refused, hooks_of

BATCH = Batch((ReplicaPlan("m-0", (HostPlan("h1", (), ""), HostPlan("h2", (), "")), "restart"),))


def fleet(site: Path, *variables: dict[str, Any]) -> Fleet:
    hosts = [Host(f"h{n}", Connection("192.0.2.1"), variables=each) for n, each in enumerate(variables, 1)]
    return Fleet(site / "hosts.ini", tuple(hosts))


def program(site: Path, text: str) -> Path:
    path = site / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_is_told_what_happens(tmp_path: Path) -> None:
    program(tmp_path, f"cat > {tmp_path}/told")
    hooks = hooks_of(fleet(tmp_path, {"flagprov_hooks": {"on-failure": "hook"}}))
    failures = {"h1": HostError("h1", "gate", "too slow")}
    assert hooks.tell("pre-batch", "m", BATCH, 1, 3) == ""
    assert not (tmp_path / "told").exists()
    hooks.tell("on-failure", "m", BATCH, 2, 3, failures)
    assert json.loads((tmp_path / "told").read_text()) == {
        "schema_version": 1,
        "phase": "on-failure",
        "release": "m",
        "batch": 2,
        "of": 3,
        "replicas": ["m-0"],
        "hosts": ["h1", "h2"],
        "failures": {"h1": {"step": "gate", "message": "too slow"}},
    }


def test_a_program_can_say_no(tmp_path: Path) -> None:
    program(tmp_path, "echo 'freeze until Monday' >&2; exit 3")
    hooks = hooks_of(fleet(tmp_path, {"flagprov_hooks": {"pre-batch": "hook"}}))
    with pytest.raises(Refused, match="ended with 3: freeze until Monday"):
        hooks.tell("pre-batch", "m", BATCH, 1, 1)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ([{"flagprov_hooks": {"before": "hook"}}], "a mapping of pre-batch"),
        ([{"flagprov_hooks": "hook"}], "a mapping of pre-batch"),
        ([{"flagprov_hooks": {"pre-batch": "none"}}], "none is no program"),
        ([{"flagprov_webhook": "https://a"}, {"flagprov_webhook": "https://b"}], "differs between hosts"),
    ],
)
def test_wrong_settings_are_found_before_any_host(
    tmp_path: Path, variables: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(InventoryError, match=said):
        hooks_of(fleet(tmp_path, *variables))


def test_a_webhook_never_shows_itself(tmp_path: Path) -> None:
    hooks = hooks_of(fleet(tmp_path, {"flagprov_webhook": "https://chat/token"}))
    assert "token" not in repr(hooks)


@pytest.mark.parametrize("url", ["http://[x", "ftp://chat.example.com/", "http://127.0.0.1:1/"])
def test_a_webhook_that_cannot_be_told_is_noted(tmp_path: Path, url: str) -> None:
    hooks = hooks_of(fleet(tmp_path, {"flagprov_webhook": url}))
    assert "the webhook does not answer" in hooks.tell("pre-batch", "m", BATCH, 1, 1)


def test_a_webhook_of_this_network_is_told_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8,fd00::/8")
    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/chat"
        assert hooks_of(fleet(tmp_path, {"flagprov_webhook": url})).tell("pre-batch", "m", BATCH, 1, 1) == ""
    assert told == ["/chat"]
