"""flagprov from its wheel, in an environment and a directory that know nothing of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, Lab, Result

RELEASE = "qwen3-tiny-standin"


class Installed:
    """An environment with the wheel; what flagprov depends on comes from ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        build = [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(folder),
            str(ROOT),
        ]
        subprocess.run(build, check=True, capture_output=True, timeout=120)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", with_pip=False)
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install"]
        subprocess.run(
            [*pip, "--no-deps", "--no-index", "--quiet", str(wheel)],
            check=True,
            capture_output=True,
            timeout=120,
        )
        packages = next((folder / "venv").glob("lib/python*/site-packages"))
        (packages / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        for tool in ("playbook", "inventory"):
            script = self.bin / f"ansible-{tool}"
            script.write_text(
                f"#!{self.bin / 'python'}\nfrom ansible.cli.{tool} import main\nmain()\n", encoding="utf-8"
            )
            script.chmod(0o755)

    def run(self, tool: str, *arguments: str) -> Result:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(self.bin / tool), *arguments],
            cwd=self.folder,
            env=environment | {"ANSIBLE_NOCOLOR": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def bare_hosts(lab: Lab) -> Iterator[Lab]:
    """Hosts that are to be provisioned anew."""
    lab.teardown()
    yield lab
    lab.teardown()


def test_nothing_comes_from_the_checkout(installed: Installed) -> None:
    code = "import flagprov.apply.assets as a; print(a.__file__); print(a.ansible_root())"
    said = installed.run("python", "-c", code)
    assert said.code == 0, said
    assert all(line.startswith(str(installed.folder)) for line in said.out.splitlines()), said


def test_it_plans_and_deploys_with_its_own_roles(installed: Installed, bare_hosts: Lab) -> None:
    inventory = str(bare_hosts.inventory)
    planned = installed.run("flagprov", "plan", inventory, RELEASE)
    assert planned.code == 3, planned
    assert "never provisioned" in planned.out
    deployed = installed.run("flagprov", "deploy", inventory, RELEASE, "--yes", "--output", "json")
    assert deployed.code == 0, deployed
    assert {host["state"] for host in deployed.json["hosts"]} == {"changed"}
    assert {replica["state"] for replica in deployed.json["replicas"]} == {"ready"}


def test_its_playbooks_are_found_by_name_and_agree(installed: Installed, bare_hosts: Lab) -> None:
    inventory = str(bare_hosts.inventory)
    arguments = ("-i", inventory, "-e", f"release={RELEASE}", "--check", "--diff")
    checked = installed.run("ansible-playbook", "flagprov.flagprov.deploy", *arguments)
    assert checked.code == 0, checked
    assert checked.out.rpartition("PLAY RECAP")[2].count("changed=0 ") == len(bare_hosts.hosts), checked


def test_the_checkout_sees_nothing_to_change(installed: Installed, bare_hosts: Lab) -> None:
    assert bare_hosts.flagprov("plan", bare_hosts.inventory, RELEASE).code == 0
