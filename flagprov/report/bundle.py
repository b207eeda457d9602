"""What is inside a bundle, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flagprov.report.text import Line, Span, line, table


@dataclass(frozen=True, slots=True)
class Item:
    kind: str  # release, image, weights, wheel, package
    name: str
    version: str
    size: int
    sha256: str
    licence: str = ""  # empty: not known
    platform: str = ""


def items(index: Mapping[str, Any]) -> list[Item]:
    """From a bundle's own list; an image is one item, whatever files it has."""
    licence, revision = str(index["licence"]), str(index["revision"])
    found = []
    for file in index["files"]:
        top, _, rest = str(file["path"]).partition("/")
        size, digest = int(file["size"]), str(file["sha256"])
        if not rest:
            found.append(Item("release", str(index["release"]), "", size, digest, licence))
        elif top == "weights":
            found.append(Item("weights", rest, revision, size, digest, licence))
        elif "name" in file:
            kind, platform = ("wheel", "") if top == "wheels" else ("package", rest.partition("/")[0])
            words = (str(file["name"]), str(file["version"]), size, digest, str(file.get("licence", "")))
            found.append(Item(kind, *words, platform))
    for image in index["images"]:
        folder = f"oci/{image['layout']}/"
        size = sum(int(f["size"]) for f in index["files"] if str(f["path"]).startswith(folder))
        digest, platform = str(image["manifest"]), f"{','.join(image['chips'])} {image['architecture']}"
        words = (image["reference"], digest, size, digest.removeprefix("sha256:"), image["licence"])
        found.append(Item("image", *words, platform))
    order = ["release", "image", "weights", "package", "wheel"]
    return sorted(found, key=lambda item: (order.index(item.kind), item.platform, item.name))


def document(index: Mapping[str, Any]) -> dict[str, Any]:
    return {"release": index["release"], "items": [asdict(item) for item in items(index)]}


def lines(index: Mapping[str, Any], *, width: int | None = None) -> list[Line]:
    found = items(index)
    rows: list[list[str | Span]] = [
        [
            item.kind,
            Span(item.name, "strong"),
            item.version.removeprefix("sha256:")[:40],
            item.platform,
            f"{item.size / 1e6:,.1f} MB",
            item.licence or "licence unknown",
            Span(item.sha256[:12], "faint"),
        ]
        for item in found
    ]
    header = ("kind", "name", "version", "for", "size", "licence", "sha256")
    total = sum(item.size for item in found)
    return [*table(rows, header=header, width=width), line(f"{len(found)} items, {total / 1e6:,.1f} MB")]
