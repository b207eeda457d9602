"""Stand-in tools: scripts that print what a real one printed, first on the PATH."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

CASES = Path(__file__).parents[2] / "cases" / "facts"
Tool = Callable[..., None]


def case(name: str) -> str:
    return (CASES / f"{name}.txt").read_text()


def maker(folder: Path) -> Tool:
    """make(name, {words: text}, code=0): a program that prints the text of the words it is called with."""

    def make(name: str, answers: dict[str, str], code: int = 0) -> None:
        cases = []
        for number, (words, text) in enumerate(answers.items()):
            said = folder / f"{name}.{number}"
            said.write_text(text)
            cases.append(f'  *"{words}"*) cat {said}; exit {code} ;;\n')
        script = f'#!/bin/sh\ncase "$*" in\n{"".join(cases)}esac\necho "$0: $*?" >&2\nexit {code or 2}\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    return make
