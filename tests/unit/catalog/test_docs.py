"""docs/releases.md is the reference: its example loads, and no key is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from flagprov.catalog import load_release
from flagprov.chips import chip_names
from flagprov.models.release import (
    BuildStep,
    Card,
    Container,
    Image,
    Launch,
    Metric,
    Model,
    Mount,
    Readiness,
    Release,
    Resolution,
    Strict,
    Variant,
    Weights,
)
from flagprov.models.settings import Settings
from flagprov.settings import merge_settings

DOCS = (Path(__file__).parents[3] / "docs" / "releases.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
MODELS = (
    Release,
    Card,
    Model,
    Weights,
    Readiness,
    Variant,
    Image,
    BuildStep,
    Container,
    Mount,
    Launch,
    Metric,
    Resolution,
    Settings,
)


def test_the_example_loads(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(EXAMPLES[0])
    assert load_release(str(file)).variants["nvidia-h100"].devices == 2


def test_the_build_steps_are_steps() -> None:
    package, repository = Image.model_validate(yaml.safe_load(EXAMPLES[1])["image"]).build
    assert package.pip and repository.git and repository.ref


def test_the_settings_are_settings() -> None:
    settings = merge_settings(yaml.safe_load(EXAMPLES[2])["flagprov_settings"])
    assert settings.serve == {"max_num_seqs": 32, "max_model_len": None}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_is_described(model: type[Strict]) -> None:
    assert [key for key in model.model_fields if f"`{key}`" not in DOCS] == []


def test_every_chip_is_named() -> None:
    assert [chip for chip in chip_names() if f"`{chip}`" not in DOCS] == []
