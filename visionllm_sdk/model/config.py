"""Model configuration, read from and written to the released ``config.json`` form.

The released form is one JSON object: ``vis_encoder_config``, ``llm_config``, a few switches, one ``use_x``
and ``x_config`` pair per decoder, and about fifty generic library fields that say nothing about the model.
What the released form cannot say (conversation format, number of tiles, query tables of further tools) stands
in one clearly named extra section, ``visionllm_sdk``. This module imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, get_type_hints

from visionllm_sdk.errors import CheckpointError, ConfigError
from visionllm_sdk.model.documents import read_object, value_of
from visionllm_sdk.model.sdk_section import SDK_SECTION, SdkSection

MODEL_TYPE = "visionllmv2"
# Tile side of vision encoders whose library configuration has no image size (conv nets).
DEFAULT_IMAGE_SIZE = 256

# Conversation formats and tile limits that the released families were trained with.
_FORMAT_OF_LLM = {"llama": "vicuna_v1", "internlm2": "internlm2_chat"}
_MAX_TILES_OF_VISION = {"intern_vit_6b": 6}

_CLIP_MEAN_STD = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_MEAN_STD_OF_VISION = {"clip_vision_model": _CLIP_MEAN_STD}

# Routing tokens of the released vocabulary and the query table that follows each (paper, section 3.3).
_RELEASED_ROUTING = {
    "[DET]": "det",
    "[GRD]": "det",
    "[SEG]": "det",
    "[POSE]": "pose",
    "[GEN]": "gen",
    "[EDIT]": "edit",
}
_PERCEPTION_TABLES = ("det", "pose")
_IMAGE_TABLES = ("gen", "edit")

# Fields that every library configuration of that time carried; they do not describe this model.
# fmt: off
_GENERIC_FIELDS = frozenset(
    (
        "add_cross_attention", "architectures", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
        "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id",
        "diversity_penalty", "do_sample", "dtype", "early_stopping", "encoder_no_repeat_ngram_size",
        "eos_token_id", "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
        "forced_eos_token_id", "id2label", "is_decoder", "is_encoder_decoder", "label2id", "length_penalty",
        "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
        "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores",
        "pad_token_id", "prefix", "problem_type", "pruned_heads", "remove_invalid_values",
        "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
        "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
        "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
        "transformers_version", "typical_p", "use_bfloat16", "use_cache",
    )
)
_MODEL_FIELDS = frozenset(
    (
        "model_type", "num_embs", "num_embs_gen", "pretrained_vl_bridge", "use_llm_lora",
        "use_pixelshuffle", "use_region_encoder", "vis_output_layer", "vl_bridge_type",
    )
)
# fmt: on
_RELEASED_NAMES = {
    "vl_bridge_type": "bridge_type",
    "vis_output_layer": "vision_layer",
    "use_pixelshuffle": "pixel_shuffle",
    "num_embs": "perception_queries",
    "num_embs_gen": "image_queries",
    "use_region_encoder": "region_encoder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Configuration of the whole model.

    Attributes:
        vision: library configuration of the vision encoder (``vis_encoder_config``).
        language: library configuration of the language model (``llm_config``).
        bridge_type: ``linear``, ``mlp2x_gelu`` or ``internvl_mlp``.
        vision_layer: index into the vision encoder's hidden states that feeds the bridge (CLIP -2).
        pixel_shuffle: merge 2x2 patches into one token of four times the width.
        perception_queries: E, super-link queries of the perception tables.
        image_queries: G, super-link queries of the image tables.
        region_encoder: whether region prompts are supported.
        sdk: what the released form cannot say.
        released: the whole object as read, so that tools find their sections and nothing is lost on saving.

    Raises:
        ConfigError: a section lacks a field, or a value is impossible.
    """

    vision: Mapping[str, Any]
    language: Mapping[str, Any]
    bridge_type: str = "mlp2x_gelu"
    vision_layer: int = -2
    pixel_shuffle: bool = False
    perception_queries: int = 4
    image_queries: int = 64
    region_encoder: bool = True
    sdk: SdkSection = field(default_factory=SdkSection)
    released: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for section, value, needed in (
            ("vis_encoder_config", self.vision, {"model_type": str}),
            ("llm_config", self.language, {"model_type": str, "vocab_size": int, "hidden_size": int}),
        ):
            missing = [name for name in needed if name not in value]
            if missing:
                raise ConfigError(
                    f"config.json: {section} lacks {', '.join(missing)}",
                    remedy="Take config.json from the same place as the weights.",
                )
            for name, kind in needed.items():
                value_of(kind, value[name], f"{section}.{name}")
        for name, count in self.query_tables.items():
            if not isinstance(count, int) or count < 1:
                raise ConfigError(
                    f"query table {name!r} has an impossible number of queries",
                    value=count,
                    limit="an integer of at least 1",
                    remedy="Correct config.json.",
                )
        for token, table in self.routing.items():
            if table not in self.query_tables:
                raise ConfigError(
                    f"routing token {token} refers to an unknown query table",
                    value=table,
                    limit=", ".join(self.query_tables),
                    remedy=f"Add the table under {SDK_SECTION}.query_tables in config.json.",
                )

    @property
    def width(self) -> int:
        """Width C of the language model."""
        return int(self.language["hidden_size"])

    @property
    def vocab_size(self) -> int:
        """Number of token ids, control tokens included."""
        return int(self.language["vocab_size"])

    @property
    def conversation(self) -> str:
        """Name of the conversation format."""
        return self.sdk.conversation or _FORMAT_OF_LLM.get(self.language["model_type"], "vicuna_v1")

    @property
    def max_tiles(self) -> int:
        """Most tiles an image is cut into, the thumbnail not counted."""
        return self.sdk.max_tiles or _MAX_TILES_OF_VISION.get(self.vision["model_type"], 4)

    @property
    def margin_colour(self) -> tuple[int, int, int]:
        """Colour of an image's margins on its canvas: what normalisation makes zero. 0..255"""
        red, green, blue = (round(255 * value) for value in self.image_mean)
        return red, green, blue

    @property
    def image_size(self) -> int:
        """Side of a tile in pixels."""
        return int(self.vision.get("image_size", DEFAULT_IMAGE_SIZE))

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """Mean of normalisation, RGB in 0..1."""
        return self.sdk.image_mean or self._mean_std[0]

    @property
    def image_std(self) -> tuple[float, float, float]:
        """Standard deviation of normalisation, RGB in 0..1."""
        return self.sdk.image_std or self._mean_std[1]

    @property
    def _mean_std(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        return _MEAN_STD_OF_VISION.get(self.vision["model_type"], _IMAGENET_MEAN_STD)

    @property
    def query_tables(self) -> dict[str, int]:
        """Number of queries by table name: the released four, then further tools' tables."""
        tables = dict.fromkeys(_PERCEPTION_TABLES, self.perception_queries)
        tables |= dict.fromkeys(_IMAGE_TABLES, self.image_queries)
        return tables | dict(self.sdk.query_tables)

    @property
    def image_tables(self) -> tuple[str, ...]:
        """Tables whose queries make pictures."""
        return _IMAGE_TABLES

    @property
    def routing(self) -> dict[str, str]:
        """Query table by routing token: the released six, then further tools' tokens."""
        return _RELEASED_ROUTING | dict(self.sdk.routing)

    @classmethod
    def from_released(cls, released: Mapping[str, Any]) -> Self:
        """Read the released form.

        Raises:
            ConfigError: remote code, an unknown top-level field, another model type, a missing section, or a
                value of a wrong type.
        """
        _refuse_remote_code(released)
        _refuse_other_models(released)
        _refuse_unknown_fields(released)
        if released.get("use_llm_lora"):
            raise ConfigError(
                "config.json says that the language model holds unmerged LoRA weights (use_llm_lora)",
                remedy="Merge them into the weights first, or load them as an adapter.",
            )
        hints = get_type_hints(cls)
        given = {"use_region_encoder": False, **released}
        return cls(
            vision=released["vis_encoder_config"],
            language=released["llm_config"],
            **{
                own: value_of(hints[own], given[name], name)
                for name, own in _RELEASED_NAMES.items()
                if name in given
            },
            sdk=SdkSection.from_dict(released.get(SDK_SECTION, {})),
            released=dict(released),
        )

    def to_released(self) -> dict[str, Any]:
        """The released form; everything that was read and is not ours to change is kept."""
        written = {
            **self.released,
            "model_type": MODEL_TYPE,
            "vis_encoder_config": dict(self.vision),
            "llm_config": dict(self.language),
            **{name: getattr(self, own) for name, own in _RELEASED_NAMES.items()},
        }
        section = self.sdk.to_dict()
        written.pop(SDK_SECTION, None)
        return written | ({SDK_SECTION: section} if section else {})

    def with_sdk(self, **changes: Any) -> Self:
        """A copy with fields of the ``visionllm_sdk`` section replaced."""
        return dataclasses.replace(self, sdk=dataclasses.replace(self.sdk, **changes))

    def with_vocab_size(self, size: int) -> Self:
        """A copy with another vocabulary size."""
        return dataclasses.replace(self, language={**self.language, "vocab_size": size})


def _refuse_remote_code(released: Mapping[str, Any], path: str = "config.json") -> None:
    for name, value in released.items():
        if name == "auto_map":
            raise ConfigError(
                f"{path} asks to execute code that comes with the weights (auto_map)",
                value=value,
                remedy="This package never runs remote code: remove the field to use the weights alone.",
            )
        if isinstance(value, Mapping):
            _refuse_remote_code(value, f"{path}: {name}")


def _refuse_other_models(released: Mapping[str, Any]) -> None:
    kind = released.get("model_type")
    missing = [
        name for name in ("vis_encoder_config", "llm_config") if not isinstance(released.get(name), Mapping)
    ]
    if kind != MODEL_TYPE or missing:
        detail = f"model_type {kind!r}" + (f", without {' and '.join(missing)}" if missing else "")
        raise ConfigError(
            f"config.json describes another model ({detail})",
            limit=f"model_type {MODEL_TYPE!r} with vis_encoder_config and llm_config",
            remedy="Point to the folder of a VisionLLM v2 checkpoint.",
        )


def _refuse_unknown_fields(released: Mapping[str, Any]) -> None:
    known = _GENERIC_FIELDS | _MODEL_FIELDS | {SDK_SECTION}
    unknown = sorted(
        name
        for name in released
        if name not in known
        # A private field, and the switch and section of any decoder, whichever tools are installed.
        and not name.startswith(("_", "use_"))
        and not name.endswith("_config")
    )
    if unknown:
        raise ConfigError(
            "config.json has unknown fields",
            value=unknown,
            remedy=f"Remove them, or put settings of this package under {SDK_SECTION!r}.",
        )


def read_config(folder: Path) -> ModelConfig:
    """Read ``config.json`` of a checkpoint folder, and the normalisation of ``preprocessor_config.json``.

    Raises:
        CheckpointError: the file is absent or not a JSON object.
        ConfigError: see :meth:`ModelConfig.from_released`.
    """
    released = read_object(folder / "config.json")
    if released is None:
        raise CheckpointError(
            "the checkpoint folder holds no config.json",
            value=str(folder),
            remedy="Check the path, and that the download is complete.",
        )
    config = ModelConfig.from_released(released)
    images = read_object(folder / "preprocessor_config.json") or {}
    changes = {
        name: tuple(images[name])
        for name in ("image_mean", "image_std")
        if getattr(config.sdk, name) is None
        and tuple(images.get(name, ())) not in ((), getattr(config, name))
    }
    return config.with_sdk(**changes) if changes else config
