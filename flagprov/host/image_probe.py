"""What an image really is, said from inside it: one JSON object on standard output.

One file, standard library only, Python 3.8. Run as
`docker run --rm --network none --entrypoint python3 -v THIS:/probe.py:ro IMAGE /probe.py`.
A part that cannot be read is null, never a guess; why it could not is kept under `errors`.
"""

from __future__ import annotations

import ast
import functools
import glob
import json
import os
import platform
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional

SCHEMA_VERSION = 1
PART_S = 120.0  # importing vLLM or FlagGems may take this long
MARK = "flagprov-answer "
# These are the probe's own container's, not the image's.
NOT_OF_THE_IMAGE = ("HOSTNAME", "HOME", "PWD", "OLDPWD", "SHLVL", "_", "TERM")
NO_DEVICE = re.compile(r"no device|no nvidia|no accelerator|device type|libcuda|libascend", re.IGNORECASE)
# Conda environments that cards activate before the launch; the image's own python3 does not see them.
ENVIRONMENTS = ("/opt/*conda*/envs/*", "/root/*conda*/envs/*", "/opt/venv", "/workspace/venv")

PRELUDE = """
import json, sys
def answer(value):
    sys.stdout.write("\\n" + MARK + json.dumps(value) + "\\n")
    sys.stdout.flush()
"""

PACKAGES = """
import importlib.util, os
from importlib import metadata
versions, folders = {}, {}
for name in ("vllm", "flag_scale", "flag_gems", "torch", "ray"):
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
for name in ("vllm", "vllm_fl", "vllm_ascend", "flag_scale", "flagscale", "flag_gems", "torch"):
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if places:
        folders[name] = os.path.realpath(places[0])
answer({"versions": versions, "folders": folders})
"""

VLLM_OPTIONS = """
import importlib
def by_command():
    # The way that the `vllm` command itself goes, so it holds over many versions.
    module = importlib.import_module("vllm.entrypoints.cli.serve")
    subparsers = module.FlexibleArgumentParser().add_subparsers()
    return module.cmd_init()[0].subparser_init(subparsers)
def by_function(name):
    module = importlib.import_module(name)
    try:
        from vllm.utils import FlexibleArgumentParser
    except ImportError:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    return module.make_arg_parser(FlexibleArgumentParser())
failures = []
for attempt in (
    by_command,
    lambda: by_function("vllm.entrypoints.openai.cli_args"),
    lambda: by_function("vllm.entrypoints.launchers.cli_args"),
):
    try:
        parser = attempt()
        break
    except Exception as error:
        failures.append(type(error).__name__ + ": " + str(error))
else:
    sys.exit("; ".join(failures))
answer(sorted({name[2:] for action in parser._actions for name in action.option_strings if name[:2] == "--"}))
"""


class Failed(Exception):
    """A part could not be read; the message is kept."""


def run(argv: List[str], seconds: float = PART_S) -> str:
    """Standard output of a command; Failed carries the end of what it complained."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise Failed("no answer within %d s" % seconds) from None
    except OSError as error:
        raise Failed(str(error)) from None
    if done.returncode:
        text = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise Failed(text.splitlines()[-1][-500:] if text else "exit code %d" % done.returncode)
    return done.stdout.decode("utf-8", "replace")


def ask(python: str, code: str, seconds: float = PART_S) -> Any:
    """What code hands to answer() in an interpreter of its own: an import may print, hang or crash."""
    output = run([python, "-c", "MARK = %r\n%s\n%s" % (MARK, PRELUDE, code)], seconds)
    for line in reversed(output.splitlines()):
        if line.startswith(MARK):
            return json.loads(line[len(MARK) :])
    raise Failed("no answer")


def interpreters() -> List[str]:
    """Pythons of the image that may serve: of its commands first, then its own, then its environments'."""
    found = []
    for command in ("flagscale", "vllm"):
        path = shutil.which(command)
        if path:
            with open(path, "rb") as file:
                first = file.readline(300)
            if first.startswith(b"#!"):
                found.append(shlex.split(first[2:].decode("utf-8", "replace"))[0])
    found += [shutil.which(name) or "" for name in ("python3", "python")]
    for pattern in ENVIRONMENTS:
        found += sorted(glob.glob(pattern + "/bin/python3"))
    known: Dict[str, None] = {}
    for path in found:
        if os.path.isfile(path) and not path.endswith("/env"):
            known[path] = None
    return list(known)


