from __future__ import annotations

from pathlib import Path

import pytest

from flagprov.site import Site


@pytest.mark.parametrize("text", ["[1", '{"schema_version": 1}', '{"schema_version": 1, "replicas": 5}'])
def test_a_damaged_memory_of_what_was_deployed_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "deployed.json").write_text(text)
    assert Site(tmp_path).deployed() == {}
