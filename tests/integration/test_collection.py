"""The collection as it is built for others: installed somewhere else, all its parts are found there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
CHIP = "msg={{ lookup('flagprov.flagprov.chip', 'nvidia-h100') }}"
# Takes flagprov's package from where Python looks, as on a machine that never saw it.
BLOCK = """
import os, sys
sys.path[:] = [path for path in sys.path if not os.path.isfile(os.path.join(path, "flagprov/__init__.py"))]
"""


class Elsewhere:
    """An empty directory with the installed collection, and Ansible run from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "collections" / "ansible_collections" / "flagprov" / "flagprov"

    def run(self, tool: str, *arguments: str, expect: int = 0, **environment: str) -> str:
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_INVENTORY": "localhost,",
        }
        done = subprocess.run(
            [str(TOOLS / tool), *arguments],
            cwd=self.folder,
            env=os.environ | settings | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout if expect == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = tmp_path_factory.mktemp("elsewhere")
    made = Elsewhere(folder)
    made.run("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(folder))
    (archive,) = folder.glob("flagprov-flagprov-*.tar.gz")
    target = ["-p", str(folder / "collections"), "--offline"]
    made.run("ansible-galaxy", "collection", "install", str(archive), *target)
    return made


def test_it_holds_what_ansible_needs_and_nothing_else(elsewhere: Elsewhere) -> None:
    held = {path.name for path in elsewhere.root.iterdir()}
    assert held <= {
        "CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md",
        "meta", "playbooks", "plugins", "roles",
    }  # fmt: skip
    assert not list(elsewhere.root.rglob("*.pyc"))


def test_its_version_is_that_of_the_package() -> None:
    import tomllib

    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"] == package


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_playbooks_and_the_roles_in_them_are_found(elsewhere: Elsewhere, playbook: str) -> None:
    elsewhere.run("ansible-playbook", "--syntax-check", f"flagprov.flagprov.{playbook}")


def test_roles_are_found_with_their_arguments(elsewhere: Elsewhere) -> None:
    listed = json.loads(elsewhere.run("ansible-doc", "-t", "role", "-l", "--json", "flagprov.flagprov"))
    assert sorted(name.removeprefix("flagprov.flagprov.") for name in listed) == ROLES


@pytest.mark.parametrize(
    "kind, name",
    [
        ("module", "ask"),
        ("module", "converge"),
        ("module", "remember"),
        ("lookup", "chip"),
        ("lookup", "desired"),
        ("lookup", "fingerprint"),
    ],
)
def test_plugins_are_found_and_documented(elsewhere: Elsewhere, kind: str, name: str) -> None:
    full = f"flagprov.flagprov.{name}"
    found: dict[str, Any] = json.loads(elsewhere.run("ansible-doc", "-t", kind, "--json", full))[full]
    assert Path(found["doc"]["filename"]).is_relative_to(elsewhere.root)
    assert found["examples"]


def test_a_chips_roles_and_pins_are_those_that_flagprov_knows(elsewhere: Elsewhere) -> None:
    from flagprov.chips import load_chips

    said = elsewhere.run("ansible", "localhost", "-m", "debug", "-a", CHIP)
    answer = json.loads(said.partition("=>")[2])["msg"]
    chip = load_chips()["nvidia-h100"]
    assert answer["pins"] == chip.pins
    assert answer["roles"] == list(chip.roles)


def test_an_unknown_chip_is_said_with_those_that_are_known(elsewhere: Elsewhere) -> None:
    template = "msg={{ lookup('flagprov.flagprov.chip', 'nvidia-h1000') }}"
    said = elsewhere.run("ansible", "localhost", "-m", "debug", "-a", template, expect=2)
    assert "no chip 'nvidia-h1000'" in said
    assert "graviton4, nvidia-h100" in said


def test_without_flagprovs_package_it_says_what_to_do(elsewhere: Elsewhere, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK, encoding="utf-8")
    arguments = ("localhost", "-m", "debug", "-a", CHIP)
    said = elsewhere.run("ansible", *arguments, expect=2, PYTHONPATH=str(tmp_path))
    assert "flagprov's Python package is not installed" in said
    assert "docs/ansible.md" in said
