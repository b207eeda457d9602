"""Text that is safe in a terminal and fits it; whatever hosts and cards say goes through `clean`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Style = Literal["", "strong", "faint", "good", "bad", "warn"]

# Only complete sequences are taken out whole: an unfinished one loses its ESC and its text stays visible.
_ESCAPES = re.compile(
    "(?:\x1b\\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"  # OSC: titles, links, clipboard
    "|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c]*(?:\x1b\\\\|\x9c)"  # DCS, SOS, PM, APC
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    "|\x1b[ -/]+[0-~]"  # character sets
    "|\x1b[0-OQ-WYZ\\\\`-~]"  # single shifts, reset
)
_SPACES = re.compile("[\t\n\v\f\r\x85\u2028\u2029]")
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_LONE = re.compile("[\ud800-\udfff]")
_SGR = {"strong": "1", "faint": "2", "good": "32", "bad": "31", "warn": "33"}


def clean(text: str) -> str:
    """One line without anything that a terminal would obey or that hides other text."""
    if text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return _LONE.sub("\ufffd", _HIDDEN.sub("", _SPACES.sub(" ", text)))


def clean_lines(text: str) -> list[str]:
    """A text of several lines, each one cleaned; no empty lines at its end."""
    return [clean(part).rstrip() for part in text.rstrip().splitlines()]


def width_of(text: str) -> int:
    """Columns that a cleaned text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


class Span(NamedTuple):
    text: str
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output; what does not fit goes on below, `hang` columns further in."""

    spans: tuple[Span, ...] = ()
    indent: int = 0
    hang: int = 2
    whole: bool = False  # never wrapped: somebody will copy it


def line(*parts: str | Span, indent: int = 0, hang: int = 2) -> Line:
    return Line(tuple(Span(part) if isinstance(part, str) else part for part in parts), indent, hang)


def paragraph(text: str, style: Style = "", *, indent: int = 0) -> list[Line]:
    """A message that may have several lines."""
    return [line(Span(part, style), indent=indent) for part in clean_lines(text)]


def render(lines: Iterable[Line], *, width: int | None = None, colour: bool = False) -> str:
    """The lines as text; `width` None (a file, a pipe) wraps nothing."""
    return "".join(f"{_render(each, width, colour)}\n" for each in lines)


def _render(each: Line, width: int | None, colour: bool) -> str:
    rows: list[list[Span]] = [[]]
    used, gap = each.indent, Span("")
    room = None if width is None or each.whole else max(width, 20)
    hang = each.indent + each.hang if room is None else min(each.indent + each.hang, room // 2)
    for span in each.spans:
        for token in re.findall(r"\s+|\S+", clean(span.text)):
            if token.isspace():
                gap = Span(gap.text + token, span.style)
                continue
            size = width_of(token)
            if room is not None and rows[-1] and used + len(gap.text) + size > room:
                rows.append([Span(token, span.style)])
                used = hang + size
            else:
                rows[-1] += [gap, Span(token, span.style)] if gap.text else [Span(token, span.style)]
                used += len(gap.text) + size
            gap = Span("")
    margins = [each.indent] + [hang] * (len(rows) - 1)
    return "\n".join(
        (" " * margin + "".join(_paint(span, colour) for span in _merged(row))).rstrip()
        for margin, row in zip(margins, rows, strict=True)
    )


def _merged(row: Sequence[Span]) -> list[Span]:
    """Neighbours of one style as one span."""
    found: list[Span] = []
    for span in row:
        if found and found[-1].style == span.style:
            found[-1] = Span(found[-1].text + span.text, span.style)
        else:
            found.append(span)
    return found


def _paint(span: Span, colour: bool) -> str:
    if not colour or not span.style or span.text.isspace():
        return span.text
    return f"\x1b[{_SGR[span.style]}m{span.text}\x1b[0m"


def table(
    rows: Sequence[Sequence[str | Span]],
    *,
    header: Sequence[str] = (),
    indent: int = 0,
    width: int | None = None,
) -> list[Line]:
    """Aligned columns; a record per row, one cell a line, where the columns do not fit."""
    cells = [
        [Span(clean(c)) if isinstance(c, str) else Span(clean(c.text), c.style) for c in r] for r in rows
    ]
    if not cells:
        return []
    titles = [[Span(clean(title), "faint") for title in header]] if header else []
    sizes = [max(width_of(row[i].text) for row in titles + cells) for i in range(len(cells[0]))]
    before = indent + sum(sizes[:-1]) + 2 * (len(sizes) - 1)
    last_fits = width is None or before + min(sizes[-1], 24) <= width
    if not last_fits:
        return _records(cells, header, indent)
    return [_aligned(row, sizes, indent, before - indent) for row in titles + cells]


def _aligned(row: Sequence[Span], sizes: Sequence[int], indent: int, hang: int) -> Line:
    spans: list[Span] = []
    for cell, size in zip(row[:-1], sizes, strict=False):
        spans += [cell, Span(" " * (size - width_of(cell.text) + 2))]
    return Line((*spans, row[-1]), indent, hang)


def _records(rows: Sequence[Sequence[Span]], header: Sequence[str], indent: int) -> list[Line]:
    """The first cell, and below it the others as one paragraph."""
    found: list[Line] = []
    for row in rows:
        found.append(Line((row[0],), indent))
        spans: list[Span] = []
        for title, cell in zip(header[1:] or ("",) * (len(row) - 1), row[1:], strict=True):
            if cell.text not in ("", "-"):
                label = (Span(f"{clean(title)} ", "faint"),) if title else ()
                spans += [*label, cell, Span("  ")]
        found.append(Line(tuple(spans[:-1]), indent + 2, hang=0))
    return found


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: lab2 before lab10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def names(items: Iterable[str]) -> str:
    """Names in a few words: runs of three and more numbers as `lab1..lab200`."""
    runs: list[list[str]] = []
    for item in sorted(set(items), key=natural):
        if runs and _follows(runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def _follows(before: str, after: str) -> bool:
    first, second = (_last_number(name) for name in (before, after))
    return bool(first and second and first[0] == second[0] and int(second[1]) == int(first[1]) + 1)


def _last_number(name: str) -> tuple[str, str] | None:
    """(the name with its last number taken out, that number)."""
    found = list(re.finditer(r"[0-9]+", name))
    if not found:
        return None
    start, end = found[-1].span()
    return f"{name[:start]}\0{name[end:]}", name[start:end]


def duration(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s".removesuffix(" 00 s")
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min".removesuffix(" 00 min")


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
