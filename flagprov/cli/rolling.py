"""The options of verbs that change what serves, batch after batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.types import FloatRange

if TYPE_CHECKING:
    from flagprov.rollout.options import Options

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Seconds(FloatRange):
    """`nan` and `inf` are numbers to Python, and no time to wait."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return number


surge = click.option(
    "--surge", is_flag=True, help="New ones start before old ones stop, where there is room for both."
)
all_at_once = click.option("--all-at-once", is_flag=True, help="Everything in one batch, without gates.")
OPTIONS = (
    click.option("--batch", metavar="SIZES", default="25%", show_default=True,
                 help="How many replicas at once: 1, 25%, or growing, such as 1,5,50%."),
    click.option("--max-unavailable", metavar="SIZE",
                 help="How many may be out of service, unreachable ones too; 25%, or as --batch says."),
    click.option("--no-canary", is_flag=True, help="No single replica per chip first."),
    click.option("--pause", metavar="SECONDS", type=Seconds(0), default=0.0,
                 help="How long to wait between batches."),
    click.option("--soak", metavar="SECONDS", type=Seconds(0), default=3.0, show_default=True,
                 help="How long a changed replica must stay ready."),
    click.option("--latency", metavar="SECONDS", type=Seconds(0, min_open=True),
                 help="Budget of a completion; without it, the replica's own figures from before count."),
    click.option("--completions", metavar="N", type=click.IntRange(1), default=4, show_default=True,
                 help="How many timed completions a gate asks for."),
    click.option("--concurrent", metavar="N", type=click.IntRange(1), default=2, show_default=True,
                 help="How many of them at once."),
    click.option("--allow-downtime", is_flag=True, help="Also where the only replica is interrupted."),
    all_at_once,
)  # fmt: skip


def options(command: Decorated) -> Decorated:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def chosen(
    batch: str,
    max_unavailable: str | None,
    no_canary: bool,
    pause: float,
    soak: float,
    latency: float | None,
    completions: int,
    concurrent: int,
    allow_downtime: bool,
    all_at_once: bool,
) -> Options:
    from flagprov.rollout.options import Options
    from flagprov.rollout.order import parse_batches, parse_size

    return Options(
        batches=parse_batches(batch),
        max_unavailable=parse_size(max_unavailable, "--max-unavailable") if max_unavailable else None,
        canary=not no_canary,
        at_once=all_at_once,
        pause_s=pause,
        soak_s=soak,
        latency_s=latency,
        requests=completions,
        concurrent=concurrent,
        allow_downtime=allow_downtime or all_at_once,
    )


def surging(how: Options, surge: bool) -> Options:
    if surge and how.at_once:
        raise click.UsageError("--surge needs gates, which --all-at-once leaves out: give one of the two")
    return replace(how, surge=surge)
