from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from flagprov.catalog import load_release
from flagprov.distribute import pack
from flagprov.distribute.bundle import Part, write
from flagprov.distribute.pack import Extras


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    wheel = Part("wheels/click-8.1.7-py3-none-any.whl", tmp_path / "config.json", "click", "8.1.7", "BSD")
    files = [("config.json", 2, hashlib.sha256(b"{}").hexdigest())]
    release = load_release("qwen3-tiny-standin")
    write(release, [], tmp_path, files, tmp_path / "b.tar", lambda text: None, [wheel])
    return tmp_path / "b.tar"


def test_what_is_inside(invoke: Any, file: Path) -> None:
    text = invoke("bundle", "--list", str(file))
    assert text.exit_code == 0 and "click" in text.stdout and "3 items" in text.stdout
    found = json.loads(invoke("bundle", "--list", str(file), "--json").stdout)
    assert [(item["kind"], item["name"]) for item in found["items"]] == [
        ("release", "qwen3-tiny-standin"),
        ("weights", "config.json"),
        ("wheel", "click"),
    ]
    assert invoke("bundle", "--list", str(file.parent / "none.tar")).exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "a release and --output FILE"),
        (("qwen3-tiny-standin",), "a release and --output FILE"),
        (("qwen3-tiny-standin", "-o", "b.zip"), "ends in .tar"),
        (("qwen3-tiny-standin", "-o", "b.tar", "--packages", "debian-12=."), "is not PLATFORM=DIRECTORY"),
        (
            ("qwen3-tiny-standin", "-o", "b.tar", "--packages", "debian-12-x86_64=no"),
            "is not PLATFORM=DIRECTORY",
        ),
    ],
)
def test_what_makes_no_sense_is_said(invoke: Any, words: tuple[str, ...], said: str) -> None:
    result = invoke("bundle", *words)
    assert result.exit_code == 2 and said in result.stderr


def test_what_goes_in_beside_images(invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(pack, "pack", lambda *given: asked.append(given) or 1)
    words = (
        "--platform",
        "debian-12-x86_64",
        "--package",
        "nano",
        "--packages",
        f"ubuntu-22.04-x86_64={tmp_path}",
    )
    assert invoke("bundle", "qwen3-tiny-standin", "-o", "b.tar", *words).exit_code == 0
    made = {"ubuntu-22.04-x86_64": tmp_path}
    assert asked[0][-1] == Extras(True, ("debian-12-x86_64",), made, ("nano",))
    assert invoke("bundle", "qwen3-tiny-standin", "-o", "b.tar", "--no-wheels").exit_code == 0
    assert asked[1][-1] == Extras()
