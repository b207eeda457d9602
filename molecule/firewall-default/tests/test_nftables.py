"""A host with nftables of its own, after firewall was asked for."""

from __future__ import annotations

import socket
from typing import Any

import pytest


def reaches(host: Any, address: str, port: int) -> bool:
    """From outside: this machine is neither client nor peer."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
        connection.settimeout(2)
        return connection.connect_ex((address, port)) == 0


@pytest.fixture
def address(host: Any) -> str:
    return str(host.check_output("hostname -I").split()[0])


def test_others_do_not_get_in(host: Any, address: str) -> None:
    assert not reaches(host, address, 9010)
    assert not reaches(host, address, 10010)


def test_ssh_stays_open_though_its_port_is_among_those_that_are_closed(host: Any, address: str) -> None:
    assert reaches(host, address, 22)


def test_the_host_itself_gets_in(host: Any, address: str) -> None:
    for own in ("127.0.0.1", "::1", address):
        host.check_output(f"nc -z -w 2 {own} 9010")


def test_clients_and_peers_get_in(host: Any, address: str) -> None:
    """From a network namespace that has their addresses."""
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
    try:

        def gets_in(source: str, port: int) -> bool:
            target = "2001:db8::1" if ":" in source else "192.0.2.1"
            command = f"ip netns exec outside nc -z -w 2 -s {source} {target} {port}"
            return bool(host.run(command).rc == 0)

        assert gets_in("192.0.2.8", 9010)
        assert gets_in("2001:db8::8", 9010)
        assert not gets_in("198.51.100.9", 9010)
        assert gets_in("192.0.2.7", 10010)
        assert gets_in("2001:db8::7", 10010)
        assert not gets_in("192.0.2.8", 10010)
        assert not gets_in("2001:db8::8", 10010)
    finally:
        host.check_output("ip link delete inner; ip netns delete outside")


def test_it_survives_its_neighbour(host: Any) -> None:
    """nftables.service begins by emptying everything, at a restart and at a reload."""
    for verb in ("restart", "reload"):
        host.check_output(f"systemctl {verb} nftables.service")
        # Ours follows as a job of its own, which this waits for; a unit that is active is not started anew.
        host.check_output("systemctl start flagprov-firewall.service")
        assert "inet flagprov" in host.check_output("nft list tables"), verb
        assert "inet site" in host.check_output("nft list tables"), verb


def test_it_is_loaded_at_boot(host: Any) -> None:
    wanted = host.file("/etc/systemd/system/sysinit.target.wants/flagprov-firewall.service")
    assert wanted.linked_to == "/etc/systemd/system/flagprov-firewall.service"
    assert host.run("systemd-analyze verify --man=no flagprov-firewall.service").stderr == ""


def test_nothing_waits_to_take_it_back(host: Any) -> None:
    assert host.run("systemctl is-active flagprov-firewall-undo.timer").stdout.strip() == "inactive"
