"""`flagprov bundle`"""

from __future__ import annotations

from pathlib import Path

import click

from flagprov.cli import options
from flagprov.cli.screen import Run, Screen, complain
from flagprov.report.text import line


def _made(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Path]:
    found = {}
    for each in value:
        platform, equals, folder = each.partition("=")
        if not equals or platform.count("-") < 2 or not Path(folder).is_dir():
            raise click.BadParameter(f"{each!r} is not PLATFORM=DIRECTORY, such as debian-12-x86_64=packages")
        found[platform] = Path(folder)
    return found


@click.command("bundle")
@options.maybe_release
@click.option(
    "-o",
    "--output",
    "file",
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
    help="The site whose registries, authorities and variables of roles count.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Where the weights lie on this machine, if they need not be fetched.",
)
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    help="With the system packages for hosts like this controller, such as debian-12-x86_64.",
)
@click.option(
    "--packages",
    "made",
    multiple=True,
    metavar="PLATFORM=DIRECTORY",
    callback=_made,
    help="With the system packages for other hosts, which were fetched on one of them.",
)
@click.option(
    "--package",
    "names",
    multiple=True,
    metavar="NAME",
    help="With this package for --platform, beside what roles install; a kernel's headers, say.",
)
@click.option("--no-wheels", is_flag=True, help="Without flagprov itself, for a controller that has it.")
@click.option(
    "--list",
    "listed",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Show what is inside FILE, and do nothing else.",
)
@click.option("--json", "as_json", is_flag=True, help="With --list: one document on standard output.")
@click.pass_obj
def command(
    run: Run,
    release: str | None,
    file: Path | None,
    chips: tuple[str, ...],
    inventory: Path | None,
    weights: Path | None,
    platforms: tuple[str, ...],
    made: dict[str, Path],
    names: tuple[str, ...],
    no_wheels: bool,
    listed: Path | None,
    as_json: bool,
) -> int:
    """Pack RELEASE with its images, its weights, system packages and flagprov itself into FILE.

    For fleets that reach no registry, no hub and no mirror: `flagprov deploy INVENTORY FILE` uses nothing
    else. Everything inside has its sha256 in bundle.json.
    """
    if listed:
        return _list(run, listed, as_json)
    if release is None or file is None:
        raise click.UsageError("a release and --output FILE are to be named, or --list FILE")
    from flagprov.catalog import load_release, locked_files, with_lock
    from flagprov.distribute.pack import Extras, pack
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
        keep_direct(fleet, found.model_dump_json())
        lock = Site(fleet.site).lock_file(found.name)
        found, locked = with_lock(found, lock), locked_files(found, lock)
    cache = fleet.site if fleet else Path.cwd() / ".flagprov"
    extras = Extras(not no_wheels, platforms, made, names)
    size = pack(
        found, chips, fleet, weights, cache, file, lambda text: complain(text, style=""), locked, extras
    )
    Screen(run).show(
        lambda width: [
            line(f"{file}: {size / 1e6:,.1f} MB"),
            line(f"flagprov deploy INVENTORY {file}"),
        ],
        lambda: {"bundle": str(file), "bytes": size},
    )
    return 0


def _list(run: Run, file: Path, as_json: bool) -> int:
    from flagprov.distribute.bundle import read_index
    from flagprov.report import bundle

    run.output = "json" if as_json else "text"
    index = read_index(file)
    Screen(run).show(lambda width: bundle.lines(index, width=width), lambda: bundle.document(index))
    return 0
