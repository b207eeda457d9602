"""`ansible-playbook` as a user of a checkout calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .conftest import ROOT, Result


def playbook(inventory: Path, name: str, *more: str) -> Result:
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory)]
    argv += [f"playbooks/{name}.yml", *more]
    environment = os.environ | {
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    return Result(done.returncode, done.stdout, done.stderr)


def changes(result: Result) -> dict[str, int]:
    """Host -> how many tasks changed something, from the recap."""
    assert result.code == 0, result
    recap = result.out.rpartition("PLAY RECAP")[2].splitlines()[1:]
    lines = [line.split() for line in recap if "changed=" in line]
    return {
        words[0]: int(word.removeprefix("changed="))
        for words in lines
        for word in words
        if word.startswith("changed=")
    }
