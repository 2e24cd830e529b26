"""The table between the released `gdino.*` keys and the library's module names.

Only a Swin backbone differs: the released file has the names that the library gave it at that time, and it
also stores the index of relative positions, which the library now computes from the window.
"""

from __future__ import annotations

from visionllm_sdk.model.keys import KeyRule, KeyTable
from visionllm_tools.blocks.swin import square

PREFIX = "gdino."

_BLOCK = "encoder.layers.{i}.blocks.{j}."
_SWIN = {
    "embeddings.{rest}": "embeddings.{rest}",
    _BLOCK + "attention.self.query.{p}": _BLOCK + "attention.q_proj.{p}",
    _BLOCK + "attention.self.key.{p}": _BLOCK + "attention.k_proj.{p}",
    _BLOCK + "attention.self.value.{p}": _BLOCK + "attention.v_proj.{p}",
    _BLOCK + "attention.output.dense.{p}": _BLOCK + "attention.o_proj.{p}",
    _BLOCK + "attention.self.relative_position_bias_table": (
        _BLOCK + "attention.relative_position_bias.relative_position_bias_table"
    ),
    _BLOCK + "intermediate.dense.{p}": _BLOCK + "mlp.fc1.{p}",
    _BLOCK + "output.dense.{p}": _BLOCK + "mlp.fc2.{p}",
    _BLOCK + "layernorm_before.{p}": _BLOCK + "layernorm_before.{p}",
    _BLOCK + "layernorm_after.{p}": _BLOCK + "layernorm_after.{p}",
    "encoder.layers.{i}.downsample.{rest}": "encoder.layers.{i}.downsample.{rest}",
}


def detector_key_table(*, swin: bool) -> KeyTable:
    """The table of a detector.

    Args:
        swin: its backbone is a Swin; other backbones keep their names.
    """
    if not swin:
        return KeyTable()
    start = PREFIX + "model.backbone.conv_encoder.model."
    index = KeyRule(
        start + _BLOCK + "attention.self.relative_position_index",
        (start + "swin." + _BLOCK + "attention.relative_position_bias.relative_position_index",),
        join=square,
        computed=True,
    )
    return KeyTable([*(KeyRule(start + old, (start + "swin." + new,)) for old, new in _SWIN.items()), index])
