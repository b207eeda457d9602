"""`flagprov doctor`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.changing import request
from flagprov.cli.screen import Run, Screen


@click.command("doctor")
@options.inventory
@options.maybe_release
@options.limit
@options.sets
@options.force
@options.output()
@options.quiet
@click.pass_obj
def command(
    run: Run,
    inventory: str,
    release: str | None,
    limit: str | None,
    sets: tuple[str, ...],
    force: tuple[str, ...],
) -> int:
    """Check the hosts of INVENTORY, and whether they are fit for RELEASE; changes nothing.

    One line per check and host: ok, warning, failed or unknown, and what to do about it. `deploy` makes the
    same checks. Exit code 0: nothing failed; 1: a check failed or a host did not answer.
    """
    from flagprov.doctor import verbs
    from flagprov.report.doctor import doctor_lines, of_doctor

    screen = Screen(run)
    with screen.busy("examining the hosts"):
        diagnosis = verbs.doctor(request(inventory, release, limit, sets, force))
    screen.show(lambda width: doctor_lines(diagnosis, width=width), lambda: of_doctor(diagnosis))
    return 0 if diagnosis.healthy else 1
