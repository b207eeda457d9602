"""A proxy's login reaches the modules of roles, and no command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.apply.assets import ansible_root

ROLE = ansible_root() / "roles/host_baseline"
LOGIN = "http://me:it's$ecret@proxy.example:3128"
# A process of its own: what it is started by is seen, too.
SEE = """
import json, os, pathlib
lines = []
for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        lines.append(file.read_bytes().decode(errors="replace"))
    except OSError:
        pass
shown = [line for line in lines if "ecret@proxy" in line]
print(json.dumps({"proxies": {n: v for n, v in os.environ.items() if n.endswith("_proxy")}, "shown": shown}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """While roles run, and after them."""
    folder = tmp_path_factory.mktemp("login")
    (folder / "templates").symlink_to(ROLE / "templates")
    (folder / "see.py").write_text(SEE)
    see = {"ansible.builtin.command": {"argv": [sys.executable, str(folder / "see.py")]}}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "environment": "{{ flagprov_outside }}",
        "vars": {
            "ansible_python_interpreter": sys.executable,
            "flagprov_https_proxy": LOGIN,
            "flagprov_no_proxy": ".site.example",
        },
        "vars_files": [str(ROLE / "vars/main.yml"), str(ansible_root() / "playbooks/group_vars/all.yml")],
        "tasks": [
            {"ansible.builtin.import_tasks": str(ROLE / "tasks/outside.yml"), "when": "_host_baseline_login"},
            {**see, "register": "meanwhile"},
            {"ansible.builtin.import_tasks": str(ROLE / "tasks/inside.yml"), "when": "_host_baseline_login"},
            {**see, "register": "afterwards"},
            {
                "ansible.builtin.copy": {
                    "content": "{{ [meanwhile.stdout, afterwards.stdout] | to_json }}",
                    "dest": str(folder / "seen"),
                }
            },
        ],
    }
    (folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    plain = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    file = f"_host_baseline_outside_file={folder}/outside"
    ran = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-c", "local"),
            *("-e", file, "play.yml"),
        ],
        cwd=folder,
        env={**plain, "ANSIBLE_LOCAL_TEMP": str(folder), "ANSIBLE_REMOTE_TEMP": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "ecret" not in ran.stdout
    assert not (folder / "outside").exists()
    return [json.loads(text) for text in json.loads((folder / "seen").read_text(encoding="utf-8"))]


def test_modules_have_it_and_no_command_line(seen: list[dict[str, Any]]) -> None:
    assert seen[0] == {"proxies": {"https_proxy": LOGIN, "no_proxy": ".site.example"}, "shown": []}


def test_nothing_is_left_of_it(seen: list[dict[str, Any]]) -> None:
    assert seen[1] == {"proxies": {}, "shown": []}


@pytest.mark.parametrize(("playbook", "tasks"), [("provision.yml", "provisioned"), ("gateway.yml", "inside")])
def test_playbooks_end_by_forgetting_it(playbook: str, tasks: str) -> None:
    (play,) = yaml.safe_load((ansible_root() / "playbooks" / playbook).read_text(encoding="utf-8"))
    assert play["post_tasks"][-1]["ansible.builtin.import_role"]["tasks_from"] == tasks
    last = yaml.safe_load((ROLE / "tasks/provisioned.yml").read_text(encoding="utf-8"))[-1]
    assert (last["ansible.builtin.import_tasks"], last["tags"]) == ("inside.yml", ["always"])
