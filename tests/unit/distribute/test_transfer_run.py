"""Who takes part in a transfer, as the controllers of a site keep it."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from flagprov.distribute.certificates import new_authority
from flagprov.distribute.chain import Member
from flagprov.distribute.run import open_run
from flagprov.site import Site

ONE, TWO = Member("h1", ("192.0.2.1",)), Member("h2", ("192.0.2.2",))


def test_a_killed_controllers_transfer_is_taken_up_at_once_and_its_key_goes(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with open_run(site, "c0ffee", [ONE, TWO]) as first:
        stored = json.loads(first.path.read_text())
    child = subprocess.Popen(["true"])
    child.wait()
    killed = {**stored, "controller": [socket.gethostname(), child.pid]}
    first.path.write_text(json.dumps(killed))
    with open_run(site, "c0ffee", [TWO]) as second:
        assert (second.job, second.port) == (first.job, first.port)
        assert not second.joined and second.chain == (TWO,)
        second.finish(keep=False)
    assert not first.path.exists()


def test_what_somebody_lacked_goes_on_at_once(tmp_path: Path) -> None:
    with open_run(Site(tmp_path), "c0ffee", [ONE]) as first:
        first.finish(keep=True)
    with open_run(Site(tmp_path), "c0ffee", [ONE]) as second:
        assert second.job == first.job and not second.joined


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_second_controller_joins_at_the_end_of_the_chain(tmp_path: Path, elsewhere: bool) -> None:
    """On a machine that shares the site's directory, or on this one."""
    site = Site(tmp_path)
    with open_run(site, "c0ffee", [ONE]) as first:
        if elsewhere:
            stored = json.loads(first.path.read_text())
            first.path.write_text(json.dumps({**stored, "controller": ["elsewhere", 1]}))
        with open_run(site, "c0ffee", [TWO]) as second:
            assert second.joined and second.chain == (ONE, TWO) and second.job == first.job
            second.finish(keep=False)
            assert first.path.exists()
        first.finish(keep=False)
        assert not first.path.exists()


def test_controllers_of_two_sites_are_not_in_each_others_way(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    sites = Site(tmp_path), Site(tmp_path / "b")
    with open_run(sites[0], "c0ffee", [ONE]) as first, open_run(sites[1], "c0ffee", [TWO]) as other:
        assert first.job != other.job and not other.joined


def test_a_run_keeps_its_key_to_itself(tmp_path: Path) -> None:
    with open_run(Site(tmp_path / ".flagprov"), "c0ffee", [Member("h1", ())]) as run:
        assert run.path.stat().st_mode & 0o077 == 0
        assert run.authority.key not in repr(run.authority)
        moved = replace(Member("h1", ()), addresses=("192.0.2.7",))
        before = run.identity(Member("h1", ()))
    with open_run(Site(tmp_path / ".flagprov"), "c0ffee", [moved]) as again:
        assert again.identity(moved) != before


def test_no_clock_decides_about_a_certificate() -> None:
    issued = new_authority().issue("h1.flagprov", ["192.0.2.1"])
    for text in (issued["ca"], issued["cert"]):
        found = x509.load_pem_x509_certificate(text.encode())
        assert (found.not_valid_before_utc.year, found.not_valid_after_utc.year) == (1970, 9999)
