"""Arguments and options that several verbs share; what the boundary must know goes into `Run` on the way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flagprov.cli.screen import Run

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


def _note(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if isinstance(ctx.obj, Run) and parameter.name:
        setattr(ctx.obj, parameter.name, value)
    return value


def _pairs(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        key, equals, _ = each.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{each!r} is not KEY=VALUE, such as serve.max_model_len=4096")
    return value


def said(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Nothing of it may mean everything: `--limit "$HOST"` or `teardown site.ini "$RELEASE"`, never set."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty; is it a shell variable that is not set?")
    return value


def _inventory(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    return _note(ctx, parameter, said(ctx, parameter, value))


def in_a_directory(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Found before the hosts are looked at, not when the plan is to be written."""
    if value is not None and not value.name:
        raise click.BadParameter("it names no file")
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(f"there is no directory {value.parent}")
    return value


inventory = click.argument("inventory", callback=_inventory)
release = click.argument("release", callback=said)
maybe_release = click.argument("release", required=False, callback=said)
hosts = click.argument("hosts", callback=said)
reason = click.option("--reason", metavar="TEXT", default="", help="For those who wonder later.")
limit = click.option(
    "--limit", metavar="PATTERN", callback=said,
    help="Only these hosts: names, groups and patterns as Ansible has them.",
)  # fmt: skip


def sets(function: Callable[..., Any]) -> Callable[..., Any]:
    """--set KEY=VALUE, and options with the names of settings that people ask for often."""

    @functools.wraps(function)
    def call(
        *args: Any, sets: tuple[str, ...], operators: str | None, image: str | None, **kwargs: Any
    ) -> Any:
        named = {"operators": operators, "image": image}
        more = (f"{name}={value}" for name, value in named.items() if value)
        return function(*args, sets=(*sets, *more), **kwargs)

    choice = click.option(
        "--operators", type=click.Choice(["flaggems", "native"]),
        help="Compute with FlagGems, or with the engine's own operators; the same as --set operators=...",
    )  # fmt: skip
    image = click.option(
        "--image", metavar="IMAGE", callback=said,
        help="Another image, by its digest or its name; the same as --set image=...",
    )  # fmt: skip
    pairs = click.option(
        "--set", "sets", multiple=True, metavar="KEY=VALUE", callback=_pairs,
        help="A setting for this run, such as serve.max_model_len=4096; may be given several times.",
    )  # fmt: skip
    return pairs(choice(image(call)))


allow_disruption = click.option(
    "--allow-disruption",
    is_flag=True,
    help="Provisioning may restart docker under running containers, and change drivers under their users.",
)
allow_reboot = click.option("--allow-reboot", is_flag=True, help="Provisioning may reboot hosts.")
force = click.option(
    "--force", multiple=True, metavar="CHECK",
    help="Go on although CHECK failed (see `flagprov doctor`); may be given several times.",
)  # fmt: skip
save = click.option(
    "--save", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), callback=in_a_directory,
    help="Write the plan to FILE and change nothing; `flagprov apply FILE` does it.",
)  # fmt: skip
resume = click.option(
    "--resume", is_flag=True, help="Take up the last run that was killed: its release, settings and options."
)
yes = click.option(
    "--yes", "-y", is_flag=True, callback=_note, expose_value=False, help="Do it without asking."
)
quiet = click.option("--quiet", "-q", is_flag=True, callback=_note, expose_value=False, help="No progress.")


def output(*more: str) -> Callable[[Decorated], Decorated]:
    """--output text|json, and more where a verb has more."""
    return click.option(
        "--output", "-o", type=click.Choice(["text", "json", *more]), default="text",
        callback=_note, expose_value=False, is_eager=True,
        help="json: one documented document on standard output.",
    )  # fmt: skip
