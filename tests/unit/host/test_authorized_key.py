"""A line in root's authorized_keys: placed beside those of others, and taken away again."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.host.resources import authorized_key
from flagprov.host.resources.authorized_key import apply, diff, observe, refusal
from flagprov.host.wire import Blocked

PLACED = {"mark": "flagprov r-0", "from": "192.0.2.1", "options": "PYTHON"}
ABSENT = {"mark": "flagprov r-0", "absent": True}
OTHERS = "ssh-rsa AAAA admin\n# flagprov r-0 is ours\nrestrict ssh-ed25519 B flagprov x-r-0"
LETS_IN = (
    "permitrootlogin without-password\npubkeyauthentication yes\nauthorizedkeysfile .ssh/authorized_keys"
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(authorized_key.pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(tmp_path)))
    monkeypatch.setattr(authorized_key, "run", lambda *_, **__: SimpleNamespace(code=0, out=LETS_IN))
    return tmp_path / ".ssh/authorized_keys"


def converge(spec: dict[str, Any], key: str = "ssh-ed25519 A") -> None:
    if not spec.get("absent"):
        place = Path(authorized_key.pwd.getpwuid(0).pw_dir) / "key.pub"
        place.write_text(key + "\n")
        spec = {**spec, "key": str(place)}
    observed = observe(spec)
    assert diff(spec, observed, set())
    apply(spec, observed)
    assert not diff(spec, observe(spec), set())


def test_a_file_is_made_and_taken_away(file: Path) -> None:
    converge(PLACED)
    assert file.read_text() == f"{sys.executable} ssh-ed25519 A flagprov r-0\n"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    converge(ABSENT)
    assert not file.exists()
    assert not diff(ABSENT, observe(ABSENT), set())


def test_what_others_have_there_stays(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(OTHERS)  # without an end of line
    file.chmod(0o644)
    converge(PLACED)
    converge({**PLACED, "options": "restrict"}, "ssh-ed25519 C")
    assert file.read_text() == f"{OTHERS}\nrestrict ssh-ed25519 C flagprov r-0\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    converge(ABSENT)
    assert file.read_text() == OTHERS + "\n"


def test_lines_of_others_stay_byte_for_byte(file: Path) -> None:
    """What sshd takes for one line is one: a key that hides in a comment must not come to life."""
    others = "# old:\x0cssh-rsa AAAA gone\r\nssh-rsa AAAA a\x85b\u2028c\r\n\n".encode() + b"# \xff\n"
    file.parent.mkdir()
    file.write_bytes(others)
    converge(PLACED)
    assert file.read_bytes() == others + f"{sys.executable} ssh-ed25519 A flagprov r-0\n".encode()
    converge(ABSENT)
    assert file.read_bytes() == others


def test_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    real = tmp_path / "keys"
    real.write_text(OTHERS + "\n")
    file.symlink_to(real)
    converge(PLACED)
    converge(ABSENT)
    assert file.is_symlink()
    assert real.read_text() == OTHERS + "\n"


def test_only_the_command_gets_this_python(file: Path) -> None:
    converge(PLACED, "ssh-ed25519 APYTHONB")
    assert file.read_text() == f"{sys.executable} ssh-ed25519 APYTHONB flagprov r-0\n"


def test_without_a_key_nothing_is_placed(file: Path, tmp_path: Path) -> None:
    spec = {**PLACED, "key": str(tmp_path / "none")}
    observed = observe(spec)
    assert diff(spec, observed, set())
    with pytest.raises(Blocked, match="no key in"):
        apply(spec, observed)
    assert not file.exists()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", ""),  # it does not tell
        (LETS_IN, ""),
        (LETS_IN.replace("without-password", "forced-commands-only"), ""),
        (LETS_IN.replace("without-password", "no"), "PermitRootLogin no"),
        (LETS_IN.replace("yes", "no"), "PubkeyAuthentication no"),
        (LETS_IN.replace(".ssh/authorized_keys", "/etc/ssh/keys/%u"), "AuthorizedKeysFile /etc/ssh/keys/%u"),
        (LETS_IN.replace(".ssh/", "/etc/ssh/%u %h/.ssh/"), ""),
        (LETS_IN + "\nauthenticationmethods any", ""),
        (LETS_IN + "\nauthenticationmethods publickey,password publickey", ""),
        (LETS_IN + "\nauthenticationmethods publickey,password", "more than a key"),
        (LETS_IN + "\nallowusers admin\nallowusers roo?", ""),
        (LETS_IN + "\nallowusers admin\nallowusers root@192.0.2.*", ""),
        (LETS_IN + "\nallowusers admin\nallowusers deployer", "AllowUsers admin deployer"),
        (LETS_IN + "\ndenyusers root@192.0.2.9", ""),
        (LETS_IN + "\ndenyusers root", "DenyUsers root"),
        (LETS_IN + "\nallowgroups root", ""),
        (LETS_IN + "\nallowgroups people", "AllowGroups people"),
    ],
)
def test_an_sshd_that_would_not_let_root_in_says_so(said: str, why: str) -> None:
    assert why in refusal(said)
    assert bool(why) == bool(refusal(said))
