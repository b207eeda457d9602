from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from flagprov.errors import HostError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.transport import trust
from flagprov.transport.known_hosts import HostKey

OLD, NEW = HostKey("ssh-ed25519", b"old"), HostKey("ssh-ed25519", b"new")
SILENT = HostError("lab2", "connect", "no route to 10.0.0.2", remedy="Check that it is up.")
CONTACTS = {
    "new": trust.Contact("lab1", "10.0.0.1", (NEW,)),
    "same": trust.Contact("lab1", "10.0.0.1", (OLD,), (OLD,), "same"),
    "changed": trust.Contact("lab1", "10.0.0.1", (NEW,), (OLD,), "changed"),
    "unexpected": trust.Contact("lab1", "10.0.0.1", (NEW,), (), "unexpected"),
    "failed": trust.Contact("lab2", "10.0.0.2", state="failed", error=SILENT),
}


@pytest.fixture
def contacts(pipeline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[trust.Contact]:
    """What the hosts show; the fleet is in the test's directory."""
    found = [CONTACTS["new"]]
    fleet = Fleet(tmp_path / "lab.ini", (Host("lab1", Connection("10.0.0.1")),))
    monkeypatch.setattr(sys.modules["flagprov.fleet"], "load_fleet", lambda *_: fleet)
    monkeypatch.setattr(trust, "inspect", lambda fleet, expect=None: tuple(found))
    return found


def known(tmp_path: Path) -> str:
    file = tmp_path / ".flagprov" / "known_hosts"
    return file.read_text() if file.exists() else ""


@pytest.mark.usefixtures("contacts")
def test_new_keys_are_shown_and_written(invoke: Any, tmp_path: Path) -> None:
    result = invoke("trust", "lab.ini", "--yes")
    assert result.exit_code == 0
    assert NEW.fingerprint in result.stdout
    assert "1 key written to " in result.stdout
    assert known(tmp_path).startswith("10.0.0.1 ssh-ed25519 ")


@pytest.mark.usefixtures("contacts")
def test_without_a_terminal_the_keys_are_shown_and_nothing_is_written(invoke: Any, tmp_path: Path) -> None:
    result = invoke("trust", "lab.ini")
    assert result.exit_code == 2
    assert NEW.fingerprint in result.stdout
    assert "--expect FILE" in result.stderr
    assert not known(tmp_path)


def test_nothing_is_written_twice(contacts: list[trust.Contact], invoke: Any) -> None:
    invoke("trust", "lab.ini", "--yes")
    assert "nothing to write" in invoke("trust", "lab.ini", "--yes").stdout


@pytest.mark.usefixtures("contacts", "terminal")
@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1)])
def test_a_terminal_is_asked(invoke: Any, tmp_path: Path, answer: str, code: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("flagprov.cli.trust.can_ask", lambda: True)
    result = invoke("trust", "lab.ini", answer=answer)
    assert result.exit_code == code
    assert "trust these keys? [y/N]" in result.stderr
    assert bool(known(tmp_path)) is (code == 0)


def test_known_keys_ask_nobody(contacts: list[trust.Contact], invoke: Any, monkeypatch: Any) -> None:
    contacts[:] = [CONTACTS["same"]]
    monkeypatch.setattr("flagprov.cli.trust.can_ask", lambda: True)
    result = invoke("trust", "lab.ini")
    assert (result.exit_code, "[y/N]" in result.stderr) == (0, False)


def test_a_changed_key_is_not_trusted_unasked(
    contacts: list[trust.Contact], invoke: Any, tmp_path: Path
) -> None:
    contacts[:] = [CONTACTS["changed"]]
    result = invoke("trust", "lab.ini", "--yes")
    assert result.exit_code == 1
    assert "CHANGED" in result.stdout
    assert OLD.fingerprint in result.stdout
    assert "--replace" in result.stdout
    assert not known(tmp_path)
    assert invoke("trust", "lab.ini", "--replace", "--yes").exit_code == 0
    assert NEW.text in known(tmp_path)


def test_one_silent_host_hides_no_other(contacts: list[trust.Contact], invoke: Any, tmp_path: Path) -> None:
    contacts.append(CONTACTS["failed"])
    result = invoke("trust", "lab.ini", "--yes", "--output", "json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["schema_version"], found["written"]) == (1, 1)
    assert [host["state"] for host in found["hosts"]] == ["new", "failed"]
    assert found["hosts"][0]["keys"] == [{"kind": "ssh-ed25519", "fingerprint": NEW.fingerprint}]
    assert found["hosts"][1]["message"] == "no route to 10.0.0.2"
    text = invoke("trust", "lab.ini")
    assert "lab2, connect: no route to 10.0.0.2\n    Check that it is up." in text.stdout


def test_expected_fingerprints(contacts: list[trust.Contact], invoke: Any, tmp_path: Path) -> None:
    contacts[:] = [CONTACTS["unexpected"]]
    (tmp_path / "expected").write_text(f"lab1 {OLD.fingerprint}\n")
    result = invoke("trust", "lab.ini", "--expect", "expected")
    assert result.exit_code == 1
    assert "not the expected one" in result.stdout
    assert "ssh-keygen -lf" in result.stdout
    missing = invoke("trust", "lab.ini", "--expect", "nothing")
    said = "nothing: no such file or directory\n  Give a file with lines of HOST SHA256:"
    assert (missing.exit_code, said in missing.stderr) == (2, True)
