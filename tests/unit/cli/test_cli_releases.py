from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov import catalog


def test_list(invoke: Any) -> None:
    result = invoke("releases", "list")
    assert result.exit_code == 0
    assert [row.split()[0] for row in result.stdout.splitlines()[1:]] == list(catalog.release_names())
    found = json.loads(invoke("releases", "list", "--output", "json").stdout)
    assert found["schema_version"] == 1
    assert (
        yaml.safe_load(invoke("releases", "list", "--output", "yaml").stdout)["releases"] == found["releases"]
    )


@pytest.mark.parametrize("name", catalog.release_names())
def test_show(invoke: Any, name: str) -> None:
    release = catalog.load_release(name)
    text = invoke("releases", "show", name)
    assert text.exit_code == 0
    for variant in release.variants.values():
        assert variant.image.reference in text.stdout
    assert json.loads(invoke("releases", "show", name, "--output", "json").stdout) == release.model_dump(
        mode="json"
    )


@pytest.mark.parametrize("name", catalog.release_names())
def test_shown_yaml_is_a_release_file(invoke: Any, tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(invoke("releases", "show", name, "--output", "yaml").stdout, encoding="utf-8")
    assert catalog.load_release(str(file)) == catalog.load_release(name)


def test_unknown_release(invoke: Any) -> None:
    result = invoke("releases", "show", "qwen3-tny")
    assert result.exit_code == 2
    assert "qwen3-tiny" in result.stderr
