"""What the head may ask of another host of its replica: FlagScale's own form, for one container."""

from __future__ import annotations

import pytest

from flagprov.host.entry import script

FORM = "docker exec flagprov-r-0 /bin/bash -c "


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (FORM + "'/x/ray stop'", "/x/ray stop"),
        (FORM + "'/x/ray start --address=192.0.2.1:6379 --num-gpus=8'",
         "/x/ray start --address=192.0.2.1:6379 --num-gpus=8"),
        (FORM + "'a'$(id)", "a$(id)"),  # no shell of the host reads it
        (FORM + "''", ""),
    ],
)  # fmt: skip
def test_flagscales_form_is_taken(said: str, wanted: str) -> None:
    assert script(said, "flagprov-r-0") == wanted


@pytest.mark.parametrize(
    "said",
    [
        "",
        "id",
        "docker exec flagprov-r-1 /bin/bash -c 'id'",
        "docker exec --privileged flagprov-r-0 /bin/bash -c 'id'",
        "docker exec -u root flagprov-r-0 /bin/bash -c 'id'",
        "docker run flagprov-r-0 /bin/bash -c 'id'",
        "/usr/bin/docker exec flagprov-r-0 /bin/bash -c 'id'",
        FORM,
        FORM + "'id' ; id",
        FORM + "'id' && id",
        FORM + "'id'\nid",
        FORM + "'id",
        # FlagScale's own line for other kinds of devices, whose quotes do not nest.
        FORM + "'/x/ray start --resources='{\\\"NPU\\\": 8, \\\"x\\\": 1}''",
    ],
)
def test_nothing_else_is(said: str) -> None:
    assert script(said, "flagprov-r-0") is None
