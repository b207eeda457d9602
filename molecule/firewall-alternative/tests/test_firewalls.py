"""Hosts with firewalld and with ufw, after firewall with nearly every variable changed."""

from __future__ import annotations

import socket
from typing import Any

import pytest


def reaches(host: Any, port: int) -> bool:
    """From outside: this machine is neither client nor peer."""
    address = host.check_output("hostname -I").split()[0]
    with socket.socket() as connection:
        connection.settimeout(2)
        return connection.connect_ex((address, port)) == 0


def test_others_do_not_get_in(host: Any) -> None:
    """On one of the hosts a rule of the site's own would let everybody in."""
    assert not reaches(host, 9010)
    assert not reaches(host, 10010)


def test_ssh_and_what_is_the_sites_stay_as_they_were(host: Any) -> None:
    assert reaches(host, 22)
    ufw = host.run("command -v ufw").rc == 0
    assert reaches(host, 8080) == ufw


@pytest.fixture
def outside(host: Any) -> Any:
    """A network namespace that has the addresses of clients, peers and others."""
    host.check_output(
        "ip netns add outside && ip link add inner type veth peer name outer netns outside"
        " && ip address add 192.0.2.1/24 dev inner && ip link set inner up"
        " && ip -6 address add 2001:db8::1/64 dev inner nodad"
        " && ip -n outside link set outer up"
        " && for address in 192.0.2.7/24 192.0.2.8/24 198.51.100.9/24 2001:db8::7/64 2001:db8::8/64;"
        " do ip -n outside address add $address dev outer nodad 2>/dev/null ||"
        " ip -n outside address add $address dev outer; done"
        " && ip route add 198.51.100.0/24 dev inner"
    )

    def gets_in(source: str, port: int) -> bool:
        target = "2001:db8::1" if ":" in source else "192.0.2.1"
        command = f"ip netns exec outside nc -z -w 2 -s {source} {target} {port}"
        return bool(host.run(command).rc == 0)

    yield gets_in
    host.check_output("ip link delete inner; ip netns delete outside")


def test_clients_and_peers_get_in(outside: Any) -> None:
    assert outside("192.0.2.8", 9010)
    assert outside("2001:db8::8", 9010)
    assert not outside("198.51.100.9", 9010)
    for peer in ("192.0.2.7", "2001:db8::7"):
        assert outside(peer, 10010)
        assert outside(peer, 40000)
    for client in ("192.0.2.8", "2001:db8::8"):
        assert not outside(client, 10010)
        assert not outside(client, 40000)


def test_it_is_there_at_boot(host: Any) -> None:
    if host.run("command -v ufw").rc == 0:
        assert host.file("/etc/ufw/ufw.conf").contains("ENABLED=yes")
    else:
        assert host.service("firewalld").is_enabled


def test_nothing_waits_to_take_it_back(host: Any) -> None:
    assert host.run("systemctl is-active flagprov-firewall-undo.timer").stdout.strip() == "inactive"
