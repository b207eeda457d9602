"""What is packed of flagprov itself."""

from __future__ import annotations

import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from flagprov.distribute.wheels import read, requirements


def test_everything_that_runs_here_at_its_version() -> None:
    found = requirements()
    assert f"click=={version('click')}" in found and f"ansible-core=={version('ansible-core')}" in found
    assert f"cffi=={version('cffi')}" in found  # of cryptography, not named by us
    assert any(text.startswith("flagprov") for text in found)
    assert not any(text.startswith(("pytest", "mypy", "modelscope")) for text in found)


@pytest.mark.parametrize(
    ("about", "licence"),
    [
        ("License-Expression: MIT", "MIT"),
        ("License: BSD-3-Clause", "BSD-3-Clause"),
        ("License: A\n  whole text\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("Classifier: Topic :: Internet", ""),
    ],
)
def test_a_wheel_says_what_it_is(tmp_path: Path, about: str, licence: str) -> None:
    file = tmp_path / "a-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "a-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: a\nVersion: 1.0\n{about}\n"
        )
    found = read(file)
    assert (found.name, found.version, found.licence) == ("a", "1.0", licence)
