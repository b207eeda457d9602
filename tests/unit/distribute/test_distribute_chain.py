"""Who gets it from whom."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flagprov.distribute.chain import FIRST_PORT, PORTS, Member, before, ordered, port_of


def members(*sites: str) -> list[Member]:
    return [Member(f"h{number}", (f"192.0.2.{number}",), site) for number, site in enumerate(sites)]


def test_one_copy_crosses_between_two_sites() -> None:
    chain = ordered(members("b", "a", "b", "a"), "a")
    assert [member.name for member in chain] == ["h1", "h3", "h0", "h2"]
    crossings = [one for one, two in pairwise(chain) if one.site != two.site]
    assert len(crossings) == 1


def test_a_host_asks_the_nearest_before_it_first() -> None:
    chain = members("", "", "")
    assert [member.name for member in before(chain, "h2")] == ["h1", "h0"]
    assert before(chain, "h0") == ()


def test_behind_a_dead_host_its_own_site_comes_first() -> None:
    chain = ordered(members("a", "b", "a", "b"), "a")
    assert [member.name for member in before(chain, "h3")] == ["h1", "h2", "h0"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_everybody_is_in_the_chain_once(sites: list[str]) -> None:
    chain = ordered(members(*sites), sites[0])
    assert sorted(member.name for member in chain) == sorted(member.name for member in members(*sites))
    assert chain[0].site == sites[0]


def test_ports_stay_in_their_range() -> None:
    assert all(FIRST_PORT <= port_of(str(number)) < FIRST_PORT + PORTS for number in range(200))
