from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from flagprov.cli import main, screen
from flagprov.cli.crash import write_debug_file
from flagprov.errors import HostError, InventoryError, LabError

STATUS = ("status", "site/lab.ini")
PLAN = ("plan", "lab.ini", "qwen3-tiny")


def test_an_expected_error_is_one_message_with_its_remedy(pipeline: Any, invoke: Any) -> None:
    pipeline.error = InventoryError("lab.ini: there is no such file", remedy="Give its path.\nSee docs.")
    result = invoke(*STATUS)
    assert result.exit_code == 2
    assert result.stderr == "error: lab.ini: there is no such file\n  Give its path.\n  See docs.\n"
    assert result.stdout == ""


def test_an_expected_error_in_json(pipeline: Any, invoke: Any) -> None:
    pipeline.error = LabError("no docker", remedy="Start it.")
    result = invoke(*STATUS, "--output", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == {
        "kind": "LabError", "message": "no docker", "remedy": "Start it.",
    }  # fmt: skip


def test_an_error_of_a_host_names_host_and_step(pipeline: Any, invoke: Any) -> None:
    pipeline.error = HostError("lab1", "logs", "no such replica", log="\x1b[1mlast words\x1b[0m")
    result = invoke(*STATUS)
    assert result.stderr == "error: lab1, logs: no such replica\n  | last words\n"


def test_messages_of_several_lines(pipeline: Any, invoke: Any) -> None:
    pipeline.error = InventoryError("a.yaml:3: one\na.yaml:4: two")
    assert invoke(*STATUS).stderr == "error: a.yaml:3: one\n  a.yaml:4: two\n"


def test_an_unexpected_error_is_one_line_and_a_private_file(
    pipeline: Any, invoke: Any, tmp_path: Path
) -> None:
    pipeline.error = ValueError("some inner thing")
    result = invoke(*PLAN, "--set", "env.TOKEN=hunter2")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert result.stderr.count("\n") == 1
    (file,) = tmp_path.glob("debug-*.txt")
    assert str(file) in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert "ValueError: some inner thing" in text
    assert "verb: plan" in text
    assert "hunter2" not in text


def test_the_debug_file_lies_in_the_site(pipeline: Any, invoke: Any, tmp_path: Path) -> None:
    pipeline.error = KeyError("x")
    site = tmp_path / "site" / ".flagprov"
    site.mkdir(parents=True)
    assert ".flagprov" in invoke(*STATUS).stderr
    assert len(list(site.glob("debug-*.txt"))) == 1
    assert invoke("status", "site").exit_code == 1  # the inventory may be a directory


def test_no_place_for_the_debug_file(pipeline: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.error = KeyError("x")
    monkeypatch.setattr("flagprov.cli.crash._directories", lambda state: [Path("/nowhere")])
    assert invoke(*STATUS).stderr == "error: flagprov itself failed (KeyError)\n"


def test_what_the_file_system_refuses_is_no_bug(pipeline: Any, invoke: Any, tmp_path: Path) -> None:
    pipeline.error = PermissionError(13, "Permission denied", "site/.flagprov/known_hosts")
    result = invoke(*STATUS)
    assert (result.exit_code, result.stderr) == (1, "error: site/.flagprov/known_hosts: permission denied\n")
    assert not list(tmp_path.glob("debug-*"))


def test_a_full_disk_is_no_bug(pipeline: Any, invoke: Any, tmp_path: Path) -> None:
    """Of a write the system does not say the file."""
    pipeline.error = OSError(28, "No space left on device")
    result = invoke(*STATUS)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a disk of this controller is full\n")
    assert not list(tmp_path.glob("debug-*"))


def test_what_can_be_no_path_is_wrong_input(pipeline: Any, invoke: Any, tmp_path: Path) -> None:
    pipeline.error = OSError(36, "File name too long", "x" * 300)
    result = invoke("status", "x" * 300)
    assert (result.exit_code, result.stderr) == (2, f"error: {'x' * 300}: file name too long\n")
    assert write_debug_file(ValueError("x"), screen.Run(inventory="x" * 300)) is not None


def test_words_that_are_no_text(invoke: Any) -> None:
    result = invoke("plan", "lab.ini", "r", "--set", "serve.x=\udcff")
    assert (result.exit_code, result.stderr) == (2, "error: 'serve.x=\\udcff' is not UTF-8 text\n")


def test_a_broken_pipe_to_a_host_is_not_ours(pipeline: Any, invoke: Any) -> None:
    pipeline.error = BrokenPipeError(32, "Broken pipe")
    assert "flagprov itself failed (BrokenPipeError)" in invoke(*STATUS).stderr


def test_a_reader_that_went_away(pipeline: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(screen.click, "echo", closed)
    result = invoke("deploy", "lab.ini", "qwen3-tiny", "--yes")
    assert result.exit_code == 141
    assert pipeline.calls  # progress that nobody reads ends nothing


def test_interrupted_before_a_change(pipeline: Any, invoke: Any) -> None:
    pipeline.error = KeyboardInterrupt()
    result = invoke("deploy", "lab.ini", "qwen3-tiny", "--yes")
    assert result.exit_code == 130
    assert result.stderr == "interrupted; nothing was changed: run the same command again to go on\n"


def test_interrupted_amid_changes(pipeline: Any, invoke: Any) -> None:
    pipeline.error_after = KeyboardInterrupt()
    result = invoke("deploy", "lab.ini", "qwen3-tiny", "--yes", "-q")
    assert result.exit_code == 130
    assert "nothing is undone: run the same command again to go on" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("deplyo",), "there is no verb 'deplyo'; did you mean deploy?"),
        (("xyz",), "there is no verb 'xyz'\n"),
        (("deploy", "lab.ini"), "RELEASE, --bundle FILE"),
        (("deploy", "lab.ini", "r", "--bundle", "b.tar"), "one of the three"),
        (("plan", "lab.ini", "r", "--save", "/nowhere/plan.json"), "there is no directory /nowhere"),
        (("bundle", "r", "--output", "/nowhere/r.tar"), "there is no directory /nowhere"),
        (("rollout", "lab.ini", "r", "--pause", "nan"), "'nan' is no number of seconds"),
        (("rollout", "lab.ini", "r", "--surge", "--all-at-once"), "give one of the two"),
        (("rollback", "lab.ini", "r", "--surge", "--all-at-once"), "give one of the two"),
        (("rollback", "lab.ini", "r", "--soak", "inf"), "'inf' is no number of seconds"),
        (("plan", "lab.ini", "r", "--save", ""), "'--save': it names no file"),
        (("stop", "lab.ini", "--limit", ""), "'--limit': it is empty"),
        (("teardown", "lab.ini", ""), "'[RELEASE]': it is empty"),
        (("cordon", "lab.ini", " "), "'HOSTS': it is empty"),
        (("status", ""), "'INVENTORY': it is empty"),
        (("replace", "lab.ini", "", "h1"), "'OLD': it is empty"),
        (("logs", "lab.ini", ""), "'HOST|REPLICA': it is empty"),
        (("lock",), "which one: show, break?"),
        (("deploy", "lab.ini", "r", "--set", "port"), "'port' is not KEY=VALUE"),
        (("deploy", "lab.ini", "r", "--set", "=1"), "'=1' is not KEY=VALUE"),
        (("status", "lab.ini", "--output", "xml"), "'xml' is not one of"),
        (("status", "lab.ini", "--bogus"), "--bogus"),
        (("lab", "up", "--hosts", "0"), "0 is not in the range"),
        (("releases", "shwo"), "shwo"),
    ],
)
def test_usage(invoke: Any, words: tuple[str, ...], said: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert said in result.stderr.lower() or said in result.stderr
    assert "--help says more" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help(invoke: Any, words: tuple[str, ...]) -> None:
    result = invoke(*words)
    assert result.exit_code == 0
    for verb in main.VERBS:
        assert f"  {verb} " in result.stdout
    assert "Exit codes" in result.stdout


@pytest.mark.parametrize("verb", main.VERBS)
def test_help_of_each_verb(invoke: Any, verb: str) -> None:
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: flagprov {verb}")


def test_version(invoke: Any) -> None:
    assert invoke("--version").stdout.startswith("flagprov 0.")


def test_completion(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FLAGPROV_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "flagprov te")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert "teardown" in invoke().stdout


@pytest.mark.parametrize(
    ("environment", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colour: bool) -> None:
    class Terminal:
        closed = False

        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert screen.has_colour(Terminal()) is colour  # type: ignore[arg-type]
    assert screen.width_of(Terminal()) is not None  # type: ignore[arg-type]
    assert not screen.is_terminal(None)
