"""Settings: parsing --set, laying it over the inventory's, and both over a release."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagprov.catalog import load_release
from flagprov.errors import SettingsError
from flagprov.models.release import Release, Variant
from flagprov.models.settings import Settings
from flagprov.settings import apply_settings, merge_settings, parse_sets

DIGEST = "sha256:" + "b" * 64

scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**12), max_value=10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Zl", "Zp")), max_size=20)
)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(names, scalars, max_size=3)


@settings(deadline=None)  # a busy machine is no failure
@given(st.dictionaries(names, values, max_size=4))
def test_serve_arguments_survive(serve: dict[str, Any]) -> None:
    """JSON is YAML (but for pairs of surrogates), so what a script writes as JSON arrives as it was."""
    parsed = parse_sets(
        [f"serve.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in serve.items()]
    )
    assert parsed.get("serve", {}) == serve
    assert repr(parsed.get("serve", {})) == repr(serve)  # 1, 1.0 and True are not the same
    assert merge_settings({}, parsed).serve == serve


@settings(deadline=None)
@given(st.dictionaries(names, st.text(max_size=30), max_size=4))
def test_variables_are_taken_as_they_are(env: dict[str, str]) -> None:
    assert parse_sets([f"env.{key}={value}" for key, value in env.items()]).get("env", {}) == env


@settings(deadline=None)
@given(st.integers(1, 65535), st.integers(1, 64))
def test_numbers(port: int, devices: int) -> None:
    settings = merge_settings({}, parse_sets([f"port={port}", f"devices={devices}"]))
    assert (settings.port, settings.devices) == (port, devices)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("serve.max_num_seqs=32", {"serve": {"max_num_seqs": 32}}),
        ("serve.enforce_eager=false", {"serve": {"enforce_eager": False}}),
        ("serve.x=", {"serve": {"x": None}}),
        ("serve.x=null", {"serve": {"x": None}}),
        ("serve.x='32'", {"serve": {"x": "32"}}),
        ("serve.x=a=b", {"serve": {"x": "a=b"}}),
        ("serve.limit_mm_per_prompt={image: 18}", {"serve": {"limit_mm_per_prompt": {"image": 18}}}),
        ("env.OMP_NUM_THREADS=8", {"env": {"OMP_NUM_THREADS": "8"}}),
        ("env.EMPTY=", {"env": {"EMPTY": ""}}),
        ("operators=native", {"operators": "native"}),
        ("shm_size=64g", {"shm_size": "64g"}),
        ("port=9011", {"port": 9011}),
        ("container_profile=least", {"container_profile": "least"}),
    ],
)
def test_values(text: str, value: dict[str, Any]) -> None:
    assert parse_sets([text]) == value


def test_the_later_of_two_holds() -> None:
    assert parse_sets(["port=1", "port=2", "serve.a=1", "serve.b=2", "serve.a=3"]) == {
        "port": 2,
        "serve": {"a": 3, "b": 2},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_num_seqs=3", "--set max_num_seqs: unknown key; did you mean serve.max_num_seqs?"),
        ("max-num-seqs=3", "--set max-num-seqs: unknown key; did you mean serve.max_num_seqs?"),
        ("HF_HOME=/x", "--set HF_HOME: unknown key; did you mean env.HF_HOME?"),
        ("prot=9", "--set prot: unknown key; did you mean port?"),
        ("sevre.x=9", "--set sevre.x: unknown key; did you mean serve?"),
        ("serve.max-num-seqs=3", "--set serve.max-num-seqs: .* did you mean serve.max_num_seqs?"),
        ("serve.a.b=3", "--set serve.a.b: not a possible name"),
        ("serve=3", "--set serve: which one"),
        ("port.x=3", "--set port.x: port has no keys below it"),
        ("port", "--set port: not KEY=VALUE"),
        ("=3", "--set =3: not KEY=VALUE"),
        ("serve.x=[1", "--set serve.x:.* not valid YAML"),
        ("port=many", '--set port: expected a whole number, found "many"'),
        ("port=70000", "--set port: must be less than or equal to 65535, found 70000"),
        ("operators=cuda", "--set operators: expected 'flaggems' or 'native'"),
        ("container_profile=none", "--set container_profile: expected 'card' or 'least'"),
        ("shm_size=lots", "--set shm_size: expected a size such as 32g"),
        ("serve.x={a: {b: 1}}", "--set serve.x: expected a scalar"),
    ],
)
def test_bad_sets(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("?", r"\?")) as caught:
        merge_settings({}, parse_sets([text]))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"serv": {}}, "flagprov_settings.serv: unknown key; did you mean serve?"),
        ({"env": {"A": 1}}, r"flagprov_settings.env.A: expected text, found 1 \(put it in quotes\)"),
        ({"port": "9010"}, "flagprov_settings.port: expected a whole number"),
        ({"serve": ["a"]}, "flagprov_settings.serve: expected a mapping, found a list"),
        ({"port": {1, 2}}, "flagprov_settings: .*set is not JSON"),
    ],
)
def test_bad_inventory_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("?", r"\?")):
        merge_settings(settings, {})


def test_set_goes_over_the_inventory_key_by_key() -> None:
    inventory = {"port": 9100, "serve": {"max_num_seqs": 8, "dtype": "half"}, "env": {"A": "1"}}
    merged = merge_settings(inventory, parse_sets(["serve.max_num_seqs=16", "env.B=2"]))
    assert merged == Settings(
        port=9100, serve={"max_num_seqs": 16, "dtype": "half"}, env={"A": "1", "B": "2"}
    )


def test_no_settings_no_change() -> None:
    release, variant = _qwq()
    assert apply_settings(release, variant, Settings()) is variant


def test_settings_over_a_release() -> None:
    _, variant = _qwq()
    changed = _applied(
        "serve.max_num_seqs=32", "serve.max_model_len=null", "port=9020", "env.A=b", "shm_size=64g"
    )
    assert changed.serve["max_num_seqs"] == 32
    assert "max_model_len" not in changed.serve
    assert changed.serve["port"] == 9020
    assert changed.env == {**variant.env, "A": "b"}
    assert changed.container.shm_size == "64g"
    assert changed.container.model_copy(update={"shm_size": variant.container.shm_size}) == variant.container
    assert variant.serve["max_num_seqs"] == 256


def test_a_variable_is_taken_away() -> None:
    release, variant = _qwq()
    changed = apply_settings(release, variant, Settings(env={"CUDA_DEVICE_MAX_CONNECTIONS": None}))
    assert changed.env == {"USE_FLAGGEMS": "1"}


def test_the_deadline_keeps_the_rest_of_the_readiness() -> None:
    changed = _applied("deadline_s=60")
    assert changed.readiness is not None
    assert (changed.readiness.kind, changed.readiness.deadline_s) == ("chat", 60)


def test_operators_switch_the_variable() -> None:
    assert "USE_FLAGGEMS" not in _applied("operators=native").env
    release = load_release("qwen2.5-vl-32b")
    changed = apply_settings(release, release.variants["nvidia-h100"], Settings(operators="flaggems"))
    assert changed.env["USE_FLAGGEMS"] == "1"
    with pytest.raises(SettingsError, match="operators"):
        _applied("env.USE_FLAGGEMS=0")


@pytest.mark.parametrize(
    ("wanted", "reference", "digests"),
    [
        (DIGEST, None, (DIGEST,)),
        ("mirror.example:5000/q:2", "mirror.example:5000/q:2", ()),
        (f"mirror.example/q@{DIGEST}", "mirror.example/q", (DIGEST,)),
    ],
)
def test_image(wanted: str, reference: str | None, digests: tuple[str, ...]) -> None:
    release, variant = _qwq()
    changed = apply_settings(release, variant, Settings(image=wanted))
    assert changed.image.reference == (reference or variant.image.reference)
    assert changed.image.digests == digests


@pytest.mark.parametrize("wanted", ["", "sha256:abc", "a b", "x@sha256:1", "x@", "@" + DIGEST])
def test_bad_image(wanted: str) -> None:
    release, variant = _qwq()
    with pytest.raises(SettingsError, match="not a reference or digest"):
        apply_settings(release, variant, Settings(image=wanted))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("devices=4", "qwq-32b: devices: tensor_parallel_size 8 needs 8 devices, and the replica has 4"),
        ("serve.tensor_parallel_size=3", "3 does not divide the model's 40 attention heads"),
    ],
)
def test_parallelism_that_cannot_work(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        _applied(text)


def test_parallelism_that_can() -> None:
    changed = _applied("devices=4", "serve.tensor_parallel_size=4")
    assert (changed.devices, changed.serve["tensor_parallel_size"]) == (4, 4)


def _qwq() -> tuple[Release, Variant]:
    release = load_release("qwq-32b")
    return release, release.variants["nvidia-h100"]


def _applied(*sets: str) -> Variant:
    release, variant = _qwq()
    return apply_settings(release, variant, merge_settings({}, parse_sets(sets)))
