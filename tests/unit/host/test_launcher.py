"""The launcher with engines of two shell lines, and a FlagScale that is a stub of three."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launching import launched, write

from flagprov.host.launcher_launch import empty_shm
from flagprov.host.launcher_processes import is_front
from flagprov.runner.render import launcher_files

READY = "Application startup complete."


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def sleeper(then: str) -> list[str]:
    """An engine that leaves a process behind."""
    return ["sh", "-c", f"setsid sleep 1000 & echo left $!; {then}"]


def test_an_engine_that_ends_ends_the_launcher(tmp_path: Path) -> None:
    with launched(tmp_path, argv=["sh", "-c", "echo hello; exit 3"]) as running:
        assert running.finish() == 1
        assert running.lines[0] == "hello"
        assert running.lines[-1].startswith("flagprov: the engine ended by itself")
        assert "exit code 3" in running.lines[-1]
        state = running.state()
    assert (state["phase"], state["tail"][0]) == ("ended", "hello")
    assert "exit code 3" in state["reason"]


def test_an_engine_that_ends_at_once_is_never_missed(tmp_path: Path) -> None:
    for attempt in range(5):
        with launched(tmp_path / str(attempt), argv=["true"]) as running:
            assert running.finish() == 1


def test_a_stop_is_forwarded_and_clean(tmp_path: Path) -> None:
    with launched(tmp_path, argv=[sys.executable, "-u", "-c", STOPPABLE]) as running:
        running.until(READY)
        running.process.terminate()
        assert running.finish() == 0
        assert "bye" in running.lines
        assert running.state()["phase"] == "ended"


STOPPABLE = f"""
import signal, sys
def stop(*_):
    print("bye")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("{READY}")
signal.pause()
"""


def test_its_file_says_that_it_lives_and_what_is_frozen(tmp_path: Path) -> None:
    argv = ["sh", "-c", f"echo {READY}; echo next; exec sleep 1000"]
    peers = {"hosts": ["a"], "address": "127.0.0.1", "port": 0, "token": "t"}
    with launched(tmp_path, argv=argv, peers=peers, stop_grace_s=1) as running:
        running.until(READY)
        engine = wait_for(lambda: running.state()["engine_pid"])
        os.kill(engine, signal.SIGSTOP)
        assert f"({engine})" in wait_for(lambda: running.state()["stopped"])[0]
        os.utime(running.run / "state.json", (0, 0))
        wait_for(lambda: (running.run / "state.json").stat().st_mtime > 1)


def wait_for(found: Callable[[], Any]) -> Any:
    """By a select that wakes nothing: no event tells of a file."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        select.select([], [], [], 0.1)
    raise AssertionError("it never came")


def test_what_ignores_the_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    deaf = STOPPABLE.replace("sys.exit(0)", "signal.pause()").replace('print("bye")', "")
    with launched(tmp_path, argv=[sys.executable, "-u", "-c", deaf], stop_grace_s=1) as running:
        running.until(READY)
        engine = running.state()["engine_pid"]
        running.process.terminate()
        assert running.finish() == 0
        assert not alive(engine)


def test_the_state_says_running_once_it_is_up(tmp_path: Path) -> None:
    with launched(tmp_path, argv=["sh", "-c", f"echo {READY}; echo next; exec sleep 1000"]) as running:
        running.until("next")
        # The state is written after the lines were passed on; a stop makes it pass through.
        running.process.send_signal(signal.SIGTERM)
        assert running.finish() == 0
        assert running.state()["tail"][:2] == [READY, "next"]


def test_orphans_of_a_dead_engine_are_ended(tmp_path: Path) -> None:
    with launched(tmp_path, argv=sleeper("exit 0")) as running:
        orphan = int(running.until("left").split()[1])
        assert running.finish() == 1
        assert "1 of its processes outlived it" in running.lines[-1]
        assert not alive(orphan)


def test_the_environment_reaches_the_engine_unchanged(tmp_path: Path) -> None:
    value = """two words; $HOME & "quotes" 'more' `x` \\ ${y}"""
    argv = [sys.executable, "-c", "import os; print(os.environ['TRICKY'])"]
    with launched(tmp_path, argv=argv, env={"TRICKY": value}) as running:
        assert running.finish() == 1
        assert running.lines[0] == value


def test_scripts_are_sourced_where_they_exist(tmp_path: Path) -> None:
    # Vendors' scripts read unset variables and return failures.
    write(tmp_path, {"set_env.sh": 'export FOUND="$1$UNSET/lib"\nfalse\n'})
    source = [str(tmp_path / "set_env.sh"), "/nowhere/set_env.sh"]
    with launched(tmp_path, argv=["sh", "-c", "echo $FOUND"], source=source) as running:
        assert running.finish() == 1
        assert running.lines[:2] == ["flagprov: no /nowhere/set_env.sh, skipped", "/lib"]


def test_lines_before_the_start_share_the_engines_shell(tmp_path: Path) -> None:
    before = ["export A=1", "B=$((A + 1)); export B", "ulimit -c 0"]
    with launched(tmp_path, argv=["sh", "-c", "echo $B; ulimit -c"], before_start=before) as running:
        assert running.finish() == 1
        assert running.lines[:2] == ["2", "0"]


def test_a_line_before_the_start_that_fails_is_named(tmp_path: Path) -> None:
    with launched(tmp_path, argv=["echo", "served"], before_start=["true", "test -e /nowhere"]) as running:
        assert running.finish() == 1
        assert "before_start line 2 failed (exit code 1)" in running.lines[0]
        assert "served" not in running.lines


