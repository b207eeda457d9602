"""The catalog as text: a table of releases, and one release in full."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flagprov.report.json import plain
from flagprov.report.text import Line, Span, count, duration, line, paragraph, table

if TYPE_CHECKING:
    from flagprov.models.release import Release

Row = list[str | Span]


def summary(releases: Sequence[Release]) -> dict[str, Any]:
    """`releases list` as JSON."""
    found = [
        {
            "name": release.name,
            "title": release.title,
            "model": release.model.name,
            "variants": {
                chip: {
                    "operators": variant.operators,
                    "nodes": variant.nodes,
                    "devices": variant.devices,
                    "image": variant.image.reference,
                }
                for chip, variant in release.variants.items()
            },
        }
        for release in releases
    ]
    return {"releases": found}


def list_lines(releases: Sequence[Release], *, width: int | None = None) -> list[Line]:
    rows: list[Row] = [
        [
            Span(release.name, "strong"),
            ", ".join(release.variants),
            ", ".join(dict.fromkeys(variant.operators for variant in release.variants.values())),
            release.title,
        ]
        for release in releases
    ]
    return table(rows, header=("release", "chips", "operators", "title"), width=width)


def show_lines(release: Release, *, width: int | None = None) -> list[Line]:
    """Everything that the release says, in the order in which a reader asks."""
    model, weights = release.model, release.weights
    about = [f"{model.parameters:g} B parameters" if model.parameters else "", model.dtype]
    rows: list[Row] = []
    if release.card:
        rows.append(["card", " ".join(part for part in (release.card.name, release.card.url) if part)])
    more = ", ".join(part for part in about if part)
    rows += [
        ["model", f"{model.name} ({more})" if more else model.name],
        ["weights", f"{weights.source} in {weights.path}"],
        ["root", f"{weights.root}, which flagprov_weights_root replaces"],
        ["ready", _readiness(plain(release.readiness))],
    ]
    lines = [line(Span(release.name, "strong"), f"  {release.title}"), *_facts(rows, 2, width)]
    lines += _warnings(release.warnings, 2)
    for chip, variant in plain(release)["variants"].items():
        lines += [line(), line(Span(chip, "strong"), f"  {_size(variant)}, operators {variant['operators']}")]
        lines += _variant(variant, width)
    return lines


def _variant(variant: Mapping[str, Any], width: int | None) -> list[Line]:
    image, launch = variant["image"], variant["launch"]
    rows: list[Row] = [["image", image["reference"]]]
    rows += [["digest", digest] for digest in image["digests"]]
    rows += [["also as", name] for name in image["alternatives"]]
    rows += [["build", _step(step)] for step in image["build"]]
    rows += [["card's build", f"{step} (not run)"] for step in image["card_build"]]
    for key, value in variant["container"].items():
        if key in ("devices", "mounts"):
            rows += [["run", f"{key[:-1]}: {_mount(each)}"] for each in value]
        elif value:
            rows.append(["run", f"{key}: {_short(value)}"])
    rows += [["env", f"{key}={value}"] for key, value in variant["env"].items()]
    rows.append(["launch", " ".join((launch["kind"], launch["label"], *launch["command"])).strip()])
    rows += [["source", script] for script in launch["source"]]
    rows += [["before", step] for step in launch["before_start"]]
    rows += [["before", f"on the head only: {step}"] for step in launch["head_before_start"]]
    rows += [["serve", f"{key}: {_short(value)}"] for key, value in variant["serve"].items()]
    if variant.get("readiness"):
        rows.append(["ready", _readiness(variant["readiness"])])
    rows += [["version", f"{key} {value}"] for key, value in variant["versions"].items()]
    lines = _facts(rows, 2, width)
    if variant["metrics"]:
        lines += [line(Span("reference metrics", "faint"), indent=2), *_metrics(variant["metrics"], width)]
    for each in variant["resolutions"]:
        lines.append(line(Span("resolved ", "faint"), each["subject"], indent=2))
        why: list[Row] = [[Span(key, "faint"), each[key]] for key in ("card", "used", "reason")]
        lines += table(why, indent=4, width=width)
    return lines + _warnings(variant["warnings"], 2)


def _step(step: Mapping[str, Any]) -> str:
    """A build step in words."""
    what = str(step["pip"] or f"{step['git']} at {step['commit'] or step['ref']}")
    return what + (f", {step['directory']}" if step["directory"] else "")


def _facts(rows: Sequence[Row], indent: int, width: int | None) -> list[Line]:
    """Name and value; a name that repeats stands once."""
    shown: list[Row] = []
    before: str | Span = ""
    for name, value in rows:
        shown.append([Span("" if name == before else str(name), "faint"), value])
        before = name
    return table(shown, indent=indent, width=width)


def _metrics(metrics: Sequence[Mapping[str, Any]], width: int | None) -> list[Line]:
    rows: list[Row] = [
        [
            each["name"],
            _number(each["reference"]),
            _number(each["value"]),
            f"of {each['scale']}",
            " ".join(part for part in (_samples(each["samples"]), each["note"]) if part),
        ]
        for each in metrics
    ]
    return table(rows, header=("benchmark", "CUDA", "this chip", "scale", ""), indent=4, width=width)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _samples(value: int | None) -> str:
    return f"{value} samples" if value else ""


def _size(variant: Mapping[str, Any]) -> str:
    devices = count(variant["devices"], "device")
    return devices if variant["nodes"] == 1 else f"{variant['nodes']} nodes with {devices} each"


def _readiness(value: Mapping[str, Any]) -> str:
    what = {"http": value["path"], "command": " ".join(value["command"])}.get(value["kind"], "")
    return f"{value['kind']} {what}".strip() + f", within {duration(value['deadline_s'])} of its start"


def _mount(value: Mapping[str, Any]) -> str:
    same = value["source"] == value["target"]
    where = value["source"] if same else f"{value['source']} as {value['target']}"
    how = [
        word for word, said in (("read-only", value["read_only"]), ("if there", value["optional"])) if said
    ]
    return f"{where} ({', '.join(how)})" if how else where


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _warnings(warnings: Sequence[str], indent: int) -> list[Line]:
    lines: list[Line] = []
    for warning in warnings:
        first, *rest = paragraph(warning) or [line()]
        lines.append(line(Span("warning ", "warn"), *first.spans, indent=indent))
        lines += [Line(each.spans, indent + 2) for each in rest]
    return lines
