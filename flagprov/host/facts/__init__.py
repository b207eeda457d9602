"""What a host is. Parsers are pure; collectors run the tools and read the kernel's files."""

from __future__ import annotations


class Unparsed(Exception):
    """A tool said something that we do not understand: the fact is unknown, and this is why."""


def shown(text: str, most: int = 200) -> str:
    """A tool's words as one line, for messages."""
    words = " ".join(text.split())
    return words if len(words) <= most else words[: most - 3] + "..."
