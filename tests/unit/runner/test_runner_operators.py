"""FlagGems in the configuration: the plugin beside its orders, what the image decides, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from launch_inputs import chip, facts, inputs

from flagprov.catalog.operators import exclusions, exclusions_for
from flagprov.chips import chip_names
from flagprov.errors import ReleaseError
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.operators import exclusions_unheeded, operators_expected, workers_per_node
from flagprov.runner.render import environment, render

GEMS = {"flaggems": "5.0.2", "flaggems_enable": ("lib", "unused")}


def asked(image: dict[str, Any] | None = None, **changes: Any) -> LaunchInputs:
    """A launch with FlagGems on an H100, in an image with it."""
    on = {"env": {"USE_FLAGGEMS": "1"}, "chip": chip(name="nvidia-h100"), "facts": facts(**(image or GEMS))}
    launch = inputs(**on | changes)
    variant = launch.variant.model_copy(update={"operators": "flaggems"})
    return LaunchInputs(**{**{f: getattr(launch, f) for f in launch.__slots__}, "variant": variant})


def orders(launch: LaunchInputs) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(render(launch)["operators.json"])
    return read


def test_the_plugin_lies_in_the_configuration_and_the_launcher_is_told() -> None:
    files = render(asked())
    assert (
        "flagprov_operators = flagprov_engine.hook:register"
        in (files["engine/flagprov_operators-1.dist-info/entry_points.txt"])
    )
    assert {"engine/flagprov_engine/__init__.py", "engine/flagprov_engine/switch.py"} <= set(files)
    assert json.loads(files["launch.json"])["operators"] == "operators.json"


def test_native_operators_leave_no_trace() -> None:
    files = render(inputs(facts=facts(**GEMS)))
    assert not [path for path in files if path.startswith(("engine/", "operators"))]
    assert "operators" not in json.loads(files["launch.json"])


def test_orders_hold_the_registrys_entries_with_their_reasons() -> None:
    said = orders(asked(model="microsoft/Phi-4-mini-instruct"))
    assert said["mode"] == "enable"
    assert {"full", "ones", "zeros", "softmax"} <= set(said["leave_out"])
    assert all(each["reason"] and each["link"].startswith("https://") for each in said["because"])


def test_a_plan_says_which_exclusions_nobody_heeds() -> None:
    patched = asked({**GEMS, "flaggems_by": "vllm"}, model="microsoft/Phi-4-mini-instruct")
    assert "softmax" in exclusions_unheeded(patched)
    assert "are not: this image's own vLLM" in exclusions_unheeded(patched)
    for image in ({**GEMS}, {**GEMS, "flaggems_by": "vllm_fl"}):
        assert exclusions_unheeded(asked(image, model="microsoft/Phi-4-mini-instruct")) == ""


@pytest.mark.parametrize(("by", "mode"), [(None, "enable"), ("vllm", "observe"), ("vllm_fl", "observe")])
def test_the_image_decides_who_enables_it(by: str | None, mode: str) -> None:
    assert orders(asked({**GEMS, "flaggems_by": by}))["mode"] == mode


def test_the_fl_plugin_is_switched_off_by_its_variable() -> None:
    image = {**GEMS, "flaggems_by": "vllm_fl"}
    # It is on where nobody says so, and has a list of its own that a variable would replace.
    assert environment(inputs(facts=facts(**image)))["USE_FLAGGEMS"] == "0"
    assert environment(asked(image))["USE_FLAGGEMS"] == "1"
    assert "VLLM_FL_FLAGOS_BLACKLIST" not in environment(asked(image))


@pytest.mark.parametrize("image", [{"flaggems_by": "vllm"}, {"env": {"USE_FLAGGEMS": "1"}}])
def test_native_holds_against_what_the_image_does_by_itself(image: dict[str, Any]) -> None:
    assert environment(inputs(facts=facts(**GEMS, **image)))["USE_FLAGGEMS"] == "0"
    assert environment(asked({**GEMS, **image}))["USE_FLAGGEMS"] == "1"
    assert "USE_FLAGGEMS" not in environment(inputs(facts=facts(**GEMS)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({}, "the image has no FlagGems"),
        (
            {**GEMS, "flaggems_error": "ImportError: no triton"},
            "cannot be imported in the image: ImportError",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_at_the_plan(image: dict[str, Any], message: str) -> None:
    with pytest.raises(ReleaseError, match=message) as refused:
        render(asked(image or {"flaggems": None}))
    assert "--operators native" in refused.value.remedy


def test_a_probe_without_accelerator_proves_nothing() -> None:
    error = "without an accelerator: RuntimeError: No device were detected"
    assert orders(asked({**GEMS, "flaggems_error": error}))["mode"] == "enable"


def test_status_knows_how_many_workers_there_are_to_be() -> None:
    serve = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}
    assert workers_per_node(inputs(serve=serve)) == 8
    assert operators_expected(asked(serve=serve)) == {
        "asked": "flaggems", "on": True, "workers": 8, "by": "enable"
    }  # fmt: skip
    assert operators_expected(inputs()) == {"asked": "native", "on": False}
    said = operators_expected(asked({"flaggems": None}, env={}))
    assert said == {"asked": "flaggems", "on": False, "reason": "the image has no FlagGems"}


def test_the_registry_names_chips_that_there_are() -> None:
    assert {chip for each in exclusions() for chip in each.chips} <= set(chip_names())
    assert all(each.link.startswith("https://") for each in exclusions())


def test_entries_hold_by_chip_version_and_model() -> None:
    def left_out(*where: Any) -> set[str]:
        return {name for each in exclusions_for(*where) for name in each.leave_out}

    assert "linear" in left_out("ascend-a3", "5.3.4.post1", "Qwen/Qwen3-4B")
    assert "linear" not in left_out("ascend-a3", "2.2", "Qwen/Qwen3-4B")
    assert "linear" not in left_out("nvidia-h100", "5.3.4", "Qwen/Qwen3-4B")
    assert "linear" in left_out("ascend-a3", None, "Qwen/Qwen3-4B")
    assert "zeros" not in left_out("nvidia-h100", "5.0.2", "Qwen/QwQ-32B")
