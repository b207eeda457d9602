"""`flagprov lock`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen, complain, require_consent

HEADER = ("host", "holder", "since", "runs out in", "command")


@click.group("lock")
def command() -> None:
    """Leases: a run that changes hosts holds them, so that no other run does so too."""


@command.command("show")
@options.inventory
@options.limit
@options.output()
@click.pass_obj
def show(run: Run, inventory: str, limit: str | None) -> int:
    """List the leases that hosts of INVENTORY are held by."""
    from flagprov.apply import lease
    from flagprov.report.text import line, table

    held, silent = lease.held(request(inventory, None, limit))
    rows = [
        [name, str(one["holder"]), str(one["since"]), f"{one['left_s']:.0f} s", str(one["command"])]
        for name, one in held.items()
    ]
    shown = [
        {"host": name, **{key: one[key] for key in ("holder", "since", "command", "left_s")}}
        for name, one in held.items()
    ]
    Screen(run).show(
        lambda width: table(rows, header=HEADER, width=width) if rows else [line("no host is held")],
        lambda: {"leases": shown, "unanswered": sorted(silent)},
    )
    for error in silent.values():
        complain(str(error), style="warn")
    return 1 if silent else 0


@command.command("break")
@options.inventory
@options.limit
@options.yes
@options.output()
@click.pass_obj
def break_(run: Run, inventory: str, limit: str | None) -> int:
    """End the leases on hosts of INVENTORY; only when their run is surely dead."""
    from flagprov.apply import lease
    from flagprov.report.text import line
    from flagprov.scope import scope_of

    wanted = request(inventory, None, limit)
    require_consent(run, lambda: scope_of(wanted))
    broken, silent = lease.end(wanted)
    Screen(run).show(
        lambda width: [line(f"leases were ended on: {', '.join(broken) or 'no host'}")],
        lambda: {"broken": broken, "unanswered": sorted(silent)},
    )
    for error in silent.values():
        complain(str(error), style="warn")
    return 1 if silent else 0
