"""Where nodes meet when there is IPv6 only, or IPv6 beside IPv4."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_placement_groups import wish

from flagprov.cluster import Unconnected, nodes_of
from flagprov.models.fleet import Connection, Host
from flagprov.models.observed import Survey

ROUTES = [
    {"network": "::/0", "interface": "eth0", "metric": 1024},
    {"network": "2001:db8::/64", "interface": "eth0", "metric": 256},
]


def six(number: int, **facts: object) -> tuple[Host, Survey]:
    base = wish(number)
    address = f"2001:db8::1{number}"
    networks = {"addresses": {}, "addresses6": {"eth0": address}, "routes": ROUTES, **facts}
    host = replace(base.host, connection=Connection(address))
    return host, replace(base.survey, facts={"networks": networks})


def test_hosts_with_ipv6_only_meet_there() -> None:
    hosts, surveys = zip(six(0), six(1), strict=True)
    nodes = nodes_of(hosts, {each.host: each for each in surveys})
    assert [(node.address, node.interface) for node in nodes] == [
        ("2001:db8::10", "eth0"), ("2001:db8::11", "eth0")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "taken"),
    [("ssh-ed25519 AAAA/+0=", "ssh-ed25519 AAAA/+0="), ("ssh-ed25519 A\n* ssh-ed25519 B", ""), (None, "")],
)
def test_a_hosts_own_key_is_taken_where_it_is_one(said: object, taken: str) -> None:
    hosts, surveys = zip(six(0), six(1), strict=True)
    told = {each.host: replace(each, facts={**each.facts, "host_key": said}) for each in surveys}
    assert [node.host_key for node in nodes_of(hosts, told)] == [taken, taken]


def test_nodes_of_two_families_cannot_meet() -> None:
    one, other = six(0), wish(1)
    other_host = replace(other.host, variables={"flagprov_cluster_address": "192.0.2.2"})
    one_host = replace(one[0], variables={"flagprov_cluster_address": "2001:db8::10"})
    surveys = {one_host.name: one[1], other_host.name: other.survey}
    with pytest.raises(Unconnected, match=r"192\.0\.2\.2 and 2001:db8::10 of h0 cannot meet"):
        nodes_of((one_host, other_host), surveys)
