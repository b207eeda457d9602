"""Can CUDA be used on these GPUs? Allocates, computes and reads back through the driver's own library.

nvidia-smi looks well on a machine whose Fabric Manager is down, and CUDA cannot start there. One file,
standard library only; run as `python3 cuda_probe.py INDEX...`, it prints a JSON list.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

WORDS = 1 << 20  # of 4 bytes
SEED = 0x0BADCAFE
# Adds 1 to each word, a thread a word.
KERNEL = b"""
.version 6.3
.target sm_75
.address_size 64
.visible .entry flagprov_bump(.param .u64 base, .param .u32 words)
{
    .reg .pred %p<2>;
    .reg .b32 %r<7>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [base];
    ld.param.u32 %r1, [words];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd1, %rd1;
    mul.wide.u32 %rd2, %r5, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r6, [%rd3];
    add.u32 %r6, %r6, 1;
    st.global.u32 [%rd3], %r6;
DONE:
    ret;
}
"""
HINTS = {
    100: "no device is visible",
    802: "the fabric is not up: does the Fabric Manager run, and has it exactly the driver's version?",
    803: "the driver that is loaded and its library are of different versions",
}


class CudaError(Exception):
    """A call that CUDA refused."""


class Cuda:
    """The few calls that are needed."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self.library, name)(*arguments))
        if code:
            raise CudaError("%s: error %d %s" % (name, code, HINTS.get(code, self._name(code))))

    def _name(self, code: int) -> str:
        text = ctypes.c_char_p()
        try:
            self.library.cuGetErrorString(code, ctypes.byref(text))
        except AttributeError:
            return ""
        return (text.value or b"").decode(errors="replace")

    def trial(self, index: int) -> str:
        """What could not be tried, empty where everything was; raises CudaError."""
        device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
        self.call("cuDeviceGet", ctypes.byref(device), index)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        try:
            self.call("cuCtxSetCurrent", context)
            self.call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4 * WORDS))
            try:
                self.call("cuMemsetD32_v2", memory, ctypes.c_uint(SEED), ctypes.c_size_t(WORDS))
                left = self._compute(memory)
                words = (ctypes.c_uint32 * WORDS)()
                self.call("cuMemcpyDtoH_v2", words, memory, ctypes.c_size_t(4 * WORDS))
            finally:
                self.library.cuMemFree_v2(memory)
        finally:
            self.library.cuDevicePrimaryCtxRelease_v2(device)
        expected = SEED if left else SEED + 1
        if bytes(words) != expected.to_bytes(4, sys.byteorder) * WORDS:
            raise CudaError("the GPU gave a wrong result")
        return left

    def _compute(self, memory: ctypes.c_uint64) -> str:
        """Run the kernel; a driver without its compiler cannot, and is not broken for that."""
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            self.call("cuModuleLoadData", ctypes.byref(module), KERNEL)
            self.call("cuModuleGetFunction", ctypes.byref(kernel), module, b"flagprov_bump")
        except CudaError as error:
            return "no kernel was run (%s)" % error
        count = ctypes.c_uint32(WORDS)
        values = (ctypes.c_void_p * 2)(
            ctypes.cast(ctypes.byref(memory), ctypes.c_void_p),
            ctypes.cast(ctypes.byref(count), ctypes.c_void_p),
        )
        grid = [ctypes.c_uint(size) for size in (WORDS // 256, 1, 1, 256, 1, 1, 0)]
        self.call("cuLaunchKernel", kernel, *grid, None, values, None)
        self.call("cuCtxSynchronize")
        return ""


def trials(library: Any, indices: list[int]) -> list[dict[str, Any]]:
    cuda = Cuda(library)
    try:
        cuda.call("cuInit", 0)
    except CudaError as error:
        return [_entry(index, str(error)) for index in indices]
    found = []
    for index in indices:
        try:
            found.append(_entry(index, None, cuda.trial(index)))
        except CudaError as error:
            found.append(_entry(index, str(error)))
    return found


def _entry(index: int, error: str | None, why: str = "") -> dict[str, Any]:
    return {"index": index, "tried": True, "error": error, "why": why}


def main() -> None:
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    indices = [int(each) for each in sys.argv[1:]]
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        print(json.dumps([_entry(index, "libcuda.so.1: %s" % error) for index in indices]))
        return
    print(json.dumps(trials(library, indices)))


if __name__ == "__main__":
    main()
