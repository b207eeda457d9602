"""A host that looks like a machine, after graviton_tuning with nearly every variable changed."""

from __future__ import annotations

from typing import Any

ENABLED = "/sys/kernel/mm/transparent_hugepage/enabled"


def test_it_holds_now(host: Any) -> None:
    assert host.file(ENABLED).content_string.strip() == "always"
    assert host.file("/proc/sys/kernel/numa_balancing").content_string.strip() == "1"


def test_it_holds_after_a_reboot(host: Any) -> None:
    """Both are set by what systemd starts at boot."""
    host.check_output(f"echo never >{ENABLED}; echo 0 >/proc/sys/kernel/numa_balancing")
    host.check_output("systemd-tmpfiles --create --boot --prefix /sys; /lib/systemd/systemd-sysctl")
    test_it_holds_now(host)


def test_several_nodes_have_numactl(host: Any) -> None:
    assert host.run("numactl --show").rc == 0
