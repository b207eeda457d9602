"""The trial of GPUs, against a library that behaves as told."""

from __future__ import annotations

import ctypes
from typing import Any

from flagprov.host.facts import cuda_probe
from flagprov.host.facts.cuda_probe import SEED, WORDS, trials


class Library:
    """A libcuda whose memory is this process's; `fail` maps calls to error codes."""

    def __init__(self, fail: dict[str, int] | None = None, adds: int = 1) -> None:
        self.fail = fail or {}
        self.adds = adds
        self.calls: list[str] = []
        self.memory: Any = None

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.fail:
                return self.fail[name]
            does = getattr(type(self), "_" + name, None)
            return int((does and does(self, *arguments)) or 0)

        return call

    def _cuMemAlloc_v2(self, pointer: Any, size: Any) -> None:
        self.memory = (ctypes.c_uint32 * (size.value // 4))()

    def _cuMemsetD32_v2(self, _: Any, value: Any, count: Any) -> None:
        ctypes.memmove(self.memory, value.value.to_bytes(4, "little") * count.value, 4 * count.value)

    def _cuLaunchKernel(self, *_: Any) -> None:
        words = (SEED + self.adds).to_bytes(4, "little") * WORDS
        ctypes.memmove(self.memory, words, 4 * WORDS)

    def _cuMemcpyDtoH_v2(self, target: Any, _: Any, size: Any) -> None:
        ctypes.memmove(target, self.memory, size.value)


def test_gpus_that_work() -> None:
    library = Library()
    assert trials(library, [0, 1]) == [
        {"index": 0, "tried": True, "error": None, "why": ""},
        {"index": 1, "tried": True, "error": None, "why": ""},
    ]
    assert library.calls.count("cuMemFree_v2") == 2
    assert library.calls.count("cuDevicePrimaryCtxRelease_v2") == 2


def test_a_fabric_that_is_down_is_said() -> None:
    (entry,) = trials(Library({"cuInit": 802}), [0])
    assert entry["error"].startswith("cuInit: error 802 the fabric is not up")


def test_one_gpu_without_memory_does_not_hide_another() -> None:
    library = Library({"cuMemAlloc_v2": 2})
    assert [entry["error"] is not None for entry in trials(library, [0, 1])] == [True, True]
    assert library.calls.count("cuDevicePrimaryCtxRelease_v2") == 2


def test_a_gpu_that_computes_wrongly() -> None:
    assert trials(Library(adds=2), [0])[0]["error"] == "the GPU gave a wrong result"


def test_a_driver_without_a_compiler_is_not_broken() -> None:
    (entry,) = trials(Library({"cuModuleLoadData": 221}), [0])
    assert entry["error"] is None
    assert "no kernel was run" in entry["why"]


def test_a_kernel_that_fails_is_an_error() -> None:
    (entry,) = trials(Library({"cuCtxSynchronize": 700}), [0])
    assert entry["error"].startswith("cuCtxSynchronize: error 700")


def test_the_kernel_ends_as_text_for_c() -> None:
    assert b"\0" not in cuda_probe.KERNEL