class Probe:
    """Reads part by part; a part that fails leaves null and its reason."""

    def __init__(self) -> None:
        self.errors: Dict[str, str] = {}
        self.python = sys.executable or "python3"
        self.versions: Dict[str, str] = {}
        self.folders: Dict[str, str] = {}

    def part(self, name: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as error:
            self.errors[name] = (
                str(error) if isinstance(error, Failed) else "%s: %s" % (type(error).__name__, error)
            )
            return None

    def find_packages(self) -> None:
        """Settle on the interpreter that holds most of vLLM and FlagScale."""
        best = -1
        for python in interpreters():
            answer = self.part("python", functools.partial(ask, python, PACKAGES, 30.0))
            score = len({"vllm", "flag_scale"} & set(answer["versions"])) if answer else -1
            if score > best:
                best = score
                self.python, self.versions, self.folders = python, answer["versions"], answer["folders"]

    def facts(self) -> Dict[str, Any]:
        self.find_packages()
        importable = (
            self.part("flaggems_error", self.flaggems_error) if "flag_gems" in self.versions else None
        )
        return {
            "schema_version": SCHEMA_VERSION,
            "arch": platform.machine(),
            "python": self.part("python", lambda: run([self.python, "-c", VERSION], 30).strip()),
            "vllm": self.versions.get("vllm"),
            "options": self.part("options", self.options) if "vllm" in self.versions else None,
            "flagscale": self.part("flagscale", self.flagscale),
            "flagscale_deploy": self.part("flagscale_deploy", self.deploy),
            "flaggems": self.versions.get("flag_gems"),
            "flaggems_enable": self.part("flaggems_enable", self.flaggems_enable),
            "flaggems_error": importable,
            "flaggems_by": self.part("flaggems_by", self.flaggems_by),
            "torch": self.versions.get("torch"),
            "ray": self.versions.get("ray"),
            "cuda": self.part("cuda", self.cuda),
            "cann": self.part("cann", cann),
            "ssh": bool(shutil.which("ssh")),
            "sshd": bool(shutil.which("sshd") or os.path.exists("/usr/sbin/sshd")),
            "user": os.getuid(),
            "users": {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()},
            "env": {
                name: value for name, value in sorted(os.environ.items()) if name not in NOT_OF_THE_IMAGE
            },
            "errors": self.errors,
        }

    def options(self) -> List[str]:
        try:
            return list(ask(self.python, VLLM_OPTIONS))
        except Failed as error:
            said = str(error)
        command = os.path.join(os.path.dirname(self.python), "vllm")
        command = command if os.path.exists(command) else shutil.which("vllm") or "vllm"
        for argument in ("--help=all", "--help"):
            try:
                found = options_in(run([command, "serve", argument]))
            except Failed as error:
                said += "; vllm serve %s: %s" % (argument, error)
                continue
            if "tensor-parallel-size" in found:  # newer ones print only their groups for a bare --help
                return found
        raise Failed(said)

    def flagscale(self) -> Optional[str]:
        if "flag_scale" in self.versions or not self.flagscale_folder():
            return self.versions.get("flag_scale")
        raise Failed("it is there, but has no package metadata")

    def flagscale_folder(self) -> Optional[str]:
        for name in ("flag_scale", "flagscale"):
            folder = self.folders.get(name)
            for place in (folder, folder and os.path.dirname(folder)):
                if place and os.path.isfile(os.path.join(place, "flagscale", "runner", "runner_serve.py")):
                    return place
        return None

    def deploy(self) -> Optional[str]:
        folder = self.flagscale_folder()
        if folder is None:
            return None
        with open(os.path.join(folder, "flagscale", "runner", "runner_serve.py"), encoding="utf-8") as file:
            return deploy_place(file.read())

    def flaggems_enable(self) -> Optional[List[str]]:
        """From the source: the signature is known even where the import needs a device."""
        if "flag_gems" not in self.folders:
            return None
        with open(os.path.join(self.folders["flag_gems"], "__init__.py"), encoding="utf-8") as file:
            return parameters(file.read(), "enable")

    def flaggems_by(self) -> Optional[str]:
        """Who of the image enables FlagGems itself: a plugin of vLLM, or its vLLM, which was patched."""
        if "vllm_fl" in self.folders:
            return "vllm_fl"
        for name in ("vllm", "vllm_ascend"):
            for pattern in ("worker/*.py", "v1/worker/*.py"):
                for path in sorted(glob.glob(os.path.join(self.folders.get(name, "/nowhere"), pattern))):
                    with open(path, encoding="utf-8", errors="replace") as file:
                        if re.search(r"^\s*(?:import|from) flag_gems\b", file.read(), re.MULTILINE):
                            return "vllm"
        return None

    def flaggems_error(self) -> Optional[str]:
        try:
            ask(self.python, "import flag_gems\nanswer(None)")
        except Failed as error:
            # The probe's container has no accelerator, so this may be all that is wrong.
            return ("without an accelerator: %s" if NO_DEVICE.search(str(error)) else "%s") % error
        return None

    def cuda(self) -> Optional[str]:
        if "torch" not in self.folders:
            return None
        with open(os.path.join(self.folders["torch"], "version.py"), encoding="utf-8") as file:
            found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", file.read(), re.MULTILINE)
        return found.group(1) if found else None


VERSION = "import platform; print(platform.python_version())"


def options_in(text: str) -> List[str]:
    """Long options in the text of --help."""
    return sorted(set(re.findall(r"(?<![\w-])--([a-z0-9][a-z0-9_-]*[a-z0-9])", text)))


def deploy_place(source: str) -> Optional[str]:
    """Where FlagScale's serve runner reads its deploy block, from its source; None where it reads none."""
    if re.search(r"""get\(\s*["']runner["'][^)]*\)\s*\.\s*get\(\s*["']deploy["']|runner\.deploy\b""", source):
        return "experiment.runner.deploy"
    if re.search(r"""experiment\s*\.\s*get\(\s*["']deploy["']|experiment\.deploy\b""", source):
        return "experiment.deploy"
    if re.search(r"serve\.deploy\b", source):
        return "serve.deploy"
    return None


def parameters(source: str, function: str) -> Optional[List[str]]:
    """Names of a function's parameters, from its source."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return [each.arg for each in node.args.args + node.args.kwonlyargs]
    return None


def cann() -> Optional[str]:
    """Version of the CANN toolkit; its place differs between versions."""
    patterns = (
        "/usr/local/Ascend/ascend-toolkit/latest/*-linux/ascend_toolkit_install.info",
        "/usr/local/Ascend/cann*/*-linux/ascend_toolkit_install.info",
        "/usr/local/Ascend/cann*/*-linux/ascend_cann_install.info",
    )
    for path in (path for pattern in patterns for path in sorted(glob.glob(pattern))):
        with open(path, encoding="utf-8") as file:
            found = re.search(r"^version=(\S+)", file.read(), re.MULTILINE)
        if found:
            return found.group(1)
    return None


def main() -> None:
    json.dump(Probe().facts(), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
