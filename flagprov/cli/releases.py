"""`flagprov releases`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flagprov.cli import options
from flagprov.cli.screen import Run, Screen, print_text

if TYPE_CHECKING:
    from flagprov.models.release import Release


@click.group("releases")
def command() -> None:
    """The catalog: what can be deployed."""


@command.command("list")
@options.output("yaml")
@click.pass_obj
def list_(run: Run) -> int:
    """List the releases of the catalog."""
    from flagprov import catalog
    from flagprov.report.releases import list_lines, summary

    found = catalog.list_releases()
    if run.output == "yaml":
        print_text(_yaml(summary(found)))
    else:
        Screen(run).show(lambda width: list_lines(found, width=width), lambda: summary(found))
    return 0


@command.command("show")
@click.argument("name")
@options.output("yaml")
@click.pass_obj
def show(run: Run, name: str) -> int:
    """Show the release NAME: one of the catalog, or the path of a release file of your own.

    --output yaml gives a release file to begin your own with.
    """
    from flagprov import catalog
    from flagprov.report.releases import show_lines

    release = catalog.load_release(name)
    if run.output == "yaml":
        print_text(_yaml(_written(release)))
    else:
        Screen(run).show(
            lambda width: show_lines(release, width=width), lambda: release.model_dump(mode="json")
        )
    return 0


def _written(release: Release) -> dict[str, object]:
    """As a person would write it: without what is the default."""
    written = release.model_dump(mode="json", exclude_defaults=True)
    return {"schema_version": release.schema_version, **written}


def _yaml(value: object) -> str:
    import yaml

    # Not printable characters come out escaped: a terminal obeys none of them.
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
