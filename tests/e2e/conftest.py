"""The lab as any fleet: the command line, ssh to lab hosts, and docker to pull their plugs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[2]
INVENTORY = ROOT / "inventory" / "lab.ini"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Controller:
    """A command of flagprov in a process of its own, whose steps are seen as they begin."""

    def __init__(self, *words: str | Path) -> None:
        argv = [sys.executable, "-m", "flagprov", *map(str, words)]
        pipe: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(argv, cwd=ROOT, text=True, **pipe)
        self._seen: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def begins(self, words: str) -> None:
        """Returns once a line of its progress has these words."""
        assert self._process.stderr
        for line in self._process.stderr:
            self._seen.append(line)
            if words in line:
                return
        pytest.fail(f"it ended before {words!r}:\n{''.join(self._seen)}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def end(self, timeout: float = 300) -> Result:
        out, err = self._process.communicate(timeout=timeout)
        return Result(self._process.returncode, out, "".join(self._seen) + err)


class Lab:
    """Two running lab hosts; every test leaves them as it found them, or removes what it deployed."""

    hosts = ("lab1", "lab2")
    inventory = INVENTORY

    def flagprov(self, *arguments: str | Path, timeout: float = 600) -> Result:
        argv = [sys.executable, "-m", "flagprov", *map(str, arguments)]
        done = subprocess.run(
            argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def deploy(self, release: str, *more: str, expect: int = 0) -> Any:
        result = self.flagprov("deploy", self.inventory, release, "--yes", "--output", "json", *more)
        assert result.code == expect, result
        return result.json

    def on(self, host: str, command: str, check: bool = True) -> str:
        from flagprov.lab import ssh_command

        done = subprocess.run(
            [*ssh_command(host), command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def docker(self, *arguments: str) -> None:
        subprocess.run(["docker", *arguments], check=True, capture_output=True, timeout=120)

    def container(self, host: str) -> str:
        from flagprov.lab.layout import Layout

        return Layout(ROOT).container(host)

    def states(self, release: str) -> dict[str, str]:
        """Host -> state of its replica of the release."""
        result = self.flagprov("status", self.inventory, "--output", "json")
        return {
            replica["hosts"][0]: replica["state"]
            for replica in result.json["replicas"]
            if replica["release"] == release
        }

    def until(self, truth: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something that happens by itself, on another machine."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if truth():
                return
            time.sleep(0.5)
        pytest.fail(f"not within {seconds} s: {what}")

    def up_again(self) -> None:
        """The lab with the hosts that it has; mends weights."""
        from flagprov.lab import status

        chips = ",".join(host.chip for host in status().hosts if host.chip)
        result = self.flagprov("lab", "up", "--hosts", "2", *(("--chips", chips) if chips else ()))
        assert result.code == 0, result

    def teardown(self, *more: str) -> None:
        result = self.flagprov("teardown", self.inventory, "--yes", *more)
        assert result.code == 0, result


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if not INVENTORY.exists():
        pytest.skip("no lab is up: `flagprov lab up --hosts 2` starts one, `make test` does so by itself")
    os.environ.setdefault("NO_COLOR", "1")
    yield Lab()


@pytest.fixture
def clean_hosts(lab: Lab) -> Iterator[Lab]:
    """Hosts without any replica, before and after."""
    lab.teardown()
    yield lab
    lab.teardown()
