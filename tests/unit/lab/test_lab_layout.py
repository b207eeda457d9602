from __future__ import annotations

from pathlib import Path

from flagprov.lab.layout import Layout, find_layout


def test_two_checkouts_share_no_name() -> None:
    one, other = Layout(Path("/a/flagprov")), Layout(Path("/b/flagprov"))
    for names in zip(_names(one), _names(other), strict=True):
        assert names[0] != names[1]


def test_a_bridge_name_fits_the_kernel() -> None:
    assert len(Layout(Path("/a/flagprov")).bridge) < 16


def test_the_layout_is_that_of_the_checkout() -> None:
    assert find_layout().root == Path(__file__).parents[3]


def _names(layout: Layout) -> tuple[str, ...]:
    return (
        layout.label,
        layout.network,
        layout.bridge,
        layout.registry,
        layout.container("lab1"),
        layout.volume("lab1"),
    )
