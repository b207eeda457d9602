"""`flagprov images`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen, complain
from flagprov.report.text import line


@click.group("images")
def command() -> None:
    """Images for a site's own registry."""


@command.command("push")
@options.inventory
@options.release
@options.limit
@click.option(
    "--from",
    "source",
    metavar="IMAGE|FILE",
    help="Another name of the image, or an archive that `docker save` made.",
)
@options.output()
@click.pass_obj
def push(run: Run, inventory: str, release: str, limit: str | None, source: str | None) -> int:
    """Copy the images of RELEASE to the registry that INVENTORY's flagprov_registries names.

    Only what is not there yet, and only for processors that the fleet has. An image that is locked is copied
    only if it is the locked one. Logins are those of `docker login`.
    """
    from flagprov.distribute.mirror import mirror
    from flagprov.preparation import prepare

    job = prepare(request(inventory, release, limit))
    done = mirror(job, source, lambda text: complain(text, style=""))
    rows = [
        {"source": each.source, "target": each.target, "digests": list(each.digests), "bytes": each.copied}
        for each in done
    ]
    Screen(run).show(
        lambda width: [
            line(f"{each.target}: {each.copied / 1e6:,.1f} MB copied, {each.digests[-1]}") for each in done
        ],
        lambda: {"images": rows},
    )
    return 0
