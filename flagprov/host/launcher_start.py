"""What the launcher makes before an engine, how it starts one, and whether one is up."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any, Dict, Mapping, Optional, Sequence

from flagprov.host.launcher_launch import shell_script


class NotStarted(Exception):
    """The launch command came back and left no engine."""


def describe(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return "signal %d" % os.WTERMSIG(status)
    return "exit code %d" % os.WEXITSTATUS(status)


def fresh_directory(exp: str) -> None:
    """An empty experiment directory: FlagScale appends to what it finds there."""
    shutil.rmtree(exp, ignore_errors=True)
    for name in ("bin", "serve_logs"):
        os.makedirs(os.path.join(exp, name))
    shim = os.path.join(exp, "bin", "python")
    with open(shim, "w", encoding="utf-8") as file:
        file.write('#!/bin/sh\nexec python3 "$@"\n')
    os.chmod(shim, 0o755)


def engine_environment(launch: Mapping[str, Any], directory: str, run: str) -> Dict[str, str]:
    """The environment of everything that we start, on every node before anything starts."""
    env = dict(os.environ, PYTHONUNBUFFERED="1")
    env.update({str(name): str(value) for name, value in launch.get("env", {}).items()})
    env["FLAGPROV_CONFIG"] = directory
    env["FLAGPROV_EXP_DIR"] = os.path.join(run, "exp")
    shutil.rmtree(os.path.join(run, "operators"), ignore_errors=True)  # proofs of an earlier start
    if launch.get("operators"):
        env["FLAGPROV_RUN"] = run
        env["FLAGPROV_ENGINE"] = os.path.join(directory, "engine")
        env["FLAGPROV_OPERATORS"] = os.path.join(directory, str(launch["operators"]))
    return env


def spawn(
    launch: Mapping[str, Any], argv: Sequence[str], env: Mapping[str, str], cwd: str, output: str
) -> "subprocess.Popen[bytes]":
    """Run argv in a shell after the vendor's and the card's lines; its output goes to `output`."""
    try:
        with open(output, "ab", buffering=0) as target:
            return subprocess.Popen(
                ["bash", "-c", shell_script(launch, argv)],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=target,
                start_new_session=True,
            )
    except OSError as error:
        raise NotStarted("bash cannot be run in this image: %s" % error) from None


def engine_of_flagscale(exp: str) -> Optional[int]:
    """The engine's pid as FlagScale wrote it down; its exit code says nothing."""
    pids = os.path.join(exp, "serve_logs", "pids")
    try:
        names = sorted(os.listdir(pids))
    except OSError:
        return None
    for name in names:
        try:
            with open(os.path.join(pids, name), encoding="utf-8") as file:
                return int(file.read().split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return None
