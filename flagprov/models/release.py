"""A release: the structured form of a card. Strict, because people write these files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = str | int | float | bool | None
ServeValue = Scalar | list[Scalar] | dict[str, Scalar]
ReadinessKind = Literal["chat", "completion", "http", "command"]
LaunchKind = Literal["flagscale", "nodes", "ray", "command"]
Operators = Literal["flaggems", "native"]

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00\n]*$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
ServeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]  # underscores, never dashes
Repository = Annotated[str, Field(pattern=r"^(https?://[^\s/@]+/[^\s]+|ssh://[^\s-][^\s]*|file:///[^\s]+)$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
GitRef = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$")]
RelativePath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")]
Requirement = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$")]
WeightsSource = Annotated[
    str,
    Field(pattern=r"^((modelscope|hf|https?|file)://[^\s]+|[A-Za-z0-9][A-Za-z0-9_.-]*:/[^\s/]+[^\s]*)$"),
]


class Strict(BaseModel):
    """An unknown key is an error; a value never changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Card(Strict):
    """The FlagRelease README that the release was made from."""

    name: str
    url: str = ""
    licence: str = Field("", description="what the card says; see the warnings where it is wrong")


class Model(Strict):
    name: str = Field(description="the model as its publisher calls it")
    attention_heads: int | None = Field(None, description="tensor_parallel_size must divide it")
    parameters: float | None = Field(None, description="in billions")
    dtype: str = ""


class Weights(Strict):
    source: WeightsSource = Field(description="modelscope://ID, hf://ID, https://..., file:///PATH")
    revision: str | None = None
    path: AbsolutePath = Field(description="directory inside the container, as the card has it")
    root: AbsolutePath = Field(description="the part of path that a site maps by flagprov_weights_root")

    @model_validator(mode="after")
    def _under_root(self) -> Weights:
        if not self.path.rstrip("/").startswith(self.root.rstrip("/") + "/"):
            raise ValueError(f"path {self.path} does not lie under root {self.root}")
        return self


class Readiness(Strict):
    kind: ReadinessKind = "chat"
    path: str = Field("/health", description="for kind http")
    command: tuple[str, ...] = Field((), description="for kind command: argv run in the container")
    deadline_s: int = Field(900, ge=1, description="start to first answer, in seconds")

    @model_validator(mode="after")
    def _complete(self) -> Readiness:
        if (self.kind == "command") != bool(self.command):
            raise ValueError("kind command and the key `command` go together")
        return self


class Golden(Strict):
    """Prompts whose greedy answers a change must not alter."""

    prompts: tuple[str, ...] = Field(min_length=1, description="each answered greedily")
    tokens: int = Field(32, ge=1, description="of each answer")
    tolerance: float = Field(0.0, ge=0, le=1, description="share of the words that may differ")


class BuildStep(Strict):
    """One thing that pip installs into an image: a repository at a commit, or a package in a version."""

    git: Repository | None = Field(None, description="address of a repository")
    commit: Commit | None = Field(None, description="what of it is installed; 40 hexadecimal digits")
    ref: GitRef | None = Field(None, description="branch or tag, for which `releases lock` finds the commit")
    directory: RelativePath | None = Field(None, description="of the repository, where not all is installed")
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!-]*$")] | None = Field(
        None, description="for repositories that ask git for their version"
    )
    pip: Requirement | None = Field(None, description="NAME==VERSION of a package index")
    python: str = Field(
        "python3", pattern=r"^[A-Za-z0-9_/][A-Za-z0-9_./-]*$", description="that of the image that gets it"
    )

    @model_validator(mode="after")
    def _one_thing(self) -> BuildStep:
        if bool(self.git) == bool(self.pip):
            raise ValueError("a step has either git or pip")
        if self.pip and (self.commit or self.ref or self.directory or self.version):
            raise ValueError("commit, ref, directory and version go with git")
        if self.git and not (self.commit or self.ref):
            raise ValueError("git needs a commit, or a ref that `flagprov releases lock` finds it for")
        return self


class Image(Strict):
    reference: str = Field(pattern=r"^[^\s]+$", description="registry/name:tag that is served")
    digests: tuple[Digest, ...] = Field((), description="config, manifest or index digests; any of them")
    alternatives: tuple[str, ...] = Field((), description="other names under which it was published")
    build: tuple[BuildStep, ...] = Field((), description="what is installed into it, once, before it serves")
    card_build: tuple[str, ...] = Field((), description="build lines of the card; shown, and never run")

    @property
    def pulled(self) -> Image:
        """The image that a registry has."""
        return self


