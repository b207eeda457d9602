"""A command line whose pipeline is a fake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))  # report_values

from cli_fakes import FakeInput, FakePipeline, put

from flagprov.cli import screen
from flagprov.cli.main import cli

Invoke = Callable[..., Result]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    put(monkeypatch, fake)
    put(monkeypatch, fake, "flagprov.asking")
    for name in ("flagprov.preparation", "flagprov.fleet"):
        put(monkeypatch, FakeInput(name))
    return fake


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run `flagprov WORDS...` in an empty directory, without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def run(*words: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(words), input=answer)

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody can be asked."""
    monkeypatch.setattr(screen, "can_ask", lambda: True)
