"""What was read of an inventory is used again while nothing has changed, and only where that is safe."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flagprov.inventory_cache import Kept, kept

PLAIN = "[flagprov_serving]\nh1 ansible_host=192.0.2.1 flagprov_chip=cpu-x86\n"


def answer(**variables: Any) -> dict[str, Any]:
    host = {"name": "h1", "ssh": {"password": None}, "become": {"password": None}, "variables": variables}
    return {"hosts": [host], "others": [], "serving": True, "gateways": []}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "hosts.ini").write_text(PLAIN)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("flagprov_site: a\n")
    (tmp_path / ".flagprov").mkdir()
    return tmp_path


def place(site: Path, limit: str | None = None) -> Kept | None:
    return kept(site / "hosts.ini", limit, "request")


def test_it_is_kept_for_its_owner_only(site: Path) -> None:
    first = place(site)
    assert first is not None and first.read() is None
    first.write(answer(flagprov_site="a"))
    again = place(site)
    assert again is not None and again.read() == answer(flagprov_site="a")
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600


CHANGES: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "the inventory": lambda site, patch: (site / "hosts.ini").write_text(PLAIN + "h2\n"),
    "group_vars": lambda site, patch: (site / "group_vars" / "all.yml").write_text("flagprov_site: b\n"),
    "a new file in host_vars": lambda site, patch: write(site / "host_vars" / "h1.yml", "a: 1\n"),
    "ansible.cfg": lambda site, patch: (site / "ansible.cfg").write_text("[defaults]\nremote_user = x\n"),
    "the user's ansible.cfg": lambda site, patch: write(site / "home" / ".ansible.cfg", "[defaults]\n"),
    "the environment": lambda site, patch: patch.setenv("ANSIBLE_REMOTE_USER", "x"),
    "the working directory": lambda site, patch: patch.chdir("/"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_is_seen(
    site: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, pytest.MonkeyPatch], object]
) -> None:
    first = place(site)
    assert first is not None
    first.write(answer())
    change(site, monkeypatch)
    again = place(site)
    assert again is not None and again.read() is None


@pytest.mark.parametrize(
    "text",
    [
        "h1 x=\"{{ lookup('env', 'USER') }}\"\n",
        "h1 x=\"{{ query('pipe', 'date') }}\"\n",
        'h1 x="{{ now() }}"\n',
        'h1 x="{% if true %}1{% endif %}"\n',
        'h1 x="{{ [1, 2] | random }}"\n',
        "# $ANSIBLE_VAULT;1.1;AES256\n",
    ],
)
def test_what_is_computed_or_secret_is_asked_each_time(site: Path, text: str) -> None:
    (site / "hosts.ini").write_text(text)
    assert place(site) is None


def test_so_are_scripts_plugins_and_limits(site: Path) -> None:
    assert place(site, limit="h1") is None
    (site / "group_vars" / "plugin.yml").write_text("plugin: amazon\n")
    assert place(site) is None
    (site / "group_vars" / "plugin.yml").unlink()
    assert place(site) is not None
    (site / "hosts.ini").chmod(0o755)
    assert place(site) is None


@pytest.mark.parametrize(
    "found",
    [
        answer(my_password="x"),
        answer(container_engine_https_proxy="http://user:pw@proxy:3128"),
        {"hosts": [{**answer()["hosts"][0], "become": {"password": "x"}}]},
        {"hosts": [{**answer()["hosts"][0], "ssh": {"private_key_passphrase": "x"}}]},
        {"error": {"kind": "empty", "message": "no host"}},
    ],
)
def test_no_secret_and_no_error_is_written(site: Path, found: dict[str, Any]) -> None:
    first = place(site)
    assert first is not None
    first.write(found)
    assert not first.path.exists()


def test_a_broken_file_is_no_answer(site: Path) -> None:
    first = place(site)
    assert first is not None
    first.write(answer())
    first.path.write_text("{")
    assert first.read() is None


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
