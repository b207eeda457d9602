"""What is wrong with a request is said before any host is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flagprov.errors import SettingsError
from flagprov.models.fleet import Fleet
from flagprov.models.image import ImageFacts
from flagprov.preparation import Request, prepare, probe_version
from flagprov.serving import image_key
from flagprov.site import Site

IMAGE = "r.example/vllm:1"
DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.ini"
    path.write_text("[flagprov_serving]\nh1 ansible_host=192.0.2.1 flagprov_chip=cpu-x86\n")
    return path


def look_into_image(inventory: Path, *options: str) -> None:
    site = Site(Fleet(inventory, ()).site)
    site.lock_image("qwen3-tiny", "cpu-x86", IMAGE, DIGEST)
    variant = prepare(request(inventory)).variants["h1"]
    known = [name.replace("_", "-") for name in variant.serve]
    facts = ImageFacts(DIGEST, "x86_64", "3.11.2", options=(*known, *options))
    site.save_facts(f"{image_key(variant.image, 'cpu-x86', 'x86_64')}-{probe_version()}", facts)


def request(inventory: Path, *sets: str) -> Request:
    return Request(inventory, "qwen3-tiny", sets=(f"image={IMAGE}", *sets))


def test_a_known_image_refuses_a_mistyped_argument(inventory: Path) -> None:
    look_into_image(inventory, "max-model-len")
    assert prepare(request(inventory, "serve.max_model_len=512"))
    with pytest.raises(SettingsError, match=r"serve\.max_modellen; nearest: max_model_len") as caught:
        prepare(request(inventory, "serve.max_modellen=512"))
    assert caught.value.remedy == "take serve.max_modellen out of --set or flagprov_settings"


def test_nothing_is_said_of_an_image_that_nobody_looked_into(inventory: Path) -> None:
    assert prepare(request(inventory, "serve.max_modellen=512"))


def test_a_cards_own_command_takes_what_it_likes(inventory: Path, tmp_path: Path) -> None:
    """Its `serve` goes to no vLLM: it only names the model, and what probes need."""
    look_into_image(inventory)
    release = {
        "schema_version": 1,
        "name": "qwen3-tiny",
        "title": "A script of the card",
        "model": {"name": "m"},
        "weights": {"source": "file:///m", "path": "/m", "root": "/"},
        "variants": {
            "cpu-x86": {
                "image": {"reference": IMAGE},
                "container": {"mounts": [{"source": "/m", "target": "/m"}]},
                "launch": {"kind": "command", "command": ["/serve.sh"]},
                "serve": {"served_model_name": "m", "its_own": 1},
                "operators": "native",
            }
        },
    }
    path = tmp_path / "script.yaml"
    path.write_text(json.dumps(release))
    assert prepare(Request(inventory, str(path)))
