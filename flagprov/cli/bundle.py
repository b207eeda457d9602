"""`flagprov bundle`"""

from __future__ import annotations

from pathlib import Path

import click

from flagprov.cli import options
from flagprov.cli.screen import Run, Screen, complain
from flagprov.report.text import line


@click.command("bundle")
@options.release
@click.option(
    "-o",
    "--output",
    "file",
    required=True,
    metavar="FILE",
    help="Ends in .tar.",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_directory,
)
@click.option(
    "--chip", "chips", multiple=True, metavar="CHIP", help="Only for this chip; several times for more."
)
@click.option(
    "-i",
    "--inventory",
    type=click.Path(path_type=Path),
    metavar="INVENTORY",
    help="The site whose registries and authorities the images are pulled with.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Where the weights lie on this machine, if they need not be fetched.",
)
@click.pass_obj
def command(
    run: Run, release: str, file: Path, chips: tuple[str, ...], inventory: Path | None, weights: Path | None
) -> int:
    """Pack RELEASE, its images and its weights into FILE, for fleets that reach no registry and no hub.

    `flagprov deploy INVENTORY FILE` needs nothing else. Everything inside has its sha256 in bundle.json.
    """
    from flagprov.catalog import load_release, locked_files, with_lock
    from flagprov.distribute.pack import pack
    from flagprov.errors import UsageError
    from flagprov.fleet import load_fleet
    from flagprov.proxies import keep_direct
    from flagprov.site import Site

    if file.suffix != ".tar":
        raise UsageError(f"{file}: a bundle is a file that ends in .tar", remedy=f"--output {file}.tar")
    fleet = load_fleet(inventory) if inventory else None
    found = load_release(release)
    locked: tuple[tuple[str, int, str], ...] = ()
    if fleet:
        keep_direct(fleet)
        lock = Site(fleet.site).lock_file(found.name)
        found, locked = with_lock(found, lock), locked_files(found, lock)
    cache = fleet.site if fleet else Path.cwd() / ".flagprov"
    size = pack(found, chips, fleet, weights, cache, file, lambda text: complain(text, style=""), locked)
    Screen(run).show(
        lambda width: [
            line(f"{file}: {size / 1e6:,.1f} MB"),
            line(f"flagprov deploy INVENTORY {file}"),
        ],
        lambda: {"bundle": str(file), "bytes": size},
    )
    return 0
