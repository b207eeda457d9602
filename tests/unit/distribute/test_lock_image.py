"""A lock has the digests of the image that hosts pull."""

from __future__ import annotations

import pytest

from flagprov.distribute import lock
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
    def digests_of(reference: str, *_: object) -> list[str]:
        if reference not in there:
            raise FlagprovError("the registry says 404")
        return [reference]

    monkeypatch.setattr(lock, "digests_of", digests_of)
    assert lock.lock_image("upstream.example/m:1", "amd64", host) == [asked]
