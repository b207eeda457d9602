"""The launcher as a process of its own, from a configuration directory made on the spot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

from flagprov.runner.render import launcher_files

DEADLINE_S = 60


class Running:
    """A started launcher; its output is read line by line, so no test sleeps."""

    def __init__(self, process: subprocess.Popen[str], run: Path) -> None:
        self.process = process
        self.run = run
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        """The first line with text in it."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError("\n".join([f"{text!r} never came:", *self.lines]))

    def finish(self) -> int:
        assert self.process.stdout
        self.lines += [line.rstrip("\n") for line in self.process.stdout]
        return self.process.wait()

    def state(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.run / "state.json").read_text())
        return read


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def document(**launch: Any) -> dict[str, str]:
    """A configuration: launch.json of the given keys, and the launcher."""
    said = {"schema_version": 1, "kind": "command", "replica": "r-0", "settle_s": 0.3, **launch}
    return launcher_files() | {"launch.json": json.dumps(said)}


def switch(link: Path, name: str) -> None:
    """Makes the link anew, in one step."""
    beside = link.with_name(link.name + ".new")
    beside.symlink_to(name)
    beside.rename(link)


def end_orphans(run: Path) -> None:
    """What a launcher that was killed could not take with it."""
    mark = f"FLAGPROV_RUN={run}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended meanwhile, or is not ours
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)


@contextmanager
def launched(
    tmp_path: Path,
    *,
    path: str | None = None,
    files: Mapping[str, str] | None = None,
    current: str | None = None,
    **launch: Any,
) -> Iterator[Running]:
    """Starts it; files default to a launch.json of the given keys.

    `current`: the name of its configuration, to which a link beside it leads; it is called by that.
    """
    conf, run = tmp_path / (current or "conf"), tmp_path / "run"
    write(conf, document(**launch) if files is None else files)
    if current:
        conf = tmp_path / "current"
        switch(conf, current)
    env = dict(os.environ, FLAGPROV_RUN=str(run))
    if path is not None:
        env["PATH"] = path + os.pathsep + env["PATH"]
    process = subprocess.Popen(
        [sys.executable, str(conf / "launcher.py")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env,
    )  # fmt: skip
    timer = Timer(DEADLINE_S, process.kill)
    timer.start()
    try:
        with process:
            try:
                yield Running(process, run)
            finally:
                process.terminate()  # it takes all of its own with it
                assert process.stdout
                process.stdout.read()
    finally:
        timer.cancel()
        end_orphans(run)
