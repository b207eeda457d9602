"""`flagprov lab`"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from flagprov.cli import options
from flagprov.cli.screen import Run, Screen, complain
from flagprov.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

    from flagprov.lab import LabStatus


@click.group("lab")
def command() -> None:
    """The embedded fleet: hosts on this machine with SSH, systemd and docker of their own."""


@command.command("up")
@click.option("--hosts", type=click.IntRange(1, 200), help="How many hosts: 2, or with --chips none.")
@click.option("--chips", metavar="CHIP,...", callback=options.said, help="An emulated host of each chip too.")
@click.option("--bare", is_flag=True, help="Hosts without a container engine, for provisioning.")
@options.output()
@options.quiet
@click.pass_obj
def up(run: Run, hosts: int | None, chips: str | None, bare: bool) -> int:
    """Bring the lab up; what is there already is used again.

    Writes inventory/lab.ini, which every other command takes like any inventory. Hosts of chips
    (nvidia-h100, ascend-a2, ascend-a3, graviton4) come as from the data centre, without driver and container
    engine; they are in inventory/lab-h100.ini, lab-ascend.ini, lab-graviton.ini and lab-all.ini.
    """
    from flagprov import lab

    named = [chip.strip() for chip in (chips or "").split(",") if chip.strip()]
    if chips and not named:
        raise click.UsageError("--chips names no chip")
    count = hosts if hosts is not None else (0 if named else 2)
    _show(run, lab.up(count, bare=bare, chips=named, on_progress=_sayer(run.quiet)))
    return 0


@command.command("status")
@options.output()
@click.pass_obj
def status(run: Run) -> int:
    """Show the hosts of the lab."""
    from flagprov import lab

    _show(run, lab.status())
    return 0


@command.command("down")
@click.option(
    "--all", "everything", is_flag=True, help="Built images too, and the dockerd that the lab started."
)
@options.output()
@options.quiet
@click.pass_obj
def down(run: Run, everything: bool) -> int:
    """Take the lab's hosts and networks away; its images stay for the next time."""
    from flagprov import lab
    from flagprov.report.lab import of_lab
    from flagprov.report.text import line

    (lab.clean if everything else lab.down)(_sayer(run.quiet))
    Screen(run).show(lambda width: [line("the lab is down")], lambda: of_lab(lab.status()))
    return 0


@command.command("ssh", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("words", metavar="[COMMAND]...", nargs=-1, type=click.UNPROCESSED)
def ssh(host: str, words: tuple[str, ...]) -> int:
    """Open a shell on HOST of the lab, or run COMMAND there."""
    from flagprov import lab

    argv = [*lab.ssh_command(host), *words]
    sys.stdout.flush()
    try:
        os.execvp(argv[0], argv)
    except FileNotFoundError:
        raise LabError(f"there is no {argv[0]} here", remedy="Install the package openssh-client.") from None


def _sayer(quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            complain(text, style="")

    return say


def _show(run: Run, found: LabStatus) -> None:
    from flagprov.report.lab import lab_lines, of_lab

    paths = [path for path in (found.inventory, *found.chip_inventories) if path.exists()]
    shown = [_as_written(path) for path in paths or [found.inventory]]
    Screen(run).show(lambda width: lab_lines(found, shown, width=width), lambda: of_lab(found))


def _as_written(path: Path) -> str:
    here = os.path.relpath(path)
    return str(path) if here.startswith("..") else here
