"""`flagprov history`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen, complain

HEADER = ("at", "host", "replica", "number", "result", "by", "command")


@click.command("history")
@options.inventory
@options.maybe_release
@options.limit
@options.output()
@click.pass_obj
def command(run: Run, inventory: str, release: str | None, limit: str | None) -> int:
    """List what was deployed on INVENTORY: when, by whom, with which result. The hosts keep it."""
    from flagprov.report.text import line, table
    from flagprov.rollout import back

    entries, silent, damaged = back.history(request(inventory, release, limit))
    rows = [[str(entry.get(key, "")) for key in HEADER] for entry in entries]
    Screen(run).show(
        lambda width: table(rows, header=HEADER, width=width) if rows else [line("nothing was deployed")],
        lambda: {
            "deployments": entries,
            "unanswered": sorted(silent),
            "damaged": [{"host": each.host, "message": each.message} for each in damaged],
        },
    )
    for error in (*silent.values(), *damaged):
        complain(str(error), style="warn")
    return 1 if silent or damaged else 0
