"""A container that shows the processors of a Graviton4, after graviton_tuning with its defaults."""

from __future__ import annotations

from typing import Any


def test_settings_of_the_machine_are_left_to_it_and_that_is_said(host: Any) -> None:
    for path in ("/etc/tmpfiles.d/90-flagprov-graviton.conf", "/etc/sysctl.d/91-flagprov-graviton.conf"):
        written = host.file(path)
        assert written.mode == 0o644
        lines = written.content_string.splitlines()
        assert all(line.startswith("#") for line in lines)
        assert "left to the machine" in lines[-1]


def test_one_node_needs_no_numactl(host: Any) -> None:
    assert not host.package("numactl").is_installed
