"""The table between the released `unipose.*` keys and the library's module names.

The released file follows two original layouts: Swin (Liu et al. 2021) with fused query-key-value matrices,
and DINO's transformer layers. Everything else has the same name on both sides. Wildcards: `{i}`, `{j}`
numbers, `{p}` weight or bias, `{rest}` anything.
"""

from __future__ import annotations

from visionllm_sdk.model.keys import KeyRule, KeyTable, join_rows, split_thirds
from visionllm_tools.blocks.swin import square

PREFIX = "unipose."

_SWIN = {
    "patch_embed.proj.{p}": "embeddings.patch_embeddings.projection.{p}",
    "patch_embed.norm.{p}": "embeddings.norm.{p}",
    "layers.{i}.downsample.{rest}": "encoder.layers.{i}.downsample.{rest}",
    "layers.{i}.blocks.{j}.norm1.{p}": "encoder.layers.{i}.blocks.{j}.layernorm_before.{p}",
    "layers.{i}.blocks.{j}.norm2.{p}": "encoder.layers.{i}.blocks.{j}.layernorm_after.{p}",
    "layers.{i}.blocks.{j}.mlp.{rest}": "encoder.layers.{i}.blocks.{j}.mlp.{rest}",
    "layers.{i}.blocks.{j}.attn.proj.{p}": "encoder.layers.{i}.blocks.{j}.attention.o_proj.{p}",
    "layers.{i}.blocks.{j}.attn.relative_position_bias_table": (
        "encoder.layers.{i}.blocks.{j}.attention.relative_position_bias.relative_position_bias_table"
    ),
}
_SWIN_ATTENTION = "layers.{i}.blocks.{j}.attn."
_STAGES = ("stage2", "stage3", "stage4")  # strides 8, 16, 32 with the released norms 1, 2, 3

_ENCODER = {
    "layers.{i}.norm1.{p}": "layers.{i}.deformable_layer.self_attn_layer_norm.{p}",
    "layers.{i}.norm2.{p}": "layers.{i}.deformable_layer.final_layer_norm.{p}",
    "layers.{i}.linear1.{p}": "layers.{i}.deformable_layer.fc1.{p}",
    "layers.{i}.linear2.{p}": "layers.{i}.deformable_layer.fc2.{p}",
    "layers.{i}.self_attn.{rest}": "layers.{i}.deformable_layer.self_attn.{rest}",
    "text_layers.{i}.norm1.{p}": "layers.{i}.text_enhancer_layer.layer_norm_before.{p}",
    "text_layers.{i}.norm2.{p}": "layers.{i}.text_enhancer_layer.layer_norm_after.{p}",
    "text_layers.{i}.linear1.{p}": "layers.{i}.text_enhancer_layer.fc1.{p}",
    "text_layers.{i}.linear2.{p}": "layers.{i}.text_enhancer_layer.fc2.{p}",
    "text_layers.{i}.self_attn.{rest}": "layers.{i}.text_enhancer_layer.self_attn.{rest}",
    "fusion_layers.{i}.gam_v": "layers.{i}.fusion_layer.vision_param",
    "fusion_layers.{i}.gam_l": "layers.{i}.fusion_layer.text_param",
    "fusion_layers.{i}.layer_norm_v.{p}": "layers.{i}.fusion_layer.layer_norm_vision.{p}",
    "fusion_layers.{i}.layer_norm_l.{p}": "layers.{i}.fusion_layer.layer_norm_text.{p}",
    "fusion_layers.{i}.attn.v_proj.{p}": "layers.{i}.fusion_layer.attn.vision_proj.{p}",
    "fusion_layers.{i}.attn.l_proj.{p}": "layers.{i}.fusion_layer.attn.text_proj.{p}",
    "fusion_layers.{i}.attn.values_v_proj.{p}": "layers.{i}.fusion_layer.attn.values_vision_proj.{p}",
    "fusion_layers.{i}.attn.values_l_proj.{p}": "layers.{i}.fusion_layer.attn.values_text_proj.{p}",
    "fusion_layers.{i}.attn.out_v_proj.{p}": "layers.{i}.fusion_layer.attn.out_vision_proj.{p}",
    "fusion_layers.{i}.attn.out_l_proj.{p}": "layers.{i}.fusion_layer.attn.out_text_proj.{p}",
}
_DECODER = {
    "layers.{i}.cross_attn.{rest}": "layers.{i}.encoder_attn.{rest}",
    "layers.{i}.norm1.{p}": "layers.{i}.encoder_attn_layer_norm.{p}",
    "layers.{i}.ca_text.{rest}": "layers.{i}.encoder_attn_text.{rest}",
    "layers.{i}.catext_norm.{p}": "layers.{i}.encoder_attn_text_layer_norm.{p}",
    "layers.{i}.norm2.{p}": "layers.{i}.self_attn_layer_norm.{p}",
    "layers.{i}.linear1.{p}": "layers.{i}.fc1.{p}",
    "layers.{i}.linear2.{p}": "layers.{i}.fc2.{p}",
    "layers.{i}.norm3.{p}": "layers.{i}.final_layer_norm.{p}",
}


def pose_key_table(*, swin: bool) -> KeyTable:
    """The table of a pose estimator.

    Args:
        swin: its backbone is a Swin, released in the original layout; other backbones keep their names.
    """
    rules = _rules("transformer.encoder.", _ENCODER) + _rules("transformer.decoder.", _DECODER)
    return KeyTable([*(_swin_rules() if swin else []), *rules])


def _rules(part: str, names: dict[str, str], inner: str = "") -> list[KeyRule]:
    start = PREFIX + part
    return [KeyRule(start + old, (start + inner + new,)) for old, new in names.items()]


def _swin_rules() -> list[KeyRule]:
    start, library = PREFIX + "backbone.0.", PREFIX + "backbone.0.model."
    attention = library + "swin.encoder." + _SWIN_ATTENTION.replace(".attn.", ".attention.")
    heads = tuple(attention + f"{name}_proj.{{p}}" for name in "qkv")
    norms = [
        KeyRule(start + f"norm{level}.{{p}}", (library + f"hidden_states_norms.{stage}.{{p}}",))
        for level, stage in enumerate(_STAGES, start=1)
    ]
    return [
        *_rules("backbone.0.", _SWIN, "model.swin."),
        KeyRule(start + _SWIN_ATTENTION + "qkv.{p}", heads, split_thirds, join_rows),
        # The library computes the index from the window.
        KeyRule(
            start + _SWIN_ATTENTION + "relative_position_index",
            (attention + "relative_position_bias.relative_position_index",),
            join=square,
            computed=True,
        ),
        *norms,
    ]
