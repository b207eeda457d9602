"""libyaml and YAML's parser in Python disagree now and then; what we ship and write reads alike in both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.catalog.loader import list_releases
from flagprov.catalog.show import as_dict
from flagprov.cli.releases import _yaml
from flagprov.distribute.lock import save
from flagprov.runner.flagscale import _dump

ROOT = Path(__file__).parents[3]
SHIPPED = ("flagprov", "meta", "molecule", "playbooks", "roles")
ODD = (
    "what?", "a?]", "? a", "a, b?", "é?", "😀?", "x: y", "- a", "a #b", "12:30", "yes", "~", "", " a ",
)  # fmt: skip

pytestmark = pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="PyYAML is without libyaml here")


def events(text: str, loader: Any) -> list[tuple[Any, ...]]:
    """What a parser makes of a text, before any tag is looked at."""
    said = yaml.parse(text, Loader=loader)
    return [(type(e).__name__, getattr(e, "value", None), getattr(e, "tag", None)) for e in said]


def alike(text: str) -> None:
    assert events(text, yaml.SafeLoader) == events(text, yaml.CSafeLoader)


def test_the_parsers_disagree_indeed() -> None:
    with pytest.raises(yaml.YAMLError):
        alike("[what?]")


@pytest.mark.parametrize("folder", SHIPPED)
def test_what_is_shipped(folder: str) -> None:
    files = [path for kind in ("*.yaml", "*.yml") for path in sorted((ROOT / folder).rglob(kind))]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert events(text, yaml.SafeLoader) == events(text, yaml.CSafeLoader), file


@pytest.mark.parametrize("release", list_releases(), ids=lambda release: release.name)
def test_a_release_as_it_is_shown_and_bundled(release: Any) -> None:
    text = _yaml(as_dict(release))
    alike(text)
    assert yaml.safe_load(text) == as_dict(release)


def test_the_runners_files() -> None:
    said = {"list": list(ODD), "nested": [list(ODD), {"k": list(ODD)}], "keys": {text: text for text in ODD}}
    alike(_dump(said))
    assert yaml.safe_load(_dump(said)) == said


def test_a_lock_whatever_its_files_are_called(tmp_path: Path) -> None:
    listed = [{"path": name or "none", "size": 1, "sha256": "0" * 64} for name in ODD]
    weights = {"source": "hf://a/b", "revision": "main", "files": listed}
    save(tmp_path / "lock.json", weights, {"cpu-x86": {"registry/a?b": ["sha256:" + "0" * 64]}})
    text = (tmp_path / "lock.json").read_text(encoding="utf-8")
    alike(text)
    assert json.loads(text)["weights"] == weights
