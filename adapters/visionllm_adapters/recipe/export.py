"""Stage 6: everything that was trained, as one checkpoint in the released layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from visionllm_adapters.recipe.decoders import Shipped, shipped_decoders
from visionllm_adapters.recipe.region_config import with_regions
from visionllm_adapters.recipe.sources import Sources
from visionllm_adapters.recipe.symbols import MAX_STRETCH
from visionllm_adapters.recipe.train_language import LLM_SHAPE
from visionllm_adapters.recipe.train_vision import VISION
from visionllm_adapters.recipe.vocabulary import SYSTEM
from visionllm_adapters.recipe.warm import AIDS, part, save_aids
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.core import build_core
from visionllm_sdk.model.sdk_section import SDK_SECTION
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, TextTokenizer
from visionllm_sdk.registry import discover_tools

SHARD_BYTES = 14_000_000


def released_config(vocabulary: int, decoders: Sequence[Shipped]) -> dict[str, Any]:
    """The embedded model's `config.json`."""
    sections = {name: value for one in decoders for name, value in one.section.items()}
    questions = {token: text for one in decoders for token, text in one.questions.items()}
    answer = {"answer": "{items}.", "item": "{label}{token}", "separator": ", "}
    return {
        "model_type": "visionllmv2",
        "vis_encoder_config": dict(VISION),
        "vis_output_layer": -1,
        "vl_bridge_type": "mlp2x_gelu",
        "llm_config": {"model_type": "llama", "vocab_size": vocabulary, **LLM_SHAPE},
        "use_pixelshuffle": False,
        "use_region_encoder": False,
        "num_embs": 4,
        "num_embs_gen": 64,
        **sections,
        SDK_SECTION: {
            "conversation": "vicuna_v1",
            "system_prompt": SYSTEM,
            "label_tags": True,
            "tool_turns": True,
            "max_tiles": 1,
            "max_stretch": MAX_STRETCH,
            "quick_products": True,
            "max_forced_labels": 12,
            "layouts": {token: {"question": text, **answer} for token, text in questions.items()},
        },
    }


def assemble(sources: Sources) -> Model:
    """The model that the stages' checkpoints make."""
    joint = sources.student()
    decoders = shipped_decoders(sources, joint)
    tokenizer = _tokenizer(sources)
    regions = part(joint, "region_encoder.")
    released = released_config(tokenizer.vocab_size, decoders)
    config = ModelConfig.from_released(with_regions(released) if regions else released)
    core = build_core(config, tokenizer)
    if core.region_encoder is not None:
        core.region_encoder.load_state_dict(regions)
    core.vis_encoder.load_state_dict(sources.eyes())
    core.vl_bridge.load_state_dict(part(joint, "vl_bridge."))
    core.llm.load_state_dict(part(joint, "model.llm."))
    trained = {name: table for one in decoders for name, table in one.tables.items()}
    with torch.no_grad():
        for name, table in core.tables().items():
            # Untrained tables: no noise in the shipped file.
            table.copy_(trained.get(name, torch.zeros(())))
    tools = {}
    for one in decoders:
        tool = discover_tools().by_name(one.tool).from_config(config.to_released())
        assert tool is not None, one.tool
        tool.decoder.load_state_dict(one.weights)
        tools[one.tool] = tool
    core.eval()
    return Model(config=config, tokenizer=tokenizer, core=core, tools=tools)


def _tokenizer(sources: Sources) -> TextTokenizer:
    path = sources.runs / "vocabulary" / "tokenizer.model"
    if not path.is_file() and sources.base is not None:
        path = sources.base / "tokenizer.model"
    pieces = path.read_bytes()
    first = TextTokenizer(pieces, {}).vocab_size
    return TextTokenizer(pieces, {token: first + i for i, token in enumerate(CONTROL_TOKENS)})


def main() -> None:
    """`python -m visionllm_adapters.recipe.export --out visionllm_sdk/embedded`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--out", type=Path, default=Path("visionllm_sdk/embedded"))
    parser.add_argument(
        "--base", type=Path, help="finished model whose parts stand in for stages that were not run"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="of all new weights; the rest is that of --base",
    )
    parser.add_argument("--aids", type=Path, default=AIDS, help="where the training aids go")
    arguments = parser.parse_args()
    if not 0 < arguments.share <= 1 or (arguments.share < 1 and arguments.base is None):
        parser.error(f"--share {arguments.share}: above 0, up to 1, and below 1 only with --base")
    sources = Sources(arguments.runs, arguments.base, arguments.share)
    assemble(sources).save(arguments.out, dtype=torch.float16, shard_bytes=SHARD_BYTES)
    save_aids(sources.aids(), arguments.aids)
    for path in sorted(arguments.out.glob("*")):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.name}")


if __name__ == "__main__":
    main()
