"""Where a lab keeps its things and what they are called; all names carry the checkout's id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

LABEL = "flagprov.lab"
HOST_GROUP = "flagprov_serving"
CHIP = "cpu-x86"
REGISTRY_NAME = "flagprov-lab"  # how the lab's releases call the registry
REGISTRY_PORT = 5000
MODEL = "Qwen3-Tiny"
WEIGHTS_ROOT = "/srv/models"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and paths of the lab of one checkout."""

    root: Path

    @property
    def id(self) -> str:
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:6]

    @property
    def label(self) -> str:
        return f"{LABEL}={self.id}"

    @property
    def network(self) -> str:
        return f"flagprov-{self.id}"

    @property
    def bridge(self) -> str:
        return f"fp-{self.id}"

    @property
    def registry(self) -> str:
        return f"flagprov-{self.id}-registry"

    def container(self, host: str) -> str:
        return f"flagprov-{self.id}-{host}"

    def volume(self, host: str) -> str:
        return f"flagprov-{self.id}-{host}-docker"

    @property
    def build(self) -> Path:
        return self.root / "build" / "lab"

    @property
    def blobs(self) -> Path:
        """The registry's storage; layers are written into it, so nothing is ever pushed."""
        return self.build / "registry"

    @property
    def model(self) -> Path:
        return self.build / "model" / MODEL

    @property
    def inventory(self) -> Path:
        return self.root / "inventory" / "lab.ini"

    def chip_inventory(self, group: str) -> Path:
        return self.root / "inventory" / f"lab-{group}.ini"

    def chip_inventories(self) -> tuple[Path, ...]:
        """Those that are there, the one of all chips last."""
        found = self.inventory.parent.glob("lab-*.ini")
        return tuple(sorted(found, key=lambda path: (path == self.chip_inventory("all"), path)))

    @property
    def weights(self) -> Path:
        """The share that hosts of chips mount, as the cards have it below /."""
        return self.build / "weights"

    @property
    def mirror(self) -> Path:
        """Packages of emulated drivers, as a site would offer the vendors' own."""
        return self.build / "mirror"

    @property
    def mirror_container(self) -> str:
        return f"flagprov-{self.id}-mirror"

    @property
    def site(self) -> Path:
        return self.root / "inventory" / ".flagprov"

    @property
    def key(self) -> Path:
        return self.site / "lab_key"

    @property
    def known_hosts(self) -> Path:
        return self.site / "known_hosts"

    @property
    def ca(self) -> Path:
        return self.site / "lab-ca.pem"

    @property
    def locks(self) -> Path:
        return self.site / "locks"


def find_layout() -> Layout:
    """The checkout that flagprov runs from; for an installed flagprov, the working directory."""
    checkout = Path(__file__).resolve().parents[2]
    return Layout(checkout if (checkout / "pyproject.toml").is_file() else Path.cwd().resolve())
