"""What an image really is, said from inside it: one JSON object on standard output.

One file, standard library only, Python 3.8. Run as
`docker run --rm --network none --entrypoint python3 -v THIS:/probe.py:ro IMAGE /probe.py`.
A part that cannot be read is null, never a guess; why it could not is under `errors`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional

SCHEMA_VERSION = 1
PART_S = 120  # importing vLLM or FlagGems takes this long at most
ANSWER = "flagprov-answer "
# The environment of the probe's own container says nothing of the image.
NOT_OF_THE_IMAGE = ("HOSTNAME", "HOME", "PWD", "OLDPWD", "SHLVL", "_")
NO_DEVICE = re.compile(r"no device|no accelerator|no nvidia driver|found no|not compiled with cuda", re.IGNORECASE)

VLLM_PARSER = r"""
import argparse, importlib
def by_command():
    # The same path as the `vllm` command itself, so it holds over many versions.
    module = importlib.import_module("vllm.entrypoints.cli.serve")
    subparsers = module.FlexibleArgumentParser().add_subparsers()
    return [command.subparser_init(subparsers) for command in module.cmd_init()][0]
def by_function(name):
    module = importlib.import_module(name)
    try:
        from vllm.utils import FlexibleArgumentParser
    except ImportError:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    return module.make_arg_parser(FlexibleArgumentParser())
errors = []
for attempt in (
    by_command,
    lambda: by_function("vllm.entrypoints.openai.cli_args"),
    lambda: by_function("vllm.entrypoints.launchers.cli_args"),
):
    try:
        parser = attempt()
        break
    except Exception as error:
        errors.append("%s: %s" % (type(error).__name__, error))
else:
    raise SystemExit("; ".join(errors))
answer(sorted({name[2:] for action in parser._actions for name in action.option_strings if name[:2] == "--"}))
"""

FLAGGEMS = r"""
import inspect, flag_gems
answer(list(inspect.signature(flag_gems.enable).parameters))
"""

PRELUDE = r"""
import json, sys
def answer(value):
    sys.stdout.write("\n%s%s\n" % (MARK, json.dumps(value)))
    sys.stdout.flush()
"""


class Failed(Exception):
    """A part could not be read; the message is kept."""


def in_python(code: str, seconds: float = PART_S) -> Any:
    """What code hands to answer(), run in an interpreter of its own: imports may print, hang or crash."""
    script = "MARK = %r\n%s\n%s" % (ANSWER, PRELUDE, code)
    output = run([python(), "-c", script], seconds)
    for line in reversed(output.splitlines()):
        if line.startswith(ANSWER):
            return json.loads(line[len(ANSWER) :])
    raise Failed("no answer")


def run(argv: List[str], seconds: float = PART_S) -> str:
    """Standard output of a command; Failed carries the end of its standard error."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds)  # noqa: E501
    except subprocess.TimeoutExpired:
        raise Failed("no answer within %d s" % seconds) from None
    except OSError as error:
        raise Failed(str(error)) from None
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip() or done.stdout.decode("utf-8", "replace").strip()
        raise Failed(text.splitlines()[-1][-500:] if text else "exit code %d" % done.returncode)
    return done.stdout.decode("utf-8", "replace")
