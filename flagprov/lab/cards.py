"""What stands behind the cards' images and weights in a lab: the stand-in engine, dressed for each chip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flagprov.catalog.loader import list_releases
from flagprov.doctor.tags import parse
from flagprov.errors import LabError
from flagprov.lab.chips import FILES, KINDS
from flagprov.models.release import Release

PACKAGES = "usr/local/lib/python3.11/dist-packages"
TORCH, FLAGGEMS, CUDA, CANN = "2.6.0", "2.2", "12.4", "8.2.RC1.alpha002"
ROOTS = ("/nfs", "/data")  # where cards keep weights; the lab's hosts mount both
TOOLKIT = "usr/local/Ascend/ascend-toolkit"
# The real one cannot be imported here, for it needs a device.
GEMS = (FILES / "flag_gems.py").read_text(encoding="utf-8")
# Only the stand-in's workers see it: much else tries to import torch.
NO_TORCH = """import os

if "STANDIN_TORCH" not in os.environ:
    raise ModuleNotFoundError("No module named 'torch' (emulated)", name="torch")
"""
TORCH_LIBRARY = """class Library:
    def __init__(self, namespace, kind, dispatch_key=""):
        pass

    def impl(self, name, function, dispatch_key=""):
        pass
"""
# What images say in their configuration.
TOLD = {"nvidia-h100": {"CUDA_VERSION": f"{CUDA}.1"}, "ascend-a3": {"CANN_VERSION": CANN}}
TOLD["ascend-a2"] = TOLD["ascend-a3"]


@dataclass(frozen=True, slots=True)
class CardImage:
    """One image of a card: what it is called, and for which chip it is dressed."""

    release: str
    chip: str
    repository: str
    tag: str
    arch: str


def releases_of(chips: Sequence[str]) -> tuple[Release, ...]:
    """Releases of the catalog that have a variant for one of these chips."""
    return tuple(release for release in list_releases() if set(chips) & set(release.variants))


def card_images(chips: Sequence[str]) -> tuple[CardImage, ...]:
    """The images of all cards for these chips, under all of their own names less the registry."""
    arches = {kind.chip: kind.arch for kind in KINDS}
    return tuple(
        CardImage(release.name, chip, *split(name)[1:], arches[chip]) for release, chip, name in _names(chips)
    )


def fitting_images(chip: str) -> dict[str, str]:
    """Release -> another name of its image, where the first is that of another architecture."""
    wanted = next({"amd64": "x86_64", "arm64": "aarch64"}[kind.arch] for kind in KINDS if kind.chip == chip)
    found = {}
    for release in releases_of([chip]):
        image = release.variants[chip].image
        if parse(image.reference).arch not in (None, wanted):
            fitting = [name for name in image.alternatives if parse(name).arch in (None, wanted)]
            if fitting:
                found[release.name] = fitting[0]
    return found


def _names(chips: Sequence[str]) -> Iterator[tuple[Release, str, str]]:
    for release in releases_of(chips):
        for chip in dict.fromkeys(chips):
            if chip in release.variants:
                image = release.variants[chip].image
                for name in (image.reference, *image.alternatives):
                    yield release, chip, name


def registries(chips: Sequence[str]) -> tuple[str, ...]:
    """The registries that the cards for these chips name."""
    named = {split(name)[0] for _, _, name in _names(chips)}
    return tuple(sorted(named))


def split(reference: str) -> tuple[str, str, str]:
    """Registry, repository and tag of a card's image."""
    registry, slash, rest = reference.partition("/")
    repository, colon, tag = rest.rpartition(":")
    if not slash or not colon:
        raise LabError(f"image {reference}: a card's image has a registry and a tag")
    return registry, repository, tag


def dress(chip: str, target: Path) -> None:
    """The layer that makes a stand-in's image one for the chip."""
    for path, text in dressing(chip).items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (target / "workspace").mkdir(exist_ok=True)


def dressing(chip: str) -> dict[str, str]:
    """Path -> text of what images for the chip have beside the engine."""
    cuda = f"{CUDA!r}" if chip.startswith("nvidia") else "None"
    files = {
        f"{PACKAGES}/torch/__init__.py": NO_TORCH,
        f"{PACKAGES}/torch/library.py": TORCH_LIBRARY,
        f"{PACKAGES}/torch/version.py": f"__version__ = {TORCH!r}\ncuda = {cuda}\n",
        f"{PACKAGES}/torch-{TORCH}.dist-info/METADATA": _metadata("torch", TORCH),
        f"{PACKAGES}/flag_gems/__init__.py": GEMS,
        f"{PACKAGES}/flag_gems-{FLAGGEMS}.dist-info/METADATA": _metadata("flag_gems", FLAGGEMS),
    }
    if chip.startswith("nvidia"):
        # QwQ's card activates this environment; here it is the image's own.
        files["root/miniconda3/bin/activate"] = "export CONDA_DEFAULT_ENV=${1:-base}\n"
    if chip.startswith("ascend"):
        home = f"/{TOOLKIT}/latest"
        files[f"{TOOLKIT}/set_env.sh"] = f"export ASCEND_TOOLKIT_HOME={home}\n"
        files[f"{TOOLKIT}/latest/x86_64-linux/ascend_toolkit_install.info"] = f"version={CANN}\n"
        files["usr/local/Ascend/nnal/atb/set_env.sh"] = "export ATB_HOME_PATH=/usr/local/Ascend/nnal/atb\n"
    return files


def write_weights(target: Path, releases: Sequence[Release]) -> None:
    """Small files in the form of weights, below target as the cards have them below /."""
    for release in releases:
        folder = target / release.weights.path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in weights(release).items():
            file = folder / name
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)


def weights(release: Release) -> dict[str, bytes]:
    """A configuration that fits what the release says of its model, and one tensor that no one reads."""
    config = {
        "_name_or_path": release.model.name,
        "num_attention_heads": release.model.attention_heads,
        "torch_dtype": "bfloat16",
    }
    data = hashlib.shake_128(release.name.encode()).digest(64 * 64 * 2)
    tensor = {"dtype": "BF16", "shape": [64, 64], "data_offsets": [0, len(data)]}
    header = json.dumps({"lm_head.weight": tensor}, separators=(",", ":")).encode()
    return {
        "config.json": (json.dumps(config, indent=1) + "\n").encode(),
        "model.safetensors": len(header).to_bytes(8, "little") + header + data,
    }


def locks(built: Mapping[tuple[str, str], Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Lock of each release, from (release, chip) -> digests."""
    found: dict[str, dict[str, Any]] = {}
    for (release, chip), digests in built.items():
        variants = found.setdefault(release, {"schema_version": 1, "variants": {}})["variants"]
        variants[chip] = {"digests": list(digests)}
    return found


def _metadata(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