class BuiltImage(Image):
    """Made from `base` by its build steps; no registry has it. Never written by people."""

    base: Image

    @property
    def pulled(self) -> Image:
        return self.base


class Mount(Strict):
    source: AbsolutePath
    target: AbsolutePath
    read_only: bool = False
    optional: bool = Field(False, description="left out on hosts that lack the source")


class Container(Strict):
    """The card's `docker run` options that are kept."""

    privileged: bool = False
    network: Literal["host", "bridge"] = "host"
    ipc: Literal["host", "private", "shareable"] = "private"
    uts: Literal["host", "private"] = "private"
    user: str = ""
    workdir: str = ""
    gpus: str = Field("", description="`all` where the chip takes --gpus; devices are named by placement")
    shm_size: str = Field("", pattern=r"^([0-9]+[bkmgBKMG]?)?$")
    ulimits: dict[str, str] = {}
    security_opt: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    devices: tuple[Mount, ...] = ()
    mounts: tuple[Mount, ...] = ()


class Launch(Strict):
    kind: LaunchKind = "flagscale"
    label: str = Field("", description="MODEL of `flagscale serve MODEL`; also the name of the serve YAML")
    source: tuple[AbsolutePath, ...] = Field((), description="scripts to source first, where they exist")
    before_start: tuple[str, ...] = Field((), description="shell lines of the card, in the engine's shell")
    head_before_start: tuple[str, ...] = Field(
        (), description="lines after before_start, on the first host of a replica only"
    )
    command: tuple[str, ...] = Field((), description="for kind command: argv, on every host of a replica")
    ssh_port: int | None = Field(
        None, ge=1, le=65535, description="the runner's port, over several hosts; else one beside Ray's"
    )

    @model_validator(mode="after")
    def _complete(self) -> Launch:
        if (self.kind == "command") != bool(self.command):
            raise ValueError("kind command and the key `command` go together")
        return self


class Metric(Strict):
    """A reference metric of the card: what the publisher measured on CUDA and on this chip."""

    name: str
    reference: float | None
    value: float | None
    scale: Literal[1, 100]
    samples: int | None = Field(None, description="size of the benchmark, where it is known")
    note: str = ""


class Resolution(Strict):
    """A contradiction of the card, how it was resolved, and why."""

    subject: str
    card: str = Field(description="what the card says")
    used: str = Field(description="what the release says instead")
    reason: str


class Variant(Strict):
    """What one chip needs to serve the release."""

    image: Image
    container: Container = Container()
    env: dict[EnvName, str] = {}
    launch: Launch = Launch()
    serve: dict[ServeName, ServeValue] = Field(description="engine arguments, with underscores")
    operators: Operators = Field(description="flaggems or native")
    devices: int = Field(1, ge=1, description="accelerators per node")
    nodes: int = Field(1, ge=1)
    versions: dict[str, str] = Field({}, description="driver, docker, os, flagscale, ... of the card")
    metrics: tuple[Metric, ...] = ()
    readiness: Readiness | None = Field(None, description="overrides the release's")
    warnings: tuple[str, ...] = ()
    resolutions: tuple[Resolution, ...] = ()

    @model_validator(mode="after")
    def _operators_agree(self) -> Variant:
        asked = self.env.get("USE_FLAGGEMS", "").lower() in {"1", "true", "yes"}
        if self.operators == "native" and asked:
            raise ValueError("operators is native, but env.USE_FLAGGEMS switches FlagGems on")
        return self


class Release(Strict):
    schema_version: Literal[1] = 1
    name: Name
    title: str
    card: Card | None = None
    model: Model
    weights: Weights
    readiness: Readiness = Readiness()
    golden: Golden | None = Field(None, description="what a rollout compares with the answers from before")
    variants: dict[Name, Variant] = Field(min_length=1, description="by chip")
    warnings: tuple[str, ...] = ()
    provenance: dict[str, str] = Field({}, description="dotted key -> where the fact came from")


class LockedImage(Strict):
    digests: tuple[Digest, ...] = Field((), description="accepted under whatever name")
    references: dict[str, tuple[Digest, ...]] = Field(
        {}, description="what a name stood for when first pulled"
    )


class LockedFile(Strict):
    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class LockedWeights(Strict):
    """The files of one revision of the weights."""

    source: str
    revision: str
    files: tuple[LockedFile, ...]


class Lock(Strict):
    """Digests and files that a site has locked for a release; written by flagprov, read with the release."""

    schema_version: Literal[1] = 1
    variants: dict[Name, LockedImage] = {}
    weights: LockedWeights | None = None
    commits: dict[str, Commit] = Field({}, description="REPOSITORY#REF of build steps -> commit")
