"""`flagprov rollback`"""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from flagprov.cli import options, rolling
from flagprov.cli.changing import change, request
from flagprov.cli.screen import Run


@click.command("rollback")
@options.inventory
@options.release
@options.limit
@click.option("--to", type=click.IntRange(1), metavar="N", help="A deployment's number in the history.")
@rolling.options
@rolling.surge
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(
    run: Run,
    /,
    inventory: str,
    release: str,
    limit: str | None,
    to: int | None,
    surge: bool,
    **rest: Any,
) -> int:
    """Put an earlier deployment of RELEASE back: the last that served and was different, or --to N.

    The same order and gates as a rollout. `flagprov history` lists the numbers.
    """
    from flagprov.rollout import back
    from flagprov.scope import scope_of

    wanted = request(inventory, release, limit)
    how = rolling.surging(rolling.chosen(**rest), surge)
    act = partial(back.rollback, wanted, to=to, options=how)
    return change(run, act, check=lambda: scope_of(wanted))
