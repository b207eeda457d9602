"""`flagprov trust`"""

from __future__ import annotations

from pathlib import Path

import click

from flagprov.cli import options
from flagprov.cli.screen import Run, Screen, ask, can_ask, complain, print_lines, width_of_output
from flagprov.errors import UsageError


@click.command("trust")
@options.inventory
@options.limit
@click.option(
    "--expect", type=click.Path(path_type=Path), metavar="FILE",
    help="Trust only these: lines of HOST SHA256:..., or of a known_hosts file.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Also keys that differ from what is known.")
@options.yes
@options.output()
@options.quiet
@click.pass_obj
def command(run: Run, inventory: str, limit: str | None, expect: Path | None, replace: bool) -> int:
    """Show the SSH host keys of INVENTORY and write them into the site's known_hosts.

    This is the first contact: compare the fingerprints with what the hosts say at their consoles, or give
    them in a file by --expect. A terminal is asked before new keys are written. Exit code 1: some host did
    not answer, or its key is not trusted.
    """
    from flagprov.fleet import load_fleet
    from flagprov.report.trust import COMPARE, contact_lines, is_settled, of_contacts, result_lines
    from flagprov.transport import trust

    expected = trust.read_expected(expect) if expect else None
    fleet = load_fleet(Path(inventory), limit)
    file = str(fleet.site / "known_hosts")
    screen = Screen(run)
    with screen.busy("asking the hosts for their keys"):
        contacts = trust.inspect(fleet, expected)
    if not screen.json:
        print_lines(contact_lines(contacts, width=width_of_output()))
    news = any(is_settled(each, replaced=replace) and each.state != "same" for each in contacts)
    if news and expected is None and not run.yes:
        if screen.json or not can_ask():
            raise UsageError(
                "nothing was written: nobody can be asked here",
                remedy="Compare the fingerprints, then give --yes, or the expected ones by --expect FILE.",
            )
        complain(COMPARE, style="")
        if not ask("trust these keys?"):
            complain("nothing was written", style="warn")
            return 1
    written = trust.accept(fleet, contacts, replace_changed=replace)
    screen.show(
        lambda width: result_lines(contacts, file, written, replaced=replace),
        lambda: of_contacts(contacts, file, written),
    )
    return 0 if all(is_settled(each, replaced=replace) for each in contacts) else 1
