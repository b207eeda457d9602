"""Running programs for the lab: one way, with errors that say what was run and what it said."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab.layout import find_layout

MARK = "FLAGPROV_LAB"  # in the environment of whatever a lab command starts, so that `down` finds it again


def run(
    argv: Iterable[str | Path],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    remedy: str = "",
    timeout: float | None = 900,
) -> str:
    """Standard output of a program; raises LabError with the end of what it said."""
    argv = list(argv)
    done = attempt(argv, stdin=stdin, env=env, timeout=timeout)
    said = (done.stderr or done.stdout).decode(errors="replace")
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(done.stdout + done.stderr)
    if done.returncode:
        tail = "\n".join(said.strip().splitlines()[-8:])
        raise LabError(f"`{' '.join(map(str, argv[:4]))} ...` failed: {tail}", remedy=remedy)
    return done.stdout.decode(errors="replace")


def attempt(
    argv: Iterable[str | Path],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = 900,
) -> subprocess.CompletedProcess[bytes]:
    """Like run, but what a failure means is the caller's business."""
    words = [str(word) for word in argv]
    surroundings = {**os.environ, **(env or {}), MARK: str(find_layout().root)}
    source: dict[str, object] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            words, capture_output=True, env=surroundings, timeout=timeout, **source
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, b"", f"{words[0]}: not found".encode())
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, b"", f"no end after {timeout:.0f} s".encode())


def docker(*words: str | Path, stdin: bytes | None = None, timeout: float | None = 900) -> str:
    """One call of the docker command on this machine."""
    return run(["docker", *words], stdin=stdin, timeout=timeout).strip()


def lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.splitlines() if line.strip())
