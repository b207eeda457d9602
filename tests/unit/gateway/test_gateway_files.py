"""What HAProxy is given of the servers."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.host.gateway_files import backends_text, checked, place, routes_text
from flagprov.host.gateway_proxy import old_workers, table
from flagprov.host.wire import Blocked


def server(address: str = "192.0.2.1", port: int = 9010, state: str = "in") -> dict[str, Any]:
    return {
        "address": address,
        "port": port,
        "model": "m",
        "readiness": "chat",
        "path": "/health",
        "state": state,
    }


def state(**releases: dict[str, Any]) -> dict[str, Any]:
    return {"first": next(iter(releases), None), "releases": {n: {"servers": s} for n, s in releases.items()}}


def test_who_is_in_and_who_is_not() -> None:
    text = backends_text(state(r={"r-0": server(), "r-1": server(port=9011, state="out")}), 9199)
    lines = [line.split() for line in text.splitlines() if line.lstrip().startswith("server ")]
    assert [(line[1], line[2], line[-1] == "disabled") for line in lines] == [
        ("r-0", "192.0.2.1:9010", False),
        ("r-1", "192.0.2.1:9011", True),
    ]


def test_ipv6_is_in_brackets() -> None:
    assert place(server("2001:db8::1")) == "[2001:db8::1]:9010"


def test_paths_without_a_release_go_to_the_first_or_the_one_asked_for() -> None:
    both = state(a={"a-0": server()}, b={"b-0": server()})
    assert routes_text(both, "").splitlines()[-1] == "* flagprov-a"
    assert routes_text(both, "b").splitlines()[-1] == "* flagprov-b"
    assert routes_text(both, "gone").splitlines()[-1] == "* flagprov-a"
    assert routes_text({"releases": {}, "first": None}, "") == ""


@pytest.mark.parametrize(
    ("release", "name", "address", "path"),
    [
        ("r\nglobal", "r-0", "192.0.2.1", "/health"),
        ("r", "r-0 disabled", "192.0.2.1", "/health"),
        ("r", "r-0", "192.0.2.1 backup", "/health"),
        ("r", "r-0", "", "/health"),
        ("r", "r-0\n", "192.0.2.1", "/health"),
        ("r", "r-0", "192.0.2.1\n", "/health"),
        ("r", "r-0", "192.0.2.1", "/health\nglobal"),
        ("r", "r-0", "192.0.2.1", "health"),
    ],
)
def test_nothing_slips_into_haproxys_language(release: str, name: str, address: str, path: str) -> None:
    with pytest.raises(Blocked):
        checked(release, {name: server(address)}, path)


def test_show_stat_and_show_proc() -> None:
    rows = table("# pxname,svname,scur,status,\nflagprov-r,r-0,3,UP 1/3,\n\n")
    assert rows == [{"pxname": "flagprov-r", "svname": "r-0", "scur": "3", "status": "UP 1/3", "": ""}]
    text = """#<PID>          <type>          <reloads>       <uptime>        <version>
1               master          2               0d00h01m28s     2.6.12
# workers
31              worker          0               0d00h00m00s     2.6.12
# old workers
22              worker          1               0d00h00m28s     2.6.12
23              worker          2               0d00h01m28s     2.6.12
# programs

"""
    assert old_workers(text) == ["22", "23"]
