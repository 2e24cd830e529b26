"""One readable table of checkpoint keys: released names on the left, module names on the right.

The core's attributes carry the released names, so that the 7B family needs no entry at all. The 26B family
stores InternViT and InternLM2 under their own names, with fused attention weights; its entries stand below.
``{i}`` and ``{j}`` are numbers of layers, ``{p}`` is ``weight`` or ``bias``, ``{rest}`` is anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.language import fuse_internlm2_attention, split_internlm2_attention

Split = Callable[[Tensor], Sequence[Tensor]]
Join = Callable[..., Tensor]

_WILDCARDS = {"i": r"\d+", "j": r"\d+", "p": "weight|bias", "rest": ".+"}


def _same(tensor: Tensor) -> Sequence[Tensor]:
    return (tensor,)


def _nothing(tensor: Tensor) -> Sequence[Tensor]:
    return ()


def split_thirds(tensor: Tensor) -> Sequence[Tensor]:
    """Query, key and value matrices, each (R, ...), of a fused one (3 R, ...) that stacks them by rows."""
    return tensor.chunk(3, dim=0)


def join_rows(*tensors: Tensor) -> Tensor:
    """The fused matrix of several: their rows, one after the other."""
    return torch.cat(tensors, dim=0)


def _only(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How one released key becomes one or several module keys, and back.

    Attributes:
        released: pattern of the released key.
        module: patterns of the module keys.
        split: released tensor to the module's tensors.
        join: the module's tensors to the released tensor.
        computed: the module computes this tensor by itself and keeps it as a buffer outside its state: it is
            written, but not read. Without module keys it is known, and neither read nor written.
    """

    released: str
    module: tuple[str, ...]
    split: Split = _same
    join: Join = _only
    computed: bool = False


# Older versions of the library stored what it computes: such keys are known, and not read.
_COMPUTED = [
    KeyRule("llm.model.layers.{i}.self_attn.rotary_emb.inv_freq", (), computed=True),
    KeyRule("vis_encoder.vision_model.embeddings.position_ids", (), computed=True),
]


def _intern_vit_rules() -> list[KeyRule]:
    old, new = "vis_encoder.", "vis_encoder.vision_model."
    layer, block = old + "encoder.layers.{i}.", new + "encoder.layer.{i}."
    heads = tuple(block + f"attention.{name}_proj.{{p}}" for name in "qkv")
    return [
        KeyRule(old + "embeddings.class_embedding", (new + "embeddings.cls_token",)),
        KeyRule(old + "embeddings.position_embedding", (new + "embeddings.position_embeddings",)),
        KeyRule(
            old + "embeddings.patch_embedding.{p}", (new + "embeddings.patch_embeddings.projection.{p}",)
        ),
        KeyRule(layer + "attn.qkv.{p}", heads, split_thirds, join_rows),
        KeyRule(layer + "attn.proj.{p}", (block + "attention.projection_layer.{p}",)),
        KeyRule(layer + "attn.q_norm.{p}", (block + "attention.q_norm.{p}",)),
        KeyRule(layer + "attn.k_norm.{p}", (block + "attention.k_norm.{p}",)),
        KeyRule(layer + "norm1.{p}", (block + "layernorm_before.{p}",)),
        KeyRule(layer + "norm2.{p}", (block + "layernorm_after.{p}",)),
        KeyRule(layer + "ls1", (block + "lambda_1",)),
        KeyRule(layer + "ls2", (block + "lambda_2",)),
        KeyRule(layer + "mlp.fc1.{p}", (block + "mlp.fc1.{p}",)),
        KeyRule(layer + "mlp.fc2.{p}", (block + "mlp.fc2.{p}",)),
    ]


def _internlm2_rules(heads: int, key_heads: int) -> list[KeyRule]:
    model, layer = "llm.model.", "llm.model.layers.{i}."
    return [
        KeyRule(model + "tok_embeddings.weight", (model + "embed_tokens.weight",)),
        KeyRule("llm.output.weight", ("llm.lm_head.weight",)),
        KeyRule(
            layer + "attention.wqkv.{p}",
            tuple(layer + f"self_attn.{name}_proj.{{p}}" for name in "qkv"),
            partial(split_internlm2_attention, heads=heads, key_heads=key_heads),
            partial(fuse_internlm2_attention, key_heads=key_heads),
        ),
        KeyRule(layer + "attention.wo.{p}", (layer + "self_attn.o_proj.{p}",)),
        KeyRule(layer + "attention_norm.weight", (layer + "input_layernorm.weight",)),
        KeyRule(layer + "ffn_norm.weight", (layer + "post_attention_layernorm.weight",)),
        KeyRule(layer + "feed_forward.w1.weight", (layer + "mlp.gate_proj.weight",)),
        KeyRule(layer + "feed_forward.w3.weight", (layer + "mlp.up_proj.weight",)),
        KeyRule(layer + "feed_forward.w2.weight", (layer + "mlp.down_proj.weight",)),
    ]


class KeyTable:
    """The rules of one checkpoint; a key that no rule names keeps its name.

    Args:
        rules: see :class:`KeyRule`.
    """

    def __init__(self, rules: Sequence[KeyRule] = ()) -> None:
        self._by_released = [(_pattern(rule.released), rule) for rule in rules]
        self._by_module = [
            (_pattern(name), rule) for rule in rules if not rule.computed for name in rule.module
        ]
        self._computed = [(_pattern(name), rule) for rule in rules if rule.computed for name in rule.module]

    def to_module(self, released: str) -> tuple[tuple[str, ...], Split]:
        """Module keys of a released key, and how its tensor is split onto them; none for what is computed."""
        for pattern, rule in self._by_released:
            if match := pattern.fullmatch(released):
                if rule.computed:
                    return (), _nothing
                return tuple(name.format(**match.groupdict()) for name in rule.module), rule.split
        return (released,), _same

    def to_released(self, module: str) -> tuple[str, tuple[str, ...], Join]:
        """Released key of a module key, all module keys that go into it, and how they are joined."""
        for pattern, rule in self._by_module:
            if match := pattern.fullmatch(module):
                values = match.groupdict()
                names = tuple(name.format(**values) for name in rule.module)
                return rule.released.format(**values), names, rule.join
        return module, (module,), _only

    def computed(self, buffer: str) -> tuple[str, Join] | None:
        """Released key of a buffer outside the module's state, and its released form; None if it has none."""
        for pattern, rule in self._computed:
            if match := pattern.fullmatch(buffer):
                return rule.released.format(**match.groupdict()), rule.join
        return None


def _pattern(text: str) -> re.Pattern[str]:
    escaped = re.escape(text)
    for name, meaning in _WILDCARDS.items():
        escaped = escaped.replace(rf"\{{{name}\}}", f"(?P<{name}>{meaning})")
    return re.compile(escaped)


def core_key_table(config: ModelConfig) -> KeyTable:
    """The key table of the core of a configuration."""
    rules = list(_COMPUTED)
    if config.vision["model_type"] == "intern_vit_6b":
        rules += _intern_vit_rules()
    if config.language["model_type"] == "internlm2":
        heads = config.language["num_attention_heads"]
        rules += _internlm2_rules(heads, config.language.get("num_key_value_heads", heads))
    return KeyTable(rules)
