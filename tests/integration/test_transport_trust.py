"""First contact with real sshds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.transport import Connections
from flagprov.transport.trust import accept, inspect, read_expected, trust
from tests.integration import sshd as real
from tests.integration.sshd import Sshd

pytestmark = pytest.mark.skipif(
    real.SSHD is None or os.geteuid() != 0, reason="needs root and openssh-server's sshd"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd(tmp_path / "sshd", kinds=("ed25519", "ecdsa", "rsa")).start()
    yield server
    server.stop()


@pytest.fixture
def jump(tmp_path: Path) -> Iterator[Sshd]:
    jump = Sshd(tmp_path / "jump").start()
    yield jump
    jump.stop()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


def fleet(site: Path, *hosts: Host) -> Fleet:
    known = (str(site / ".flagprov/known_hosts"),)

    def with_site(connection: Connection) -> Connection:
        proxy = None if connection.proxy is None else with_site(connection.proxy)
        return replace(connection, known_hosts=known, proxy=proxy)

    placed = tuple(replace(host, connection=with_site(host.connection)) for host in hosts)
    return Fleet(site / "hosts.ini", placed)


def reaches(site: Path, fleet: Fleet) -> bool:
    program = real.program(site / "programs")
    with Connections(fleet, program=lambda: program) as connections:
        outcome = connections.each(fleet.hosts, lambda session: session.ask({"op": "x"})["uid"])
    return set(outcome.values()) == {0}


def fingerprints(server: Sshd) -> set[str]:
    shown = [
        subprocess.run(
            ["ssh-keygen", "-lf", str(server.folder / f"host_{kind}.pub")], capture_output=True, text=True
        ).stdout.split()[1]
        for kind in server.kinds
    ]
    return set(shown)


def test_all_kinds_as_ssh_keygen_shows_them(server: Sshd, site: Path) -> None:
    (contact,) = inspect(fleet(site, server.host()))
    assert {key.fingerprint for key in contact.keys} == fingerprints(server)
    assert [key.kind for key in contact.keys] == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    assert not site.exists()


def test_first_contact_then_the_same(server: Sshd, site: Path) -> None:
    wanted = fleet(site, server.host())
    assert [contact.state for contact in trust(wanted)] == ["new"]
    known = site / ".flagprov/known_hosts"
    assert oct(known.stat().st_mode & 0o777) == "0o600"
    assert len(known.read_text().splitlines()) == 3
    found = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{server.port}", "-f", str(known)], capture_output=True
    )
    assert found.returncode == 0
    assert reaches(site, wanted)
    before = known.read_text()
    assert [contact.state for contact in trust(wanted)] == ["same"]
    assert known.read_text() == before


def test_changed_is_never_overwritten_unless_asked(server: Sshd, site: Path) -> None:
    wanted = fleet(site, server.host())
    trust(wanted)
    known = site / ".flagprov/known_hosts"
    other = "other.example.com ssh-ed25519 " + known.read_text().split()[2]
    known.write_text(known.read_text() + other + "\n")
    before = known.read_text()
    (server.folder / "host_ed25519").unlink()
    server.restart()
    contacts = trust(wanted)
    assert [contact.state for contact in contacts] == ["changed"]
    assert known.read_text() == before
    assert not reaches(site, wanted)
    accept(wanted, contacts, replace_changed=True)
    assert other in known.read_text().splitlines()
    assert len(known.read_text().splitlines()) == 4
    assert reaches(site, wanted)


def test_through_jump_hosts_with_their_own_keys(server: Sshd, jump: Sshd, site: Path) -> None:
    wanted = fleet(site, server.host(proxy=jump.connection()))
    contacts = trust(wanted)
    assert [(contact.host, contact.state) for contact in contacts] == [
        (f"[127.0.0.1]:{jump.port}", "new"),
        ("one", "new"),
    ]
    assert reaches(site, wanted)


def test_changed_jump_host_is_not_used(server: Sshd, jump: Sshd, site: Path) -> None:
    wanted = fleet(site, server.host(proxy=jump.connection()))
    trust(wanted)
    (jump.folder / "host_ed25519").unlink()
    jump.restart()
    first, second = inspect(wanted)
    assert first.state == "changed"
    assert second.error is not None
    assert "CHANGED" in second.error.message


@pytest.mark.parametrize("form", ["fingerprint", "known_hosts"])
def test_expected(server: Sshd, jump: Sshd, site: Path, tmp_path: Path, form: str) -> None:
    wanted = fleet(site, server.host("good"), server.host("bad"), jump.host("unlisted"))
    public = (server.folder / "host_ed25519.pub").read_text().split()
    prints = subprocess.run(
        ["ssh-keygen", "-lf", str(server.folder / "host_ed25519.pub")], capture_output=True, text=True
    ).stdout.split()[1]
    good = f"good {prints}" if form == "fingerprint" else f"good {public[0]} {public[1]}"
    (tmp_path / "expect").write_text(f"# from the console\n{good}\nbad SHA256:{'A' * 43}\n")
    contacts = trust(wanted, read_expected(tmp_path / "expect"))
    assert [contact.state for contact in contacts] == ["new", "unexpected", "unlisted"]
    lines = (site / ".flagprov/known_hosts").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["ssh-ed25519"]


def test_dead_host_is_an_outcome(server: Sshd, site: Path) -> None:
    wanted = fleet(site, server.host("alive"), server.host("dead", port=real.free_port()))
    contacts = trust(wanted)
    assert [contact.state for contact in contacts] == ["new", "failed"]
    assert "refuses" in str(contacts[1].error)


def test_line_that_names_several_hosts(server: Sshd, site: Path) -> None:
    wanted = fleet(site, server.host())
    trust(wanted)
    known = site / ".flagprov/known_hosts"
    known.write_text("\n".join(f"friend,{line}" for line in known.read_text().splitlines()) + "\n")
    (server.folder / "host_rsa").unlink()
    server.restart()
    trust(wanted, replace_changed=True)
    lines = known.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["friend"] * 3 + [f"[127.0.0.1]:{server.port}"] * 3
    assert reaches(site, wanted)
