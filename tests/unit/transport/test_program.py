"""The archive that is sent to hosts, and the commands that start it."""

from __future__ import annotations

import ast
import io
import shlex
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

from flagprov.models.fleet import Connection, Secret
from flagprov.transport import program as module
from flagprov.transport.program import Program, host_program, of_files
from flagprov.transport.session import as_root

FILES = {"flagprov/host/main.py": b"def main(): pass\n"}


def names(program: Program) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(zlib.decompress(program.archive()))) as archive:
        return set(archive.getnames())


def test_name_is_that_of_the_content() -> None:
    first, same = of_files(FILES), of_files(dict(FILES))
    assert first.name == same.name
    assert first.archive() == same.archive()
    assert of_files(FILES | {"flagprov/host/a.py": b""}).name != first.name
    assert of_files({"flagprov/host/main.py": b""}).name != first.name


def test_real_program_is_all_of_host_and_nothing_else() -> None:
    found = names(host_program())
    assert {"start.py", "flagprov/__init__.py", "flagprov/host/main.py"} <= found
    assert all(name.endswith(".py") for name in found)
    assert dict(host_program().files)["flagprov/__init__.py"] == b""
    assert len(host_program().archive()) < 300_000


@pytest.mark.parametrize("text", [module._START, module._INSTALL])
def test_what_runs_first_is_understood_by_old_pythons(text: str) -> None:
    ast.parse(text, feature_version=(3, 6))


def test_commands_hold_for_any_shell() -> None:
    program = of_files(FILES)
    for script in (program.run_command("/opt/my python"), program.install_command(None, 12)):
        command = as_root(Connection("h"), script)
        words = shlex.split(command)
        assert words[:3] == ["exec", "sh", "-c"]
        assert "!" not in command.replace(script, "")
        subprocess.run(["sh", "-n", "-c", words[3]], check=True)


def test_secret_is_never_in_the_command() -> None:
    connection = Connection("h", user="ops", become=True, become_password=Secret("geheim"))
    command = as_root(connection, "true")
    assert "geheim" not in command
    assert command.startswith("exec sudo -H -S -p flagprov-sudo: -- sh -c")
    assert "-n" in as_root(Connection("h", user="ops", become=True), "true").split()


def test_missing_program_is_said(tmp_path: Path) -> None:
    program = of_files(FILES, base=str(tmp_path))
    said = subprocess.run(["sh", "-c", program.run_command(None)], capture_output=True, text=True)
    assert said.stdout == '{"stub": "missing"}\n'


def test_missing_python_is_said(tmp_path: Path) -> None:
    script = of_files(FILES, base=str(tmp_path)).run_command(None).replace("/usr/", "/nonexistent/")
    said = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, text=True, env={"PATH": "/nonexistent"}
    )
    assert said.stdout == '{"stub": "python"}\n'


def test_cut_archive_leaves_nothing(tmp_path: Path) -> None:
    program = of_files(FILES, base=str(tmp_path))
    archive = program.archive()
    command = program.install_command(None, len(archive))
    done = subprocess.run(["sh", "-c", command], input=archive[:-5], capture_output=True)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []
    broken = b"x" * len(archive)
    done = subprocess.run(["sh", "-c", command], input=broken, capture_output=True)
    assert b'"stub": "install"' in done.stdout
    assert list(tmp_path.iterdir()) == []


OTHER = """
import os
_rename = os.rename
def _late(*args):
    os.rename = _rename
    os.makedirs(os.path.dirname({start!r}), exist_ok=True)
    open({start!r}, "w").write("print('the other')")
    return _rename(*args)
os.rename = _late
"""


def test_two_who_bring_it_at_once_do_not_take_it_from_each_other(tmp_path: Path) -> None:
    """The other one is done a moment before, and runs what it has brought."""
    program = of_files(FILES, base=str(tmp_path))
    first = OTHER.format(start=f"{program.directory}/start.py")
    archive = program.archive()
    argv = [sys.executable, "-c", first + module._INSTALL, str(tmp_path), program.name, str(len(archive))]
    done = subprocess.run(argv, input=archive, capture_output=True)
    assert done.stdout == b"the other\n"
    assert [path.name for path in tmp_path.iterdir()] == [program.name]
