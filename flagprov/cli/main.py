"""Console entry: verbs that are loaded when they are called, and the one boundary for errors."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from flagprov import __version__
from flagprov.cli.screen import CLOSED, INTERRUPTED, Closed, Run, complain, is_terminal, print_document
from flagprov.errors import FlagprovError

PROGRAM = "flagprov"

# Verb -> one line for --help; its module is flagprov.cli.VERB.
VERBS = {
    "deploy": "Bring a release to the hosts of an inventory and prove that it serves.",
    "plan": "Show what deploy would do, and change nothing.",
    "apply": "Do what a saved plan says, or refuse when a host has moved on.",
    "status": "Show which replicas serve where, and how they are.",
    "verify": "Prove that what was deployed still serves and is whole.",
    "logs": "Show what an engine says.",
    "stop": "Stop the replicas; what is on the hosts stays.",
    "teardown": "Take away from the hosts what deploy brought.",
    "prune": "Remove images, weights and configurations that nothing needs any more.",
    "rollout": "Change a release over the whole fleet, batch after batch.",
    "rollback": "Put an earlier deployment back in place.",
    "history": "List what was deployed, when and by whom.",
    "diff": "Show what differs from what was deployed last.",
    "cordon": "Keep changes away from hosts.",
    "drain": "Stop what serves on hosts, and keep changes away from them.",
    "uncordon": "Let hosts take part in changes again.",
    "replace": "Let a spare take the place of a host.",
    "lock": "Show or break the leases of runs.",
    "facts": "Show what the hosts are, from their own tools.",
    "doctor": "Check whether hosts are fit, for a release or at all.",
    "trust": "Write the hosts' SSH keys into the site's known_hosts.",
    "releases": "List the catalog, show a release, or lock its weights and images.",
    "images": "Copy images to a site's own registry.",
    "bundle": "Pack all that a release needs on a fleet into one file.",
    "lab": "Build, look at and take down the embedded fleet on this machine.",
}
EPILOG = """\b
Start here:
  flagprov lab up
  flagprov deploy inventory/lab.ini qwen3-tiny

\b
Exit codes: 0 done, 1 some host failed, 2 wrong input or usage;
plan, rollout --save and diff give 3 when there are changes."""
# What the file system of the controller refuses is nobody's bug.
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)  # whatever was given in its place
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, *FULL)


class Verbs(click.Group):
    """Knows its verbs by name; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        from importlib import import_module

        found = import_module(f"flagprov.cli.{cmd_name}").command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, 1)
            ctx.fail(f"there is no verb {args[0]!r}" + (f"; did you mean {near[0]}?" if near else ""))
        name, found, rest = super().resolve_command(ctx, args)
        if isinstance(ctx.obj, Run):
            ctx.obj.verb = name or ""
        return name, found, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def main(  # type: ignore[override]  # click's own boundary has other messages and takes EPIPE for its own
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        given = list(sys.argv[1:] if args is None else args)
        sys.exit(run(self, given))


@click.group(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """From a FlagRelease card to one command for a whole fleet."""


def main() -> NoReturn:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may know ASCII only
    cli.main()


def run(group: click.Group, args: list[str]) -> int:
    """Run one command; every way to end becomes an exit code and at most one message."""
    if "_FLAGPROV_COMPLETE" in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, PROGRAM, "_FLAGPROV_COMPLETE", os.environ["_FLAGPROV_COMPLETE"])
    state = Run()
    for word in args:
        if not _is_text(word):
            complain(f"error: {word!r} is not UTF-8 text")
            return 2
    try:
        with group.make_context(PROGRAM, args or ["--help"], obj=state) as ctx:
            code = group.invoke(ctx)
            return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        _usage(error)
        return error.exit_code
    except FlagprovError as error:
        return _expected(error, state)
    except (KeyboardInterrupt, click.Abort):
        if is_terminal(sys.stderr):
            click.echo(err=True)  # the terminal has shown ^C
        complain(f"interrupted; {_after_interrupt(state)}", style="warn")
        return INTERRUPTED
    except Closed:
        _let_go_of_stdout()
        return CLOSED
    except Exception as error:
        if isinstance(error, OSError) and error.filename and error.errno in (*REFUSALS, *NO_PATH):
            complain(f"error: {error.filename}: {(error.strerror or 'refused').lower()}")
            return 2 if error.errno in NO_PATH else 1
        if isinstance(error, OSError) and error.errno in FULL:  # of a write it does not say the file
            complain("error: a disk of this controller is full\nmake room, then run the same command again")
            return 1
        return _unexpected(error, state)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # bytes that are none came in as surrogates
        return False
    return True


def _usage(error: click.ClickException) -> None:
    ctx = getattr(error, "ctx", None)
    message = error.format_message()
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2: the whole help
        assert isinstance(ctx, click.Context) and isinstance(ctx.command, click.Group)
        message = f"which one: {', '.join(ctx.command.commands)}?"
    more = f"\n{ctx.command_path} --help says more" if isinstance(ctx, click.Context) else ""
    complain(f"error: {message[:1].lower()}{message[1:]}{more}")


def _expected(error: FlagprovError, state: Run) -> int:
    where = ", ".join(part for part in (getattr(error, "host", ""), getattr(error, "step", "")) if part)
    log = [f"| {text}" for text in getattr(error, "log", "").rstrip().splitlines()]
    message = f"{where}: {error.message}" if where else error.message
    complain("\n".join([f"error: {message}", *error.remedy.splitlines(), *log]))
    if state.output == "json":
        from flagprov.report.json import of_error

        print_document(of_error(error))
    return error.exit_code


def _after_interrupt(state: Run) -> str:
    if state.changes:
        return (
            "what the hosts have begun stays as it is and nothing is undone: "
            "run the same command again to go on"
        )
    return "nothing was changed: run the same command again to go on"


def _unexpected(error: Exception, state: Run) -> int:
    from flagprov.cli.crash import write_debug_file

    path = write_debug_file(error, state)
    said = f"; the details are in {path}, please report them" if path else ""
    complain(f"error: flagprov itself failed ({type(error).__name__}){said}")
    return 1


def _let_go_of_stdout() -> None:
    """The reader went away; what the interpreter flushes at its end must go nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
