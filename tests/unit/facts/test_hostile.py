"""Whatever a tool prints, a parser understands it or says that it does not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from facts_tools import CASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_parsers import PARSERS

from flagprov.host.facts import Unparsed

TEXTS = {name: [path.read_text() for path in sorted((CASES / name).glob("*.txt"))] for name in PARSERS}


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mangled_output(name: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS[name]))
    how = data.draw(st.sampled_from(("cut", "line", "swap", "noise")))
    if how == "cut":
        text = text[: data.draw(st.integers(0, len(text)))]
    elif how == "noise":
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=8)) + text[at:]
    else:
        lines = text.splitlines(keepends=True) or [""]
        at, to = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        line = lines.pop(at)
        if how == "swap":
            lines.insert(to, line)
        text = "".join(lines)
    with suppress(Unparsed):
        PARSERS[name](text)
