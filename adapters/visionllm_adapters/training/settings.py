"""What is trained, for how long, and how: every number of a fine-tuning run, checked before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Final

from visionllm_sdk.errors import ConfigError

LANGUAGE_LAYERS: Final = (
    r"model\.layers\.\d+\.(self_attn\.(q_proj|k_proj|v_proj|o_proj)|mlp\.(gate_proj|up_proj|down_proj))"
)
"""Full expression over the language model's own names: decoders have layers of the same short names."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How much of a model learns.

    Attributes:
        rank: of the low-rank updates.
        bridge: when the bridge from vision to language learns: `never`, `always`, or where the words of a
            skill's answers are `read` off the picture. Super-links of a new class need no new eyes, and all
            that is said of pictures hangs on the bridge: captions of known scenes lost 2 to 3 points by it.
        decoder: share of a decoder that learns: nothing but its projector, all but its backbone, or all.
    """

    rank: int
    bridge: str
    decoder: str


PRESETS: Final[Mapping[str, Preset]] = {
    "light": Preset(rank=8, bridge="never", decoder="projector"),
    "standard": Preset(rank=16, bridge="read", decoder="heads"),
    "full": Preset(rank=32, bridge="always", decoder="all"),
}


_WHOLE: Final = ("batch", "micro_batch", "steps", "rank", "validate", "patience", "points", "seed")
_NUMBERS: Final = (
    "minutes", "epochs", "alpha", "lora_dropout", "lora_rate", "decoder_rate", "backbone_factor",
    "weight_decay", "warmup", "clip", "replay", "zoom", "slack", "small", "save_seconds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """All numbers of a run.

    Attributes:
        preset: `light`, `standard` or `full`; sets what is not given.
        rank: of the low-rank updates; None takes the preset's.
        alpha: their scale; None is twice the rank.
        lora_dropout: on their input.
        dora: decompose weights into size and direction (Liu et al., 2024).
        rslora: scale by the root of the rank (Kalajdzievski, 2023).
        quantization: None, "int8" or "int4" for the frozen language model (QLoRA); needs CUDA.
        minutes: time for the training itself; None: `steps` or `epochs` alone decide.
        steps: of the optimiser; None follows from minutes or epochs.
        epochs: passes over the data where neither minutes nor steps are given.
        batch: examples of one step, over all processes.
        micro_batch: examples that are computed together; gradients are accumulated over the rest.
        lora_rate: peak learning rate of low-rank updates, queries, projectors and bridge; None: 1e-3, but
            1e-4 where only pictures are made: what to draw is known, how is new.
        decoder_rate: of decoders; their backbone learns at `backbone_factor` of it. None: 2e-4 for a
            detector, whose scores of what it knew drift when it learns faster, and 4e-4 for others.
        backbone_factor: see `decoder_rate`.
        weight_decay: of AdamW.
        warmup: share of the steps.
        clip: largest norm of the gradient.
        replay: share of examples drawn from scenes, against forgetting; None: three eighths for the embedded
            model, half where its detector learns, nothing for others, which scenes taught nothing.
        flip: mirror half of the pictures where nothing that is asked may speak of left and right; a text with
            letters beyond ASCII always may.
        zoom: enlarge or reduce pictures at random by up to this factor; 1 leaves them as they are.
        validate: how often in the run the task metric is measured.
        patience: measurements without a better one before the run ends early, 1 or more; None: never.
        slack: share of the task metric that is given up where weights nearer to the base, which lose less of
            what it could do, are otherwise as good; 0: none are tried.
        checkpointing: compute activations again instead of keeping them.
        precision: "fp32" or "bf16" (autocast); "auto": bf16 where the device computes in it.
        small: share of a decoder's input size in the first part of the run, whose steps then cost less; None:
            fitted to the size of the decoder; 1: the size of use throughout.
        points: mask points of a detector's loss; None fits them to the size of the decoder.
        seed: of everything random.
        save_seconds: at most so much work is lost when the process is killed.
    """

    preset: str = "standard"
    rank: int | None = None
    alpha: float | None = None
    lora_dropout: float = 0.0
    dora: bool = False
    rslora: bool = False
    quantization: str | None = None
    minutes: float | None = None
    steps: int | None = None
    epochs: float = 20.0
    batch: int = 8
    micro_batch: int = 8
    lora_rate: float | None = None
    decoder_rate: float | None = None
    backbone_factor: float = 0.5
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip: float = 5.0
    replay: float | None = None
    flip: bool = True
    zoom: float = 1.25
    validate: int = 4
    patience: int | None = None
    slack: float = 0.01
    checkpointing: bool = False
    precision: str = "auto"
    small: float | None = None
    points: int | None = None
    seed: int = 0
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError("unknown preset", value=self.preset, limit=", ".join(PRESETS))
        if self.precision not in {"auto", "fp32", "bf16"}:
            raise ConfigError("unknown precision", value=self.precision, limit="auto, fp32, bf16")
        if self.quantization not in {None, "int8", "int4"}:
            raise ConfigError("unknown quantization", value=self.quantization, limit="int8, int4")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in _WHOLE:
            _whole(name, getattr(self, name))
        for name in ("batch", "micro_batch", "steps", "rank", "validate", "patience", "points"):
            _at_least(name, getattr(self, name), 1)
        for name in _NUMBERS:
            _finite(name, getattr(self, name))
        for name in ("minutes", "epochs", "alpha", "lora_rate", "decoder_rate", "clip", "save_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be positive", value=value)
        for name in ("weight_decay", "backbone_factor"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative", value=getattr(self, name))
        for name in ("replay", "warmup", "lora_dropout", "slack"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{name} is a share", value=value, limit="0 to below 1")
        if self.small is not None and not 0 < self.small <= 1:
            raise ConfigError("small is a share", value=self.small, limit="above 0, up to 1")
        if self.zoom < 1:
            raise ConfigError("zoom is a factor", value=self.zoom, limit="1 or more")

    @property
    def chosen(self) -> Preset:
        """The preset."""
        return PRESETS[self.preset]

    @property
    def peak(self) -> float:
        """Peak learning rate in use of what `lora_rate` is for."""
        return 1e-3 if self.lora_rate is None else self.lora_rate

    @property
    def lora_rank(self) -> int:
        """Rank in use."""
        return self.rank or self.chosen.rank

    @property
    def lora_alpha(self) -> float:
        """Scale in use."""
        return self.alpha or 2.0 * self.lora_rank

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> FinetuneSettings:
        """Settings from names and values; those that are None keep their defaults.

        Raises:
            ConfigError: an unknown name, or a value out of range.
        """
        known = {one.name for one in fields(cls)}
        unknown = sorted(values.keys() - known)
        if unknown:
            raise ConfigError("unknown setting", value=unknown[0], limit=", ".join(sorted(known)))
        return cls(**{name: value for name, value in values.items() if value is not None})


def _whole(name: str, value: Any) -> None:
    if value is not None and (value is True or value is False or not isinstance(value, Integral)):
        raise ConfigError(f"{name} is a whole number", value=value, limit="1, 2, 3, ...")
    if value is not None and abs(int(value)) >= 2**63:
        raise ConfigError(f"{name} is too large", value=value, limit="64 bits")


def _finite(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, Real) or not math.isfinite(value)):
        raise ConfigError(f"{name} is no finite number", value=value, remedy="Pass a number.")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{name} is too small", value=value, limit=f"{least} or more")
