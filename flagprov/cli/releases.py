"""`flagprov releases`"""

from __future__ import annotations

import click

from flagprov.cli import options
from flagprov.cli.screen import Run, Screen, complain, print_text
from flagprov.report.text import line


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
    from flagprov.catalog.show import as_dict
    from flagprov.report.releases import show_lines

    release = catalog.load_release(name)
    if run.output == "yaml":
        print_text(_yaml(as_dict(release)))
    else:
        Screen(run).show(
            lambda width: show_lines(release, width=width), lambda: release.model_dump(mode="json")
        )
    return 0


@command.command("lock")
@click.argument("name")
@click.option(
    "-i",
    "--inventory",
    metavar="INVENTORY",
    help="The site whose lock file is written; else `inventory` here.",
)
@click.option("--no-images", is_flag=True, help="Lock the weights only.")
@options.output()
@click.pass_obj
def lock(run: Run, name: str, inventory: str | None, no_images: bool) -> int:
    """Pin release NAME: revision and files of the weights, images' digests, build steps' commits.

    What is locked is what every host gets, whatever the hub or the registry say later. Weights on hosts are
    held against it.
    """
    from pathlib import Path

    from flagprov import catalog
    from flagprov.chips import load_chips
    from flagprov.distribute.images import ARCHITECTURES
    from flagprov.distribute.lock import lock_image, lock_weights, save
    from flagprov.distribute.sources import lock_commits
    from flagprov.errors import InventoryError
    from flagprov.fleet import load_fleet
    from flagprov.models.fleet import Fleet
    from flagprov.proxies import keep_direct
    from flagprov.site import Site

    release = catalog.load_release(name)
    path = Path(inventory or "inventory")
    if not path.exists():
        raise InventoryError(f"{path}: no such inventory", remedy="Name the site's: --inventory INVENTORY")
    file = Site(Fleet(path, ()).site).lock_file(release.name)
    images: dict[str, tuple[str, ...]] = {}
    chips = load_chips()
    wanting = not no_images and any(not variant.image.digests for variant in release.variants.values())
    fleet = load_fleet(path) if wanting else Fleet(path, ())
    keep_direct(fleet, release.model_dump_json())
    hosts = {host.chip: host for host in fleet.hosts}
    weights = lock_weights(release, lambda text: complain(text, style=""))
    commits = lock_commits(release, lambda text: complain(text, style=""))
    for chip, variant in ({} if no_images else release.variants).items():
        if variant.image.digests:
            images[chip] = variant.image.digests
            continue
        processors = [ARCHITECTURES[name] for name in chips[chip].detection.arch]
        images[chip] = tuple(lock_image(variant.image.reference, processors, hosts.get(chip)))
    named = {chip: {release.variants[chip].image.reference: found} for chip, found in images.items()}
    save(file, weights, named, commits)
    Screen(run).show(
        lambda width: [
            line(f"{release.name}: {len(weights['files'])} files of revision {weights['revision']}"),
            *(line(f"{name}: {commit}") for name, commit in commits.items()),
            line(f"written to {file}"),
        ],
        lambda: {
            "lock": str(file),
            "weights": weights,
            "images": {k: list(v) for k, v in images.items()},
            "commits": commits,
        },
    )
    return 0


def _yaml(value: object) -> str:
    import yaml

    # Not printable characters come out escaped: a terminal obeys none of them.
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
