"""By hand an engine gets what it gets from the launcher: `start.sh`, and the launcher held meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from launching import launched

from flagprov.runner.by_hand import start_script
from flagprov.runner.render import launcher_files

TELL = "import json, os; print('told', json.dumps(dict(os.environ)))"
OF_THE_SHELL = ("_", "SHLVL", "PWD", "OLDPWD")
LAUNCH: dict[str, Any] = {
    "schema_version": 1, "kind": "command", "replica": "r-0", "rank": 0, "settle_s": 0.3,
    "env": {"WORD": "a b; $(false) 'c'"}, "source": ["/nowhere/set_env.sh"],
    "before_start": ["export CARD=\"it's $WORD\""], "argv": [sys.executable, "-c", TELL],
}  # fmt: skip


def told(lines: list[str]) -> dict[str, str]:
    (line,) = [line for line in lines if line.startswith("told ")]
    found: dict[str, str] = json.loads(line.removeprefix("told "))
    return {name: value for name, value in found.items() if name not in OF_THE_SHELL}


def test_the_engine_has_the_same_environment(tmp_path: Path) -> None:
    for operators in ({}, {"operators": "operators.json"}):
        launch, folder = LAUNCH | operators, tmp_path / str(len(operators))
        files = launcher_files() | {"launch.json": json.dumps(launch), "start.sh": start_script(launch)}
        with launched(folder, files=files) as running:
            running.finish()
        env = dict(os.environ, FLAGPROV_RUN=str(folder / "run"))
        script = ["bash", str(folder / "conf" / "start.sh")]
        done = subprocess.run(script, env=env, capture_output=True, text=True, check=True)
        by_hand = told(done.stdout.splitlines())
        assert by_hand == told(running.lines)
        assert by_hand["CARD"] == "it's a b; $(false) 'c'"


def test_while_it_is_held_nothing_is_started(tmp_path: Path) -> None:
    held = tmp_path / "run-host" / "hold"
    held.parent.mkdir()
    held.touch()
    with launched(tmp_path, argv=["echo", "hello"]) as running:
        assert "start.sh" in running.until("held by hand")
        state = running.state()
        assert (state["phase"], state["reason"]) == ("starting", f"held by hand, until {held} is removed")
        held.unlink()
        running.until("hello")
        assert running.lines.index("hello") == 1


def test_a_stop_ends_a_launcher_that_is_held(tmp_path: Path) -> None:
    (tmp_path / "run-host").mkdir()
    (tmp_path / "run-host" / "hold").touch()
    with launched(tmp_path, argv=["echo", "hello"]) as running:
        running.until("held by hand")
        running.process.terminate()
        assert running.finish() == 0
    assert "hello" not in running.lines


def test_what_runs_in_the_container_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "hold").touch()
    with launched(tmp_path, argv=["echo", "hello"]) as running:
        running.until("hello")
    assert not [line for line in running.lines if "held" in line]
