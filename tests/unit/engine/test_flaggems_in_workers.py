"""FlagGems in the workers alone: real processes of a small vLLM, the plugin as it lies in a configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_vllm import GEMS, packages, write

from flagprov.runner.operators import _plugin_texts


@dataclass(frozen=True)
class Served:
    code: int
    said: dict[str, dict[str, Any]]  # by role
    records: list[dict[str, Any]]
    errors: str


def serve(tmp_path: Path, orders: dict[str, Any], env: dict[str, str] | None = None, **vllm: Any) -> Served:
    """One API server, one engine core and one worker, each an interpreter of its own."""
    site, conf, run = tmp_path / "site", tmp_path / "conf", tmp_path / "run"
    write(site, packages(**vllm))
    write(conf, dict(_plugin_texts()) | {"operators.json": json.dumps({"schema_version": 1, **orders})})
    done = subprocess.run(
        [sys.executable, "-m", "vllm.serve", "api"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{conf / 'engine'}{os.pathsep}{site}",
             "FLAGPROV_OPERATORS": str(conf / "operators.json"), "FLAGPROV_RUN": str(run), **(env or {})},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    said = {each["role"]: each for each in map(json.loads, done.stdout.splitlines())}
    records = [json.loads(path.read_text()) for path in sorted(run.glob("operators/*.json"))]
    return Served(done.returncode, said, records, done.stderr)


ENABLE = {"mode": "enable", "leave_out": ["softmax"]}


@pytest.mark.parametrize("old", [False, True])
def test_only_the_worker_imports_flaggems_after_its_device_is_set(tmp_path: Path, old: bool) -> None:
    served = serve(tmp_path, ENABLE, old=old)
    assert served.code == 0, served.errors
    imported = {role: said["imported"] for role, said in served.said.items()}
    assert imported == {"api": False, "core": False, "worker": True}
    (record,) = served.records
    assert record["pid"] == served.said["worker"]["pid"]
    assert (record["flaggems"], record["by"], record["version"]) == ("on", "plugin", "5.0.2")
    # What torch refused is no replaced operator, whatever FlagGems' own list says.
    assert record["operators"] == ["mm", "mul.Tensor"]
    assert (record["count"], record["left_out"], record["rank"]) == (2, ["softmax"], 0)
    assert record["device"] == "cuda:0"


def test_an_image_that_does_it_itself_is_only_watched(tmp_path: Path) -> None:
    served = serve(tmp_path, {"mode": "observe"}, {"USE_FLAGGEMS": "1"}, patched=True)
    assert served.code == 0, served.errors
    (record,) = served.records
    assert (record["flaggems"], record["by"]) == ("on", "image")
    assert "_softmax" in record["operators"]


def test_what_an_image_already_did_is_not_done_twice(tmp_path: Path) -> None:
    served = serve(tmp_path, ENABLE, {"USE_FLAGGEMS": "1"}, patched=True)
    assert [record["by"] for record in served.records] == ["image"]


@pytest.mark.parametrize(
    ("env", "operators"), [({}, ["mul.Tensor"]), ({"VLLM_FL_FLAGOS_WHITELIST": "mm,softmax"}, ["mm"])]
)
def test_the_fl_plugins_own_list_holds_beside_ours(
    tmp_path: Path, env: dict[str, str], operators: list[str]
) -> None:
    """`imported` before the device is set is that plugin's own way."""
    orders = {"mode": "observe", "leave_out": ["softmax", "broken"]}
    served = serve(tmp_path, orders, env, fl=True)
    (record,) = served.records
    assert (record["flaggems"], record["by"], record["operators"]) == ("on", "image", operators)


@pytest.mark.parametrize(
    ("gems", "orders", "message"),
    [
        (None, ENABLE, "No module named 'flag_gems'"),
        ("raise RuntimeError('No device were detected')", ENABLE, "No device were detected"),
        ("def enable(): pass", ENABLE, "cannot leave operators out"),
        ("def enable(unused=None): pass", ENABLE, "no operator was replaced"),
        (GEMS, {"mode": "observe"}, "no operator was replaced"),
        (GEMS.replace("if name in unused", "if name in ()"), ENABLE, "softmax should be left out"),
        (GEMS, {"mode": "enable", "schema_version": 2}, "schema version"),
    ],
)
def test_a_worker_without_flaggems_ends_and_says_why(
    tmp_path: Path, gems: str | None, orders: dict[str, Any], message: str
) -> None:
    served = serve(tmp_path, orders, gems=gems)
    assert served.code != 0
    assert message in served.errors
    assert "flagprov: " in served.errors
    for record in served.records:
        assert record["flaggems"] == "failed"
        assert message in record["error"]


def test_an_allow_list_that_does_not_name_it_keeps_it_out(tmp_path: Path) -> None:
    assert serve(tmp_path, ENABLE, {"VLLM_PLUGINS": "ascend"}).records == []
    assert len(serve(tmp_path, ENABLE, {"VLLM_PLUGINS": "ascend,flagprov_operators"}).records) == 1


def test_flaggems_own_list_for_its_vendor_still_holds(tmp_path: Path) -> None:
    config = "def resolve_user_setting(said, key): return ['mul'] if said is None else []"
    write(tmp_path / "site", {"flag_gems/config.py": config})
    (record,) = serve(tmp_path, ENABLE).records
    assert record["operators"] == ["mm"]
