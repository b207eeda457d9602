"""Every release of the catalog, on every chip that it has a variant for, gives a directory."""

from __future__ import annotations

import json

import pytest
import yaml

from flagprov.catalog import list_releases
from flagprov.chips import load_chips
from flagprov.models.desired import Replica
from flagprov.models.release import Release
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.render import render

PAIRS = [(release, chip) for release in list_releases() for chip in release.variants]
NAMES = [f"{release.name}-{chip}" for release, chip in PAIRS]


@pytest.mark.parametrize(("release", "chip"), PAIRS, ids=NAMES)
def test_release(release: Release, chip: str) -> None:
    variant = release.variants[chip]
    replica = Replica(f"{release.name}-0", release.name, chip, ("host",), tuple(range(variant.devices)), 9010)
    files = render(
        LaunchInputs(
            release=release.name,
            replica=replica,
            variant=variant,
            chip=load_chips()[chip],
            model_path=release.weights.path,
        )
    )
    document = json.loads(files["launch.json"])
    assert document["replica"] == replica.name
    if document["kind"] == "flagscale":
        serve = yaml.safe_load(files["conf/serve.yaml"])
        (item,) = yaml.safe_load(files[f"conf/serve/{document['flagscale']['label']}.yaml"])
        assert serve["experiment"]["deploy"]["use_fs_serve"] is False
        assert item["engine_args"]["model"] == release.weights.path
        assert not any(isinstance(value, dict) for value in item["engine_args"].values())
