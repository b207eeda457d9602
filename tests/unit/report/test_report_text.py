from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagprov.report.text import (
    Span,
    clean,
    clean_lines,
    count,
    duration,
    line,
    names,
    natural,
    render,
    table,
    width_of,
)

HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x1b\x9b\x9d\x90[];?0123456789mHJK\x07\\\r\n\t\u202e\u200b\ud800"),
    ),
    max_size=60,
)


@given(HOSTILE)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = clean(text)
    assert all(unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


@given(HOSTILE)
def test_clean_text_stays_as_it_is(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=40))
def test_readable_text_is_not_touched(text: str) -> None:
    assert clean(text) == text


@given(st.lists(HOSTILE, max_size=4), st.integers(1, 100))
def test_rendered_text_has_our_own_colours_and_nothing_else(texts: list[str], width: int) -> None:
    shown = render([line(*(Span(text, "bad") for text in texts))], width=width, colour=True)
    shown = shown.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert all(char == "\n" or unicodedata.category(char) not in ("Cc", "Cs") for char in shown)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1bP1$r0m\x1b\\after", "after"),
        ("\x1b]0;never ended", "]0;never ended"),  # what follows must not vanish
        ("a\tb\nc\rd", "a b c d"),
        ("safe\u202etxt.exe", "safetxt.exe"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
        ("模型 ça", "模型 ça"),
        ("\ud800", "\ufffd"),
    ],
)
def test_known_tricks(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown


def test_lines_of_a_log() -> None:
    assert clean_lines("one\r\n\x1b[1mtwo\x1b[0m  \n\n") == ["one", "two"]


def test_long_lines_go_on_below() -> None:
    text = render([line("a message that is too long for a terminal of this width", indent=2)], width=30)
    assert text == "  a message that is too long\n    for a terminal of this\n    width\n"


def test_a_file_is_not_wrapped() -> None:
    assert render([line("word " * 50)]).count("\n") == 1


def test_paths_and_commands_stay_whole() -> None:
    path = "/a/very/long/path/that/does/not/fit/into/the/width"
    assert path in render([line("see ", path)], width=20)


def test_columns_are_aligned_with_wide_characters() -> None:
    shown = render(table([["名", "x"], ["lab", "y"]]))
    assert shown == "名   x\nlab  y\n"
    assert width_of("名") == 2


def test_a_table_that_does_not_fit_becomes_records() -> None:
    rows = [["a-rather-long-name", "ready", "another-long-value-in-the-last-column"]]
    shown = render(table(rows, header=("name", "state", "more"), width=40), width=40)
    assert shown.splitlines()[0] == "a-rather-long-name"
    assert "state ready" in shown
    assert all(len(each) <= 40 for each in shown.splitlines())


@pytest.mark.parametrize(
    ("given_names", "shown"),
    [
        ([], ""),
        (["b", "a"], "a, b"),
        ([f"lab{n}" for n in range(1, 201)], "lab1..lab200"),
        (["lab1", "lab2"], "lab1, lab2"),
        (["gpu-7-a", "gpu-8-a", "gpu-9-a", "x"], "gpu-7-a..gpu-9-a, x"),
        (["n1", "n3", "n4", "n5"], "n1, n3..n5"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3"], "10.0.0.1..10.0.0.3"),
    ],
)
def test_names_in_a_few_words(given_names: list[str], shown: str) -> None:
    assert names(given_names) == shown


@given(st.lists(st.text("ab019.-", max_size=6), max_size=10))
def test_any_names_can_be_sorted(found: list[str]) -> None:
    assert sorted(sorted(found, key=natural)) == sorted(found)
    assert names(found).count("..") <= len(found)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (185, "3 min 05 s"),
        (7265, "2 h 01 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_counts() -> None:
    assert (count(1, "host"), count(2, "host"), count(0, "host")) == ("1 host", "2 hosts", "0 hosts")
