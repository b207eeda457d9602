"""`flagprov --help` answers at once: nothing heavy may come in with the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flagprov.cli.main import VERBS

HEAVY = (
    "pydantic",
    "rich",
    "paramiko",
    "fabric",
    "ansible",
    "ansible_runner",
    "yaml",
    "jinja2",
    "httpx",
    "asyncio",
)


@pytest.mark.parametrize("module", ["flagprov.cli.main", *(f"flagprov.cli.{verb}" for verb in VERBS)])
def test_nothing_heavy_is_imported(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("module", "needless"),
    [
        ("flagprov.asking", ("pydantic", "httpx", "rich", "cryptography.x509", "ansible")),
        ("flagprov.pipeline", ("httpx", "rich", "cryptography.x509", "ansible")),
    ],
)
def test_a_verb_imports_no_more_than_it_needs(module: str, needless: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {needless!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_verbs_are_loaded_when_called() -> None:
    loaded = "v for v in m.VERBS if f'flagprov.cli.{v}' in sys.modules"
    code = f"import sys, flagprov.cli.main as m; print(*({loaded}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
