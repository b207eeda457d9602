"""Build steps on a host: what docker is asked for, and what becomes of its answers."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import build, docker, image_layer, jobs
from flagprov.host.fetch import hidden
from flagprov.host.wire import Blocked

GEMS = {
    "words": "pip install gems",
    "python": "/opt/python3",
    "archive": "c.tar",
    "directory": "python",
    "version": "",
}
PACKAGE = {"words": "pip install a==1", "python": "python3", "pip": "a==1"}
# Takes docker's place: notes its words and the proxy that it is given, plays pip, and gives a layer.
DOCKER = """#!/bin/sh
printf '%s\\n' "$HTTPS_PROXY $*" >> "$0.asked"
case "$*" in
  *pip\\ install*) echo "doing it"; cat "$0.says" 2>/dev/null; [ ! -e "$0.says" ] ;;
  *interactive*) cat ;;
esac
"""


def answered(method: str, path: str, **_: Any) -> list[dict[str, Any]]:
    """Two builds are there besides, and the changes in the container."""
    if path.endswith("/changes"):
        return [{"Path": "/a", "Kind": 1}]
    assert path.startswith("/containers/json?all=1&filters=") and "io.flagprov.build" in path
    return [{"Names": ["/flagprov-build-killed"]}, {"Names": ["/flagprov-build-going-on"]}]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What docker was asked."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(build, "ROOT", str(tmp_path / "oci"))
    monkeypatch.setattr(build, "PROXIES", str(tmp_path / "proxy.env"))
    monkeypatch.setattr(build, "PIP", str(tmp_path / "pip.conf"))
    monkeypatch.setattr(build, "AUTHORITIES", (str(tmp_path / "none.crt"), str(tmp_path / "trusted.crt")))
    monkeypatch.setattr(docker, "image_id", lambda reference, digests: "sha256:base")
    monkeypatch.setattr(jobs, "ROOT", str(tmp_path / "jobs"))
    monkeypatch.setattr(docker, "call", answered)
    return program.with_name("docker.asked")


def spec(*steps: dict[str, str]) -> dict[str, Any]:
    return {"name": "0123-amd64", "reference": "r/m:1", "digests": [], "steps": list(steps)}


def test_a_repository_is_installed_without_any_network(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = build.build(spec(GEMS))
    lines = asked.read_text().splitlines()
    (start,) = [line for line in lines if " run --detach" in line]
    assert (
        "--network none" in start
        and "PIP_CERT" not in start
        and "--runtime runc" in start
        and "sha256:base" in start
    )
    (unpack,) = [line for line in lines if " -m tarfile" in line]
    assert "/opt/python3 -m tarfile -e /flagprov/c.tar /flagprov-build/1" in unpack
    (install,) = [line for line in lines if "pip install" in line]
    assert "--no-deps --no-build-isolation" in install and install.endswith(" /flagprov-build/1/python")
    layer = json.dumps([{"Path": "/a", "Kind": 1}]).encode()
    assert found == {
        "digest": f"sha256:{__import__('hashlib').sha256(layer).hexdigest()}",
        "size": len(layer),
    }
    assert "rm --force" in lines[-1]
    assert "step 1 of 1, pip install gems" in capsys.readouterr().out


def test_a_package_has_the_network_and_the_proxies_which_no_command_line_shows(
    asked: Path, tmp_path: Path
) -> None:
    (tmp_path / "proxy.env").write_text('HTTPS_PROXY="http://me:secret@proxy.example:3128"\n')
    for name in ("pip.conf", "trusted.crt"):
        (tmp_path / name).write_text("")
    build.build(spec(PACKAGE))
    lines = asked.read_text().splitlines()
    (start,) = [line for line in lines if " run --detach" in line]
    assert "--network host" in start and f"{tmp_path}/pip.conf:/flagprov-pip.conf:ro" in start
    # Private authorities that the host trusts.
    assert f"{tmp_path}/trusted.crt:/flagprov-authorities.crt:ro" in start
    assert "--env PIP_CERT=/flagprov-authorities.crt" in start
    (install,) = [line for line in lines if "pip install" in line]
    environment, _, words = install.partition(" ")
    assert environment == "http://me:secret@proxy.example:3128"
    assert words.endswith(" a==1") and "secret" not in words and "--env HTTPS_PROXY" in words


def test_what_a_killed_build_left_goes_with_the_next_one(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("killed", "going-on"):
        folder = tmp_path / "jobs" / f"build-{name}"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(json.dumps({"kind": "build", "spec": {"name": name}}))
    monkeypatch.setattr(jobs, "state_of", lambda job: "active" if job == "build-going-on" else "inactive")
    assert build.left() == ["flagprov-build-killed"]
    build.build(spec(GEMS))
    removed = [line.split()[-1] for line in asked.read_text().splitlines() if " rm --force" in line]
    assert sorted(removed[:-1]) == ["flagprov-build-0123-amd64", "flagprov-build-killed"]
    assert removed[-1] == "flagprov-build-0123-amd64"


@pytest.mark.parametrize(
    "said", ["http://me:secret@proxy:3128/", "http://me:secret@proxy:3128", "me:secret@proxy"]
)
def test_a_password_of_a_proxy_is_not_said_however_it_is_written(said: str) -> None:
    words = hidden(f"no answer from {said}, try again", {"https_proxy": "http://me:secret@proxy:3128/"})
    assert "secret" not in words and words.endswith(", try again")


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("No module named pip", "`python` name the Python"),
        ("BackendUnavailable: Cannot import 'scikit_build_core.build'", "a build step of its own"),
        ("ERROR: No matching distribution found for a==1", "reaches the package index"),
        ("error: something else", "last lines of pip"),
    ],
)
def test_a_step_that_fails_is_named_with_its_last_lines(asked: Path, said: str, remedy: str) -> None:
    asked.with_name("docker.says").write_text(f"{said}\n")
    with pytest.raises(Blocked) as caught:
        build.build(spec(PACKAGE, GEMS))
    assert caught.value.message == f"step 1 of 2, pip install a==1: {said}"
    assert caught.value.log == f"doing it\n{said}"
    assert remedy in caught.value.remedy
    assert "rm --force" in asked.read_text().splitlines()[-1]
    assert not list(Path(build.ROOT).rglob("layer.tar"))


def test_a_layer_that_nobody_has_fetched_yet_is_not_built_again(asked: Path) -> None:
    first = build.build(spec(GEMS))
    asked.unlink()
    assert build.build(spec(GEMS)) == first
    assert not asked.exists()


def test_a_layer_is_given_piece_by_piece_and_then_goes(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PIECE", 10)
    size, have = build.build(spec(GEMS))["size"], b""
    while len(have) < size:
        have += base64.b64decode(build.layer({"name": "0123-amd64", "offset": len(have)})["data"])
    assert json.loads(have) == [{"Path": "/a", "Kind": 1}]
    assert build.layer({"name": "0123-amd64", "offset": size}) == {"data": ""}
    assert not list(Path(build.ROOT).iterdir())


def test_a_base_that_is_not_here(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "image_id", lambda reference, digests: None)
    with pytest.raises(Blocked, match="r/m:1 is not here"):
        build.build(spec(GEMS))


def layer(root: Path, *changes: tuple[str, int]) -> bytes:
    out = io.BytesIO()
    image_layer.write([{"Path": path, "Kind": kind} for path, kind in changes], out, str(root))
    return out.getvalue()


def test_a_layer_has_what_was_changed_and_marks_what_was_deleted(tmp_path: Path) -> None:
    for name in (
        "usr/lib/new/module.py",
        "usr/lib/again/module.py",
        "tmp/leftover",
        "flagprov-build/1/setup.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "usr/lib/link").symlink_to("new")
    changes = [
        *(
            ("/usr", 0),
            ("/usr/lib", 0),
            ("/usr/lib/new", 1),
            ("/usr/lib/new/module.py", 1),
            ("/usr/lib/link", 1),
        ),
        *(("/usr/lib/old", 2), ("/usr/lib/again", 2), ("/usr/lib/again/module.py", 1)),
        *(("/tmp/leftover", 1), ("/flagprov-build/1/setup.py", 1), ("/etc/resolv.conf", 0)),
        ("/flagprov-authorities.crt", 1),
    ]
    written = layer(tmp_path, *changes)
    with tarfile.open(fileobj=io.BytesIO(written)) as archive:
        found = {member.name: member for member in archive}
        assert list(found) == [
            *("usr", "usr/lib", "usr/lib/again", "usr/lib/again/.wh..wh..opq", "usr/lib/again/module.py"),
            *("usr/lib/link", "usr/lib/new", "usr/lib/new/module.py", "usr/lib/.wh.old"),
        ]
        assert {member.mtime for member in found.values()} == {image_layer.TIME}
        assert found["usr/lib/link"].issym() and found["usr"].isdir()
    os.utime(tmp_path / "usr/lib/new/module.py", (1, 1))
    assert layer(tmp_path, *reversed(changes)) == written
