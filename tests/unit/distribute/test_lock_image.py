"""A lock has the digests of the image that hosts pull."""

from __future__ import annotations

import json

import pytest

from flagprov.distribute import lock
from flagprov.distribute.registry import Registry, sha256
from flagprov.errors import FlagprovError
from flagprov.models.fleet import Connection, Host

HOST = Host("h1", Connection("192.0.2.1"), registries={"upstream.example": "site.example:5000"})


@pytest.mark.parametrize(
    ("host", "there", "asked"),
    [
        (HOST, ("site.example:5000/m:1", "upstream.example/m:1"), "site.example:5000/m:1"),
        (HOST, ("upstream.example/m:1",), "upstream.example/m:1"),  # not pushed yet
        (None, ("upstream.example/m:1",), "upstream.example/m:1"),
    ],
)
def test_the_sites_registry_is_asked_first(
    host: Host | None, there: tuple[str, ...], asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests_of(reference: str, *_: object, **__: object) -> list[str]:
        if reference not in there:
            raise FlagprovError("the registry says 404")
        return [reference]

    monkeypatch.setattr(lock, "digests_of", digests_of)
    assert lock.lock_image("upstream.example/m:1", ["amd64"], host) == [asked]


def test_all_processors_of_a_chip_are_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = {
        name: json.dumps({"config": {"digest": f"sha256:{name}-config"}}).encode()
        for name in ("amd64", "arm64")
    }
    index = json.dumps(
        {
            "manifests": [
                {"digest": sha256(data), "platform": {"architecture": name}}
                for name, data in manifests.items()
            ]
        }
    ).encode()
    known = {sha256(data): data for data in manifests.values()} | {"1": index}
    monkeypatch.setattr(Registry, "manifest", lambda self, tag: (known[tag], "manifest"))
    assert lock.lock_image("upstream.example/m:1", ["arm64", "amd64"], None) == [
        *(sha256(data) for data in (index, manifests["arm64"], manifests["amd64"])),
        *("sha256:arm64-config", "sha256:amd64-config"),
    ]
    assert "sha256:amd64-config" not in lock.lock_image("upstream.example/m:1", ["arm64", "riscv64"], None)
    with pytest.raises(FlagprovError, match="has no image for riscv64"):
        lock.lock_image("upstream.example/m:1", ["riscv64"], None)
