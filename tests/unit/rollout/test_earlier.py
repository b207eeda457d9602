"""Back is one run back, on the whole fleet."""

from __future__ import annotations

from typing import Any

from flagprov.rollout.earlier import previous, who_set_what


def entries(text: str) -> list[dict[str, Any]]:
    """`1a 2b! 1a`: run and what; ! where it was refused. The run of what is put back is the older one."""
    found: list[dict[str, Any]] = []
    for i, word in enumerate(text.split(), 1):
        result = "refused" if word[2:] else "done"
        source = next((e["number"] for e in found if e["run"] == word[0]), None)
        found.append({"number": i, "run": word[0], "what": word[1], "result": result, "restores": source})
    return found


def goals(**histories: str) -> list[str | None]:
    """What each host is led to."""
    found = previous({(host, f"m-{host}"): entries(text) for host, text in histories.items()})
    return [
        None if number is None else histories[host].split()[number - 1] for (host, _), number in found.items()
    ]


def test_one_back() -> None:
    assert goals(x="1a 2b", y="1a 2b") == ["1a", "1a"]


def test_after_a_canary_that_was_put_back_all_go_to_the_same() -> None:
    assert goals(x="1a 2b 3c! 2b", y="1a 2b") == ["1a", "1a"]


def test_a_put_back_that_failed_is_made_good_and_nothing_else() -> None:
    assert goals(x="1a 2b 3c!", y="1a 2b") == ["2b", "2b"]


def test_a_way_back_that_did_not_get_there_is_gone_once_more() -> None:
    assert goals(x="1a 2b 1a!") == ["1a"]
    assert goals(x="1a 2b 1a", y="1a 2b 1a!") == ["1a", "1a"]
    assert goals(x="1a 2b 3c! 2b!", y="1a 2b") == ["2b", "2b"]


def test_a_run_that_stopped_half_way_is_taken_back_where_it_came() -> None:
    assert goals(x="1a 2b 3c", y="1a 2b 3c! 2b", z="1a 2b") == ["2b", "2b", "2b"]


def test_a_run_that_changed_nothing_is_passed_over() -> None:
    assert goals(x="1a 2b 3b", y="1a 2b") == ["1a", "1a"]


def test_what_was_there_first_has_nowhere_to_go() -> None:
    assert goals(x="1a") == [None]
    assert goals(x="1a 2b", y="2b") == ["1a", None]
    assert previous({}) == {}
    assert previous({("x", "m-0"): []}) == {("x", "m-0"): None}


def test_a_replica_over_several_hosts_goes_where_all_of_them_served() -> None:
    histories = {("x", "m-0"): entries("1a 2b 3c"), ("y", "m-0"): entries("1a 2b! 3c")}
    assert previous(histories) == {("x", "m-0"): 1, ("y", "m-0"): 1}


def test_who_set_what() -> None:
    done = {
        "result": "done", "release": "m", "by": "ada@site", "at": "2026-01-02", "command": "rollout m",
        "set": ["port=1"], "settings": ["serve.max_num_seqs"],
    }  # fmt: skip
    refused = {**done, "result": "refused", "by": "bob@site"}
    histories = {
        ("x", "m-0"): [done, refused],
        ("y", "m-1"): [done],
        ("z", "m-2"): [refused],
        ("w", "m-3"): [],
    }
    assert who_set_what(histories) == (
        "m-0, m-1: release m, flagprov_settings (serve.max_num_seqs), --set port=1; "
        "by ada@site at 2026-01-02: rollout m",
    )
