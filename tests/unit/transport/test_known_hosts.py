"""known_hosts files as OpenSSH reads them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from flagprov.models.fleet import Connection
from flagprov.transport.known_hosts import HostKey, KnownHosts, known_name, matches, parse_line

KEY = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519" + b"k" * 36)
OTHER = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519" + b"o" * 36)
RSA = HostKey("ssh-rsa", b"\0\0\0\x07ssh-rsa" + b"r" * 40)


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def connection(*files: Path, **changes: object) -> Connection:
    return Connection(**({"address": "h1", "known_hosts": tuple(map(str, files))} | changes))  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.mark.parametrize(
    ("patterns", "name", "wanted"),
    [
        ("h1", "h1", True),
        ("H1", "h1", True),
        ("h1", "h10", False),
        ("a,h1,b", "h1", True),
        ("h?", "h1", True),
        ("*.example.com,!bad.example.com", "good.example.com", True),
        ("*.example.com,!bad.example.com", "bad.example.com", False),
        ("[h1]:2222", "[h1]:2222", True),
        ("[h1]:2222", "h1", False),
        ("[*.example.com]:2222", "[a.example.com]:2222", True),
        ("[2001:db8::1]:22", "[2001:db8::1]:22", True),
        (hashed("h1"), "h1", True),
        (hashed("[h1]:2222"), "[h1]:2222", True),
        (hashed("h1"), "h2", False),
        ("|1|not base64|x", "h1", False),
    ],
)
def test_matches(patterns: str, name: str, wanted: bool) -> None:
    assert matches(patterns, name) is wanted


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "h1"),
        ({"port": 2222}, "[h1]:2222"),
        ({"address": "2001:DB8::1"}, "2001:db8::1"),
        ({"host_key_alias": "alias", "port": 2222}, "alias"),
    ],
)
def test_name(changes: dict[str, object], name: str) -> None:
    assert known_name(connection(**changes)) == name


@pytest.mark.parametrize(
    "raw", ["", "# h1 ssh-rsa AAAA", "h1 ssh-rsa", "h1 ssh-rsa !!!", "@revoked h1 ssh-rsa"]
)
def test_lines_that_are_none(raw: str) -> None:
    assert parse_line(raw) is None


def test_verdicts(file: Path) -> None:
    file.write_text(f"h1 {KEY.text} a comment\n@revoked * {RSA.text}\n")
    known = KnownHosts().lookup(connection(file))
    assert known.kinds == ("ssh-ed25519",)
    assert [known.verdict(key) for key in (KEY, OTHER, RSA)] == ["known", "changed", "revoked"]
    assert KnownHosts().lookup(connection(file, address="h2")).verdict(KEY) == "new"


def test_two_keys_of_a_kind_are_both_known(file: Path) -> None:
    file.write_text(f"h1 {OTHER.text}\nh1 {KEY.text}\n")
    known = KnownHosts().lookup(connection(file))
    assert [known.verdict(key) for key in (KEY, OTHER)] == ["known", "known"]


def test_the_first_file_that_knows_the_host_decides(file: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.write_text(f"h1 {KEY.text}\n")
    file.write_text(f"h1 {OTHER.text}\nh2 {OTHER.text}\n")
    assert KnownHosts().lookup(connection(site, file)).verdict(OTHER) == "changed"
    assert KnownHosts().lookup(connection(site, file, address="h2")).verdict(OTHER) == "known"
    assert KnownHosts().lookup(connection(tmp_path / "absent", file)).verdict(OTHER) == "known"


def test_entry_without_port_may_vouch_but_not_contradict(file: Path) -> None:
    file.write_text(f"h1 {KEY.text}\n")
    known = KnownHosts().lookup(connection(file, port=2222))
    assert [known.verdict(key) for key in (KEY, OTHER)] == ["known", "new"]


def test_certificate_authority_is_no_host_key(file: Path) -> None:
    file.write_text(f"@cert-authority *.example.com {KEY.text}\n")
    known = KnownHosts().lookup(connection(file, address="a.example.com"))
    assert known.verdict(KEY) == "new"
    assert known.authority is not None