SHOW = 'echo "$PYTHONPATH|${VLLM_PLUGINS-unset}|$FLAGPROV_OPERATORS"'


@pytest.mark.parametrize(
    ("before", "plugins"),
    [([], "unset"), (["export PYTHONPATH=/card VLLM_PLUGINS=fl"], "fl,flagprov_operators")],
)
def test_the_plugin_is_found_whatever_the_card_sets(tmp_path: Path, before: list[str], plugins: str) -> None:
    stale = tmp_path / "run/operators/1.json"
    write(tmp_path, {"run/operators/1.json": "{}"})
    argv = ["sh", "-c", SHOW]
    with launched(tmp_path, argv=argv, before_start=before, operators="operators.json") as running:
        assert running.finish() == 1
    path, said, orders = running.lines[0].split("|")
    assert path.split(":")[0] == str(tmp_path / "conf/engine")
    assert (said, orders) == (plugins, str(tmp_path / "conf/operators.json"))
    assert not stale.exists()


def test_without_flaggems_nothing_of_it_is_set(tmp_path: Path) -> None:
    with launched(tmp_path, argv=["sh", "-c", SHOW], env={"PYTHONPATH": "/card"}) as running:
        assert running.finish() == 1
    assert running.lines[0] == "/card|unset|"


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with launched(tmp_path, argv=["no-such-engine"]) as running:
        assert running.finish() == 1
        assert "exit code 127" in running.lines[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "schema version"),
        (json.dumps({"schema_version": 2, "kind": "command"}), "schema version"),
        (json.dumps({"schema_version": 1, "kind": "other"}), "unknown to this launcher"),
    ],
)
def test_an_unusable_launch_file(tmp_path: Path, text: str | None, message: str) -> None:
    files = launcher_files() | ({} if text is None else {"launch.json": text})
    with launched(tmp_path, files=files) as running:
        assert running.finish() == 2
        assert message in running.lines[-1]
        assert not any("Traceback" in line for line in running.lines)


# What the real one does, as far as the launcher sees it: `$FLAGPROV_EXP_DIR/serve_logs`, a pid file, rc 0.
FLAGSCALE = """#!/bin/bash
echo "flagscale: $@"
cd "$FLAGPROV_EXP_DIR/serve_logs" && mkdir pids
{body}
exit 0
"""


def flagscale(tmp_path: Path, body: str) -> str:
    write(tmp_path / "bin", {"flagscale": FLAGSCALE.format(body=body)})
    (tmp_path / "bin/flagscale").chmod(0o755)
    return str(tmp_path / "bin")


ENGINE = 'nohup bash -c "{command}; sync" >> {log} 2>&1 & echo $! > pids/host_0_localhost.pid'
LABEL = {"label": "tiny", "config": "conf/serve.yaml"}


def test_flagscale_that_starts_nothing(tmp_path: Path) -> None:
    with launched(tmp_path, path=flagscale(tmp_path, ""), kind="flagscale", flagscale=LABEL) as running:
        assert running.finish() == 3
        assert "left no engine" in running.lines[-1]
        assert running.lines[0].startswith("flagscale: serve tiny ")
        assert running.lines[0].endswith("/conf/serve.yaml")
        assert running.state()["tail"][0] == running.lines[0]


@pytest.mark.parametrize("log", ["host_0_localhost.output", "host.output"])
def test_the_engine_of_flagscale_is_followed(tmp_path: Path, log: str) -> None:
    body = ENGINE.format(command="echo engine speaks; python -c 'print(6 * 7)'", log=log)
    with launched(tmp_path, path=flagscale(tmp_path, body), kind="flagscale", flagscale=LABEL) as running:
        assert running.finish() == 1
        assert {"engine speaks", "42"} <= set(running.lines)


def test_an_orphan_behind_flagscales_shell(tmp_path: Path) -> None:
    body = ENGINE.format(
        command="sleep 1000 & echo left \\$! ; read -t 1 x < /dev/zero", log="host_0_localhost.output"
    )
    with launched(tmp_path, path=flagscale(tmp_path, body), kind="flagscale", flagscale=LABEL) as running:
        orphan = int(running.until("left").split()[1])
        assert running.finish() == 1
        assert not alive(orphan)


def test_each_start_has_a_fresh_directory(tmp_path: Path) -> None:
    stale = tmp_path / "run/exp/serve_logs/host_0_localhost.output"
    write(stale.parent, {stale.name: f"{READY}\n"})
    with launched(tmp_path, argv=["true"]) as running:
        assert running.finish() == 1
        assert READY not in running.lines


def test_a_stop_during_the_start(tmp_path: Path) -> None:
    body = "echo waiting; sleep 1000"
    with launched(tmp_path, path=flagscale(tmp_path, body), kind="flagscale", flagscale=LABEL) as running:
        running.until("waiting")
        running.process.terminate()
        assert running.finish() == 0


@pytest.mark.parametrize(
    ("argv", "front"),
    [
        (["/usr/bin/python3", "/usr/local/bin/vllm", "serve", "/m"], True),
        (["vllm", "serve", "/m"], True),
        (["VLLM::APIServer_0"], True),
        (["VLLM::EngineCore"], False),
        (["bash", "-c", "vllm serve /m"], False),
        (["python", "run_inference_engine.py", "vllm", "serve"], False),
        ([], False),
    ],
)
def test_the_front_process_is_told_by_its_command_line(argv: list[str], front: bool) -> None:
    assert is_front(argv) is front


def test_the_containers_own_shm_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "psm_1").touch()
    (tmp_path / "folder").mkdir()
    empty_shm(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
