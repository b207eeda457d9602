"""Versions of drivers, CANN, CUDA and docker, as their makers write them."""

from __future__ import annotations

import re

Key = tuple[tuple[int, int], ...]
_PAD = (1, 0)


def key(version: str) -> Key:
    """Sort key: 25.0.rc1 < 25.0 == 25.0.0 < 25.2.0; what follows a number and is no rc is left out."""
    parts: list[tuple[int, int]] = []
    for word in re.findall(r"rc\d+|\d+|[a-z]+", version.lower().partition("+")[0].partition("~")[0]):
        if word.startswith("rc"):
            parts.append((0, int(word[2:] or 0)))
        elif word.isdigit():
            parts.append((1, int(word)))
        else:
            break
    while parts and parts[-1] == _PAD:
        parts.pop()
    return tuple(parts)


def older(one: str, other: str) -> bool:
    """Whether `one` comes before `other`; a release comes after its candidates."""
    left, right = list(key(one)), list(key(other))
    longest = max(len(left), len(right))
    left += [_PAD] * (longest - len(left))
    right += [_PAD] * (longest - len(right))
    return left < right


def major(version: str) -> int | None:
    found = re.match(r"\d+", version)
    return int(found.group()) if found else None


def begins_with(version: str, beginning: str) -> bool:
    """8.2.rc1.alpha002 begins with 8.2, and so does 8.2rc1; 8.25 does not."""
    return re.match(re.escape(beginning) + r"(?!\d)", version) is not None
