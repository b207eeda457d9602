"""The image probe in an interpreter that sees packages made on the spot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from launching import write

from flagprov.host import image_probe
from flagprov.runner.facts import parse_facts

PROBE = Path(image_probe.__file__)
SERVE = """
import argparse
class FlexibleArgumentParser(argparse.ArgumentParser):
    pass
class Serve:
    def subparser_init(self, subparsers):
        parser = subparsers.add_parser("serve")
        parser.add_argument("model_tag", nargs="?")
        parser.add_argument("--port", type=int)
        parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction)
        parser.add_argument("--tensor-parallel-size", "-tp")
        return parser
def cmd_init():
    print("INFO noise on standard output")
    return [Serve()]
"""
NEW = 'deploy = config.experiment.get("runner", {}).get("deploy", {}).get("port", None)\n'
OLD = 'deploy = config.experiment.get("deploy", {}).get("port", None)\n'
OLDEST = 'if getattr(config.serve.deploy, "use_native_serve", True): pass\n'
GEMS = "def enable(lib=None, unused=None, *, record=False):\n    pass\n"
Probe = Callable[[Mapping[str, str]], dict[str, Any]]


def package(name: str, version: str) -> dict[str, str]:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {f"{name}/__init__.py": "", f"{name}-{version}.dist-info/METADATA": metadata}


def vllm(serve: str = SERVE) -> dict[str, str]:
    empty = {f"vllm/{folder}__init__.py": "" for folder in ("entrypoints/", "entrypoints/cli/")}
    return package("vllm", "0.9.1") | empty | {"vllm/entrypoints/cli/serve.py": serve}


def flagscale(source: str) -> dict[str, str]:
    return package("flag_scale", "0.8.0") | {"flag_scale/flagscale/runner/runner_serve.py": source}


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    def run(files: Mapping[str, str]) -> dict[str, Any]:
        write(tmp_path / "site", files)
        env = {
            "PATH": os.defpath,
            "PYTHONPATH": str(tmp_path / "site"),
            "OF_THE_IMAGE": "yes",
            "HOME": "/root",
        }
        done = subprocess.run(
            [sys.executable, str(PROBE)], env=env, capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stderr == ""
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    return run


def test_an_image_with_everything(probe: Probe) -> None:
    gems = package("flag_gems", "2.2") | {"flag_gems/__init__.py": GEMS}
    torch = package("torch", "2.6.0") | {"torch/version.py": "cuda: Optional[str] = '12.4'\n"}
    facts = parse_facts("sha256:a", probe(vllm() | flagscale(NEW) | gems | torch))
    assert (facts.vllm, facts.flagscale, facts.torch, facts.cuda) == ("0.9.1", "0.8.0", "2.6.0", "12.4")
    assert {"port", "enforce-eager", "no-enforce-eager", "tensor-parallel-size"} <= set(facts.options)
    assert "tp" not in facts.options
    assert facts.flagscale_deploy == "experiment.runner.deploy"
    assert (facts.flaggems, facts.flaggems_enable, facts.flaggems_error) == (
        "2.2",
        ("lib", "unused", "record"),
        None,
    )
    assert facts.env["OF_THE_IMAGE"] == "yes"
    assert "HOME" not in facts.env
    assert facts.python.startswith("3.")
    assert (facts.user, facts.users["root"]) == (os.getuid(), 0)


def test_an_image_with_nothing(probe: Probe) -> None:
    answer = probe({})
    nothing = (
        "vllm",
        "options",
        "flagscale",
        "flagscale_deploy",
        "flaggems",
        "flaggems_enable",
        "torch",
        "cuda",
        "cann",
    )
    assert [answer[key] for key in nothing] == [None] * len(nothing)
    assert answer["errors"] == {}


@pytest.mark.parametrize(
    ("source", "place"),
    [(NEW, "experiment.runner.deploy"), (OLD, "experiment.deploy"), (OLDEST, "serve.deploy"), ("", None)],
)
def test_where_flagscale_reads_deploy(probe: Probe, source: str, place: str | None) -> None:
    assert probe(flagscale(source))["flagscale_deploy"] == place


def test_a_vllm_that_cannot_be_imported(probe: Probe) -> None:
    answer = probe(vllm("raise RuntimeError('Failed to infer device type')"))
    assert (answer["vllm"], answer["options"]) == ("0.9.1", None)
    assert "Failed to infer device type" in answer["errors"]["options"]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise RuntimeError('No device were detected on your machine !')", "without an accelerator: "),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os; os.abort()", "exit code -6"),
    ],
)
def test_a_flaggems_that_cannot_be_imported(probe: Probe, source: str, error: str) -> None:
    answer = probe(package("flag_gems", "5.0.2") | {"flag_gems/__init__.py": GEMS + source})
    assert answer["flaggems_error"].startswith(error)
    assert answer["flaggems_enable"] == ["lib", "unused", "record"]


def test_a_flaggems_that_cannot_be_parsed_is_null_not_a_guess(probe: Probe) -> None:
    answer = probe(package("flag_gems", "9.0") | {"flag_gems/__init__.py": "def enable(:\n"})
    assert answer["flaggems_enable"] is None
    assert "SyntaxError" in answer["errors"]["flaggems_enable"]


def test_a_part_that_hangs_has_a_limit() -> None:
    with pytest.raises(image_probe.Failed, match="no answer within 0 s"):
        image_probe.ask(sys.executable, "import signal; signal.pause()", 0.3)


def test_options_in_the_text_of_help() -> None:
    text = """
  --host HOST  Host, see --port
  --enforce-eager, --no-enforce-eager
  -tp N, --tensor-parallel-size N (a--b)
"""
    assert image_probe.options_in(text) == [
        "enforce-eager", "host", "no-enforce-eager", "port", "tensor-parallel-size",
    ]  # fmt: skip


PATCHED = "import os\nif os.getenv('USE_FLAGGEMS'):\n    import flag_gems\n    flag_gems.enable()\n"


@pytest.mark.parametrize(
    ("files", "by"),
    [
        ({}, None),
        ({"vllm/v1/worker/gpu_model_runner.py": PATCHED}, "vllm"),
        ({"vllm/worker/model_runner.py": PATCHED}, "vllm"),
        ({"vllm/v1/worker/gpu_model_runner.py": "# flag_gems is not imported here\n"}, None),
        ({"vllm_ascend/__init__.py": "", "vllm_ascend/worker/model_runner_v1.py": PATCHED}, "vllm"),
        (package("vllm_fl", "0.2.0"), "vllm_fl"),
    ],
)
def test_who_of_the_image_enables_flaggems(probe: Probe, files: dict[str, str], by: str | None) -> None:
    facts = probe(vllm() | files)
    assert facts["flaggems_by"] == by
    assert parse_facts("sha256:0", facts).flaggems_by == by
