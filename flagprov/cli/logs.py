"""`flagprov logs`"""

from __future__ import annotations

import json

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import INTERRUPTED, Run, print_document, print_text
from flagprov.report.text import clean


@click.command("logs")
@options.inventory
@click.argument("target", metavar="HOST|REPLICA", callback=options.said)
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Last lines to begin with.",
)
@options.limit
@options.output()
@click.pass_obj
def command(run: Run, inventory: str, target: str, follow: bool, lines: int, limit: str | None) -> int:
    """Show what the engine of a replica says, or that of a host.

    With --follow and --output json each line is a JSON document of its own.
    """
    from flagprov import asking

    said = asking.logs(request(inventory, limit=limit), target, follow, lines)
    if run.output == "json" and not follow:
        print_document({"target": target, "lines": [each.rstrip("\r\n") for each in said]})
        return 0
    try:
        for each in said:
            text = each.rstrip("\r\n")
            print_text((json.dumps({"line": text}) if run.output == "json" else clean(text)) + "\n")
    except KeyboardInterrupt:  # the way to end --follow, not worth a message
        return INTERRUPTED
    return 0
