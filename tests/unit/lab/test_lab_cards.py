"""What stands behind the cards' names: images dressed for their chip, and weights that fit their model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flagprov.catalog.loader import load_release
from flagprov.errors import UsageError
from flagprov.host.resources.weights import diff, observe
from flagprov.lab import cards
from flagprov.lab.chips import CHIPS, chip_hosts, hardware_files
from flagprov.lab.serving import STANDIN
from flagprov.runner import operators

PYTHON = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}


def test_every_card_has_its_image_under_its_own_name() -> None:
    found = {(image.release, image.chip): image for image in cards.card_images(CHIPS)}
    assert set(found) == {
        ("qwq-32b", "nvidia-h100"),
        ("qwen2.5-vl-32b", "nvidia-h100"),
        ("robobrain2-7b-fp8", "nvidia-h100"),
        ("qwen3-4b", "ascend-a2"),
        ("qwen3-4b", "ascend-a3"),
        ("qwen2-7b", "graviton4"),
    }
    graviton = found["qwen2-7b", "graviton4"]
    assert (graviton.repository, graviton.tag) == ("flagrelease/flagrelease", "flagrelease-arm")
    assert graviton.arch == "arm64"
    assert "harbor.baai.ac.cn" in cards.registries(["ascend-a3"])
    names = [image.tag for image in cards.card_images(["ascend-a3"])]
    assert names == ["2512101714", "flagrelease_ascend_qwen3_4b"]


def test_each_image_of_a_card_has_its_case() -> None:
    """tests/e2e/test_chips.py compares what runs with them."""
    folder = Path(__file__).parents[2] / "cases" / "cards"
    for image in cards.card_images(CHIPS):
        case = yaml.safe_load((folder / f"{image.release}-{image.chip}.yaml").read_text())
        release = load_release(image.release)
        names = (
            release.variants[image.chip].image.reference,
            *release.variants[image.chip].image.alternatives,
        )
        assert any(name in case["docker_run"].split() for name in names)
        assert all(difference["reason"] for difference in case["differences"])


def test_a_name_that_says_another_architecture_is_not_used_where_there_is_another() -> None:
    (name,) = cards.fitting_images("ascend-a3").values()
    assert name.endswith(":flagrelease_ascend_qwen3_4b")
    assert cards.fitting_images("ascend-a2") == cards.fitting_images("graviton4") == {}


@pytest.mark.parametrize("name", ["qwq-32b", "qwen3-4b", "qwen2-7b"])
def test_weights_are_whole_and_fit_the_release(name: str, tmp_path: Path) -> None:
    release = load_release(name)
    cards.write_weights(tmp_path, [release])
    assert release.weights.root in cards.ROOTS
    path = tmp_path / release.weights.path.lstrip("/")
    spec = {"path": str(path), "remedy": ""}
    assert diff(spec, observe(spec), set()) == []
    config = json.loads((path / "config.json").read_text())
    assert config["num_attention_heads"] == release.model.attention_heads


@pytest.mark.parametrize("ranks", [1, 3])
def test_workers_of_the_stand_in_prove_flaggems(ranks: int, tmp_path: Path) -> None:
    for path, text in {**cards.dressing("nvidia-h100"), **dict(operators._plugin_texts())}.items():
        file = tmp_path / path.removeprefix(cards.PACKAGES + "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "orders.json").write_text('{"schema_version": 1, "mode": "enable", "leave_out": ["mul"]}')
    env = {
        **PYTHON,
        "PYTHONPATH": f"{STANDIN}:{tmp_path}:{tmp_path}/{operators.DIRECTORY}",
        "FLAGPROV_OPERATORS": str(tmp_path / "orders.json"),
        "FLAGPROV_RUN": str(tmp_path / "run"),
    }
    code = f"from vllm.workers import start; start({ranks})"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
    said = [json.loads(file.read_text()) for file in (tmp_path / "run/operators").iterdir()]
    assert sorted(each["rank"] for each in said) == list(range(ranks))
    assert {each["flaggems"] for each in said} == {"on"}
    assert "mm" in said[0]["operators"] and "mul.Tensor" not in said[0]["operators"]
    assert ranks == 1 or {each["process"] for each in said} >= {"VLLM::Worker_TP0"}


def test_a_host_of_a_chip_shows_its_hardware() -> None:
    hosts = chip_hosts(["ascend-a3", "nvidia-h100", "ascend-a3"])
    assert [host.name for host in hosts] == ["a3-1", "h100-1", "a3-2"]
    files = hardware_files(hosts[0].kind)
    assert b"CHIP=ascend-a3\nDEVICES=16\n" in files["etc/flagprov-emulated"][0]
    with pytest.raises(UsageError) as refused:
        chip_hosts(["nvidia-b200"])
    assert "graviton4" in str(refused.value.remedy)
