"""The hosts' side of the preflight, with real sockets: two hosts are two addresses of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from flagprov.apply.preflight import verdicts
from flagprov.host import preflight

ONE, TWO = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((TWO, 0))) for _ in range(2)]
        found = [each.getsockname()[1] for each in sockets]
    yield found


def request(own: str, other: str, ports: list[int], seconds: float = 10, **more: Any) -> dict[str, Any]:
    peers = [{"host": f"host-{other}", "address": other, "ports": ports}]
    return {"op": "preflight", "address": own, "ports": ports, "peers": peers, "seconds": seconds, **more}


def both(one: dict[str, Any], two: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(preflight.preflight, (one, two)))
    return {"one": answers[0]["failures"], "two": answers[1]["failures"]}


def test_two_hosts_that_reach_each_other(ports: list[int]) -> None:
    said = both(request(ONE, TWO, ports), request(TWO, ONE, ports))
    assert said == {"one": [], "two": []}
    assert verdicts(said) == {}


def test_a_port_that_is_taken_is_the_hosts_own_fault(ports: list[int]) -> None:
    with socket.create_server((TWO, ports[0])):
        said = both(request(ONE, TWO, ports, 3), request(TWO, ONE, ports, 3))
    found = verdicts(said)
    assert f"port {ports[0]}: it is taken here by" in found["two"].message
    assert "it does not reach host-127.0.0.2" in found["one"].message


def test_a_host_that_nobody_reaches_is_named(ports: list[int]) -> None:
    (failure, other) = preflight.preflight(request(ONE, "127.0.0.3", ports, 1))["failures"]
    assert failure["host"] == other["host"] == "host-127.0.0.3"
    message = verdicts({"one": [failure, other]})["one"].message
    assert message.startswith("it does not reach host-127.0.0.3 (Connection refused) at port ")
    assert all(str(port) in message for port in ports)


def test_an_address_of_another_host_is_said(ports: list[int]) -> None:
    (failure, _) = preflight.preflight(request("192.0.2.9", TWO, ports, 1))["failures"]
    assert failure["why"] == "192.0.2.9 is no address of this host"


def test_a_path_that_drops_large_packets_is_said(ports: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "ATTEMPT_S", 0.3)
    with socket.create_server((TWO, ports[0])) as silent, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(preflight.preflight, request(ONE, TWO, ports[:1], 2))
        connection, _ = silent.accept()
        connection.sendall(b"x" * 100)
        failures = answer.result()["failures"]
        connection.close()
    assert "is its MTU the same?" in failures[0]["why"]
