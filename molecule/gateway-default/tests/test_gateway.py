"""A host after the role gateway with its defaults."""

from __future__ import annotations

import json
from typing import Any

ASK = """python3 -c '
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1])
except urllib.error.HTTPError as refused:
    answer = refused
print(answer.status, answer.read().decode())' %s"""


def ask(host: Any, path: str) -> tuple[int, str]:
    code, _, body = host.check_output(ASK, f"http://127.0.0.1:8000{path}").partition(" ")
    return int(code), body


def test_it_runs_and_comes_back(host: Any) -> None:
    assert host.service("flagprov-gateway").is_running
    assert host.service("flagprov-gateway").is_enabled
    assert host.service("flagprov-gateway-agent").is_enabled


def test_the_distributions_own_unit_stays_away(host: Any) -> None:
    assert not host.service("haproxy").is_running
    assert not host.service("haproxy").is_enabled


def test_without_a_replica_it_says_so(host: Any) -> None:
    assert ask(host, "/health")[0] == 200
    code, body = ask(host, "/v1/models")
    assert code == 503
    assert "no release is deployed" in json.loads(body)["error"]["message"]
    assert ask(host, "/metrics")[0] == 404


def test_its_sockets_are_roots(host: Any) -> None:
    for name in ("admin", "master"):
        socket = host.file(f"/run/flagprov-gateway/{name}.sock")
        assert socket.is_socket
        assert (socket.user, socket.mode) == ("root", 0o600)


def test_a_reload_is_taken_up(host: Any) -> None:
    assert host.run("systemctl reload flagprov-gateway").rc == 0
    assert ask(host, "/health")[0] == 200


def test_settings_are_for_the_host_program(host: Any) -> None:
    settings = json.loads(host.file("/etc/flagprov-gateway/settings.json").content_string)
    assert settings["url"].endswith(":8000")
    assert settings["standstill_s"] == 15
