"""Parsers of what vendors' tools print."""

from flagprov.host.machine import parse_nvidia

GPUS = """0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559
1, GPU-bbbb, NVIDIA H100 80GB HBM3, [N/A]
"""
APPS = """GPU-bbbb, 4711, /usr/bin/python3, with a comma
"""


def test_nvidia_devices_and_their_processes() -> None:
    first, second = parse_nvidia(GPUS, APPS)
    assert first == {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "memory_mib": 81559,
        "processes": [],
        "uuid": "GPU-aaaa",
    }
    assert second["memory_mib"] is None
    assert second["processes"] == ["/usr/bin/python3, with a comma (pid 4711)"]


def test_an_error_message_is_no_device() -> None:
    assert parse_nvidia("Failed to initialize NVML: Driver/library version mismatch\n", "") == []
