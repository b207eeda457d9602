"""What the five cards say, typed from the cards and not from the releases."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.catalog import load_release
from flagprov.models.release import Container, Mount, Release, Variant

ALIYUN = "flagrelease-registry.cn-beijing.cr.aliyuncs.com/flagrelease/flagrelease"
HARBOR_A3 = (
    "harbor.baai.ac.cn/flagrelease-public/flagrelease-ascend-release-model_qwen3-4b-tree_none-gems_2.2"
    "-scale_0.8.0-cx_none-python_3.11.11-torch_npu2.6.0rc1-pcp_cann8.2rc1.alpha002-gpu_ascend001-arc_arm64"
    "-driver_25.2.0:2512101714"
)
H100, GRAVITON, A2, A3 = "nvidia-h100", "graviton4", "ascend-a2", "ascend-a3"

ULIMITS = {"stack": "67108864", "memlock": "-1", "nofile": "1048576:1048576"}
NFS = (Mount(source="/nfs", target="/nfs"),)


def mount(source: str, target: str | None = None, optional: bool = False) -> Mount:
    return Mount(source=source, target=target or source, optional=optional)


VL_RUN = Container(
    network="host",
    uts="host",
    ipc="host",
    security_opt=("seccomp=unconfined",),
    privileged=True,
    ulimits=ULIMITS,
    shm_size="32G",
    mounts=NFS,
    gpus="all",
)
ASCEND_RUN = Container(
    user="root",
    workdir="/workspace",
    privileged=True,
    shm_size="1000g",
    network="host",
    mounts=(
        mount("/usr/local/Ascend/driver"),
        mount("/usr/local/bin/npu-smi", optional=True),
        mount("/usr/local/dcmi"),
        mount("/usr/local/sbin"),
        mount("/usr/share/zoneinfo/Asia/Shanghai", "/etc/localtime", optional=True),
        mount("/etc/ascend_install.info"),
        mount("/data"),
        mount("/root/.cache", optional=True),
    ),
)
CONTAINERS = {
    ("qwq-32b", H100): Container(
        privileged=True,
        gpus="all",
        network="host",
        ipc="host",
        devices=(mount("/dev/infiniband", optional=True),),
        shm_size="512g",
        ulimits={"memlock": "-1"},
        mounts=NFS,
    ),
    ("qwen2-7b", GRAVITON): VL_RUN.model_copy(update={"gpus": ""}),  # no GPU there
    ("qwen2.5-vl-32b", H100): VL_RUN,
    ("robobrain2-7b-fp8", H100): VL_RUN,
    ("qwen3-4b", A2): ASCEND_RUN,
    ("qwen3-4b", A3): ASCEND_RUN,
}
IMAGES = {
    ("qwq-32b", H100): f"{ALIYUN}:deepseek-flagos-nvidia",
    ("qwen2-7b", GRAVITON): f"{ALIYUN}:flagrelease-arm",
    ("qwen2.5-vl-32b", H100): f"{ALIYUN}:flagrelease_nv_robobrain2_32b",
    ("robobrain2-7b-fp8", H100): f"{ALIYUN}:flagrelease_nv_robobrain2_32b",
    ("qwen3-4b", A2): f"{ALIYUN}:flagopen-910b-ubuntu24.04.2-py311",
    ("qwen3-4b", A3): HARBOR_A3,
}
QWEN3_4B = {
    "model": "/data/weights/Qwen3-4B/",
    "served_model_name": "Qwen3-4B-ascend-flagos",
    "tensor_parallel_size": 1,
    "gpu_memory_utilization": 0.8,
    "host": "0.0.0.0",  # the card has a placeholder
    "port": 9010,
    "block_size": 128,
    "max_model_len": 35536,
    "max_num_seqs": 16,
    "enforce_eager": True,
    "no_enable_prefix_caching": True,
    "no_enable_chunked_prefill": True,
}
SERVE: dict[tuple[str, str], dict[str, Any]] = {
    ("qwq-32b", H100): {
        "model": "/nfs/QwQ-32B",
        "served_model_name": "qwq-32b-flagos",
        "tensor_parallel_size": 8,
        "max_model_len": 32768,
        "pipeline_parallel_size": 1,
        "max_num_seqs": 256,
        "gpu_memory_utilization": 0.9,
        "port": 9010,
        "trust_remote_code": True,
        "enforce_eager": True,
        "enable_chunked_prefill": True,
    },
    ("qwen2.5-vl-32b", H100): {
        "model": "/nfs/Qwen2.5-VL-32B-Instruct",
        "served_model_name": "Qwen2.5-VL-32B-Instruct-nvidia-flagos",
        "tensor_parallel_size": 8,
        "pipeline_parallel_size": 1,
        "gpu_memory_utilization": 0.9,
        "limit_mm_per_prompt": "image=18",
        "port": 9010,
        "trust_remote_code": True,
        "enforce_eager": False,
        "enable_chunked_prefill": True,
    },
    ("robobrain2-7b-fp8", H100): {  # the base file's, with the card's three changes and the mounted path
        "model": "/nfs/RoboBrain2.0-7B-FP8Dynamic",
        "served_model_name": "RoboBrain2-7B-nvidia-flagos-FP8Dynamic",
        "tensor_parallel_size": 4,
        "max_model_len": 32768,
        "pipeline_parallel_size": 1,
        "max_num_seqs": 8,
        "gpu_memory_utilization": 0.9,
        "limit_mm_per_prompt": "image=18",
        "port": 9010,
        "trust_remote_code": True,
        "enforce_eager": False,
        "enable_chunked_prefill": True,
    },
    ("qwen3-4b", A2): QWEN3_4B,
    ("qwen3-4b", A3): QWEN3_4B,
}
ASCEND_ENV = {
    "VLLM_USE_V1": "1",
    "CPU_AFFINITY_CONF": "2",
    "PYTORCH_NPU_ALLOC_CONF": "max_split_size_mb:256",
    "USE_FLAGGEMS": "true",
}
ENV = {
    ("qwq-32b", H100): {"CUDA_DEVICE_MAX_CONNECTIONS": "1", "USE_FLAGGEMS": "1"},
    ("qwen2-7b", GRAVITON): {"USE_FLAGGEMS": "1"},
    ("qwen2.5-vl-32b", H100): {},
    ("robobrain2-7b-fp8", H100): {},
    ("qwen3-4b", A2): ASCEND_ENV,
    ("qwen3-4b", A3): ASCEND_ENV,
}
WEIGHTS = {
    "qwq-32b": ("Qwen/QwQ-32B", "/nfs/QwQ-32B", "/nfs"),
    "qwen2-7b": ("Qwen/Qwen2-7B-Instruct", "/nfs/Qwen/Qwen2-7B-Instruct", "/nfs"),
    "qwen2.5-vl-32b": ("Qwen/Qwen2.5-VL-32B-Instruct", "/nfs/Qwen2.5-VL-32B-Instruct", "/nfs"),
    "robobrain2-7b-fp8": (
        "FlagRelease/RoboBrain2.0-7B-FP8Dynamic-FlagOS",
        "/nfs/RoboBrain2.0-7B-FP8Dynamic",
        "/nfs",
    ),
    "qwen3-4b": ("Qwen/Qwen3-4B", "/data/weights/Qwen3-4B", "/data"),
}
QWEN3_METRICS = (
    1,
    [
        ("LIVEBENCH", 0.501, 0.502),
        ("AIME", 0.700, 0.733),
        ("GPQA", 0.410, 0.424),
        ("MMLU", 0.669, 0.670),
        ("MUSR", 0.590, 0.623),
    ],
)
METRICS: dict[tuple[str, str], tuple[int, list[tuple[str, float | None, float]]]] = {
    ("qwq-32b", H100): (
        100,
        [
            ("GSM8K (EM)", 72.78, 73.31),
            ("MMLU (Acc.)", 79.75, 79.77),
            ("CEVAL", 85.07, 85.07),
            ("AIME 2024 (Pass@1)", 80.0, 76.67),
            ("GPQA-Diamond (Pass@1)", 64.14, 63.13),
            ("MATH-500 (pass@1)", 94.2, 94.0),
        ],
    ),
    ("qwen2-7b", GRAVITON): (1, [("mmlu", 0.7, 0.687)]),
    ("qwen2.5-vl-32b", H100): (
        100,
        [
            ("mmmu_val", 60.89, 57.44),
            ("math_vision_test", 30.29, 33.63),
            ("orcbench_test", None, 82.059),
            ("blink_val", 58.68, 57.55),
            ("mmvet_v2", 70.058, 71.1219),
            ("mmmu_pro_vision_test", 35.36, 41.62),
            ("mmmu_pro_standard_test", 43.55, 38.4),
            ("cmmmu_val", 49.44, 49.11),
            ("cii_bench_test", 62.61, 55.16),
        ],
    ),
    ("robobrain2-7b-fp8", H100): (
        100,
        [
            ("SAT", 75.33, 72.0),
            ("all_angles_bench", 47.7, 46.48),
            ("Where2Place", 63.59, 63.06),
            ("blink_val_ev", 56.36, 55.2),
            ("robo_spatial_home_all", 54.227, 54.312),
            ("egoplan_bench2", 33.23, 33.31),
            ("erqa", 38.75, 39.75),
            ("cv_bench_test", 85.75, 85.77),
            ("embspatial_bench", 76.32, 75.27),
            ("vsi_bench_tiny", 36.1, 38.7),
        ],
    ),
    ("qwen3-4b", A2): QWEN3_METRICS,
    ("qwen3-4b", A3): QWEN3_METRICS,
}
ASCEND_VERSIONS = {
    "driver": "25.0.rc1",
    "docker": "20.10.8",
    "docker_build": "3967b7d",
    "os": "openEuler 22.03 (LTS-SP4)",
    "flagscale": "0.8.0",
    "flaggems": "2.2",
}
VERSIONS = {
    ("robobrain2-7b-fp8", H100): {
        "driver": "535.183.06",
        "docker": "20.10.5",
        "docker_build": "55c4c88",
        "os": "Ubuntu 22.04.4 LTS",
        "flagscale": "0.8.0",
        "flaggems": "2.2",
    },
    ("qwen3-4b", A2): ASCEND_VERSIONS,
    ("qwen3-4b", A3): ASCEND_VERSIONS,
}
OPERATORS = {
    "qwq-32b": "flaggems",
    "qwen2-7b": "flaggems",
    "qwen3-4b": "flaggems",
    "qwen2.5-vl-32b": "native",
    "robobrain2-7b-fp8": "native",
}
LABELS = {
    "qwq-32b": "qwq_32b",
    "qwen2-7b": "Qwen2-7B-Instruct",
    "qwen2.5-vl-32b": "qwen25_vl",
    "robobrain2-7b-fp8": "robobrain2",
    "qwen3-4b": "qwen3",
}
CARDS = {
    "qwq-32b": "QwQ-32B-FlagOS-Nvidia",
    "qwen2-7b": "Qwen2-7B-FlagOS-Arm",
    "qwen2.5-vl-32b": "Qwen2.5-VL-32B-Instruct-FlagOS-Nvidia",
    "robobrain2-7b-fp8": "RoboBrain2.0-7B-FP8Dynamic-FlagOS",
    "qwen3-4b": "Qwen3-4B-FlagOS-Ascend",
}
# Contradictions of each card that must be resolved with a reason.
RESOLVED = {
    ("qwq-32b", H100): {"where FlagScale reads `deploy`", "conda environment", "InfiniBand"},
    ("qwen2-7b", GRAVITON): {"GPUs", "serve configuration", "port", "served model name", "model"},
    ("qwen2.5-vl-32b", H100): {"which YAML", "name of the experiment", "limit_mm_per_prompt"},
    ("robobrain2-7b-fp8", H100): {"path of the weights", "chip", "serve arguments", "served-model-name"},
    ("qwen3-4b", A2): {
        "name of the container",
        "tree that is served",
        "visible devices",
        "host to listen on",
    },
    ("qwen3-4b", A3): {"image", "host to listen on", "serve YAML", "mounts that a host may lack"},
}

PAIRS = sorted(IMAGES)
each_variant = pytest.mark.parametrize("pair", PAIRS, ids=" on ".join)


@each_variant
def test_image(pair: tuple[str, str]) -> None:
    assert _variant(pair).image.reference == IMAGES[pair]
    assert _variant(pair).image.digests == ()


@each_variant
def test_run_options(pair: tuple[str, str]) -> None:
    assert _variant(pair).container == CONTAINERS[pair]


@each_variant
def test_environment(pair: tuple[str, str]) -> None:
    assert _variant(pair).env == ENV[pair]


@pytest.mark.parametrize("pair", sorted(SERVE), ids=" on ".join)
def test_serve_arguments(pair: tuple[str, str]) -> None:
    assert _variant(pair).serve == SERVE[pair]


def test_the_arm_card_has_no_serve_arguments() -> None:
    serve = _variant(("qwen2-7b", GRAVITON)).serve
    assert serve["model"] == "/nfs/Qwen/Qwen2-7B-Instruct"
    assert (serve["port"], serve["enforce_eager"]) == (9010, True)


@each_variant
def test_metrics(pair: tuple[str, str]) -> None:
    scale, rows = METRICS[pair]
    metrics = _variant(pair).metrics
    assert [(metric.name, metric.reference, metric.value) for metric in metrics] == rows
    assert {metric.scale for metric in metrics} == {scale}


@each_variant
def test_samples_explain_the_values(pair: tuple[str, str]) -> None:
    """Where a number of samples is given, both values are a whole number of right answers."""
    for metric in _variant(pair).metrics:
        for value in (metric.reference, metric.value):
            if metric.samples is not None and value is not None:
                right = round(value / metric.scale * metric.samples)
                digits = 2 if metric.scale == 100 else 3
                assert round(right / metric.samples * metric.scale, digits) == value, metric.name


@each_variant
def test_versions(pair: tuple[str, str]) -> None:
    assert _variant(pair).versions == VERSIONS.get(pair, {})


@each_variant
def test_devices_are_what_the_serve_arguments_need(pair: tuple[str, str]) -> None:
    variant = _variant(pair)
    assert variant.devices == variant.serve.get("tensor_parallel_size", 1)
    assert variant.nodes == 1


@each_variant
def test_launch(pair: tuple[str, str]) -> None:
    name, chip = pair
    launch = _variant(pair).launch
    assert (launch.kind, launch.label) == ("flagscale", LABELS[name])
    conda = "source /root/miniconda3/bin/activate flagscale-inference"
    assert launch.before_start == ((conda,) if name == "qwq-32b" else ())
    scripts = ("/usr/local/Ascend/ascend-toolkit/set_env.sh", "/usr/local/Ascend/nnal/atb/set_env.sh")
    assert launch.source == (scripts if chip in (A2, A3) else ())


@each_variant
def test_operators(pair: tuple[str, str]) -> None:
    variant = _variant(pair)
    assert variant.operators == OPERATORS[pair[0]]
    if variant.operators == "flaggems":
        assert variant.serve["enforce_eager"] is True
        assert "USE_FLAGGEMS" in variant.env
    else:
        assert any("never switched on" in warning for warning in variant.warnings)


@each_variant
def test_contradictions_are_resolved(pair: tuple[str, str]) -> None:
    resolutions = _variant(pair).resolutions
    subjects = [resolution.subject for resolution in resolutions]
    assert RESOLVED[pair] <= set(subjects)
    assert {"life of the container", "shared memory"} <= set(subjects)
    assert len(set(subjects)) == len(subjects)
    assert all(resolution.reason for resolution in resolutions)


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_weights_and_card(name: str) -> None:
    release = _release(name)
    model, path, root = WEIGHTS[name]
    assert release.weights.source == f"modelscope://{model}"
    assert (release.weights.path, release.weights.root) == (path, root)
    assert release.card is not None
    assert release.card.name == CARDS[name]
    assert release.readiness.kind == "chat"
    assert release.readiness.deadline_s >= 900


def test_chips() -> None:
    found = {name: set(_release(name).variants) for name in WEIGHTS}
    assert found == {name: {chip for each, chip in PAIRS if each == name} for name in WEIGHTS}


def test_steps_that_build_and_name_no_commit_are_kept_and_not_run() -> None:
    variant = _variant(("qwq-32b", H100))
    assert "git clone https://github.com/FlagOpen/FlagGems.git" in variant.image.card_build
    assert not variant.image.build
    assert not any("pip" in line or "git" in line for line in variant.launch.before_start)


def test_the_image_that_the_a3_card_runs_without_pulling_it() -> None:
    assert _variant(("qwen3-4b", A3)).image.alternatives == (f"{ALIYUN}:flagrelease_ascend_qwen3_4b",)


@pytest.mark.parametrize(
    ("name", "image", "deadline"),
    [
        ("qwen3-tiny", "flagprov-lab/vllm-cpu:0.32.0", 300),
        ("qwen3-tiny-standin", "flagprov-lab/standin:0.8.0", 60),
    ],
)
def test_lab(name: str, image: str, deadline: int) -> None:
    release = _release(name)
    variant = release.variants["cpu-x86"]
    assert variant.image.reference == image
    assert release.readiness.deadline_s == deadline
    assert release.weights.model_dump() == {
        "source": "file:///models/Qwen3-Tiny",
        "revision": None,
        "path": "/models/Qwen3-Tiny",
        "root": "/models",
    }
    assert variant.serve == {
        "model": "/models/Qwen3-Tiny",
        "served_model_name": "qwen3-tiny",
        "port": 9010,
        "host": "0.0.0.0",
        "max_model_len": 512,
        "max_num_seqs": 4,
        "enforce_eager": True,
        "dtype": "bfloat16",
    }
    assert (variant.operators, variant.launch.label) == ("native", "tiny")
    assert (variant.container.ipc, variant.container.shm_size) == ("private", "1g")
    assert variant.env["VLLM_CPU_KVCACHE_SPACE"] == variant.env["HF_HUB_OFFLINE"] == "1"


def _release(name: str) -> Release:
    return load_release(name)


def _variant(pair: tuple[str, str]) -> Variant:
    return _release(pair[0]).variants[pair[1]]
