"""What hosts of chips need around them: their system, the weights' share, packages of emulated drivers."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence

from flagprov.lab import cards, hosts, network
from flagprov.lab.chips import ChipHost, hardware_files
from flagprov.lab.emulated import ascend, nvidia
from flagprov.lab.hosts import Wanted
from flagprov.lab.layout import Layout

Progress = Callable[[str], None]


def wanted_hosts(
    layout: Layout, subnet: ipaddress.IPv4Network, special: Sequence[ChipHost], on_progress: Progress
) -> tuple[Wanted, ...]:
    """Bare hosts with the hardware of their chip, and the share with the cards' weights mounted."""
    images = {
        arch: hosts.ensure_image(layout, bare=True, on_progress=on_progress, arch=arch)
        for arch in sorted({host.kind.arch for host in special})
    }
    for root in cards.ROOTS:
        (layout.weights / root.strip("/")).mkdir(parents=True, exist_ok=True)
    cards.write_weights(layout.weights, cards.releases_of([host.kind.chip for host in special]))
    found = []
    for host in special:
        shares = (f"{layout.weights}{root}:{root}" for root in cards.ROOTS)
        found.append(
            Wanted(
                host.name,
                network.chip_host_address(subnet, host.slot),
                images[host.kind.arch],
                host.kind.chip,
                options=tuple(word for share in shares for word in ("--volume", share)),
                files=hardware_files(host.kind),
            )
        )
    return tuple(found)


def offer(
    layout: Layout, subnet: ipaddress.IPv4Network, image: str, chips: Sequence[str]
) -> Mapping[str, Mapping[str, str]]:
    """Build and serve what the roles of these chips install; chip -> variables that lead them there."""
    variables: dict[str, Mapping[str, str]] = {}
    url = f"http://{network.mirror_address(subnet)}"
    found = [chip for chip in chips if chip.startswith("ascend")]
    if found:
        sums = ascend.build(layout.mirror / "ascend", "x86_64")
        offered = {"ascend_driver_source": f"{url}/ascend", "ascend_driver_checksums": repr(sums)}
        variables |= {chip: {**offered, **_image(chip)} for chip in found}
    if "nvidia-h100" in chips:
        nvidia.build_apt(layout.mirror / "nvidia")
        variables["nvidia-h100"] = {
            f"{role}_{name}": value
            for role in ("nvidia_driver", "nvidia_container_toolkit")
            for name, value in (("repository", f"{url}/nvidia"), ("repository_trusted", "True"))
        }
    if variables:
        network.ensure_mirror(layout, subnet, image)
    return variables


def _image(chip: str) -> dict[str, str]:
    """The lab's hosts are x86-64, and the long names of images say that they are not."""
    image = next(iter(cards.fitting_images(chip).values()), "")
    return {"flagprov_settings": repr({"image": image})} if image else {}
