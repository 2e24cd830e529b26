"""Stage 6: everything that was trained, as one checkpoint in the released layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from visionllm_adapters.recipe.decoders import Shipped, shipped_decoders
from visionllm_adapters.recipe.region_config import with_regions
from visionllm_adapters.recipe.train_joint import PARTS
from visionllm_adapters.recipe.train_language import LLM_SHAPE
from visionllm_adapters.recipe.train_vision import VISION
from visionllm_adapters.recipe.vocabulary import SYSTEM
from visionllm_adapters.recipe.warm import AIDS, State, part, save_aids, saved_extra, saved_module
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.config import SDK_SECTION, ModelConfig
from visionllm_sdk.model.core import build_core
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, TextTokenizer
from visionllm_sdk.tool import discover_tools

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
            "max_forced_labels": 12,
            "layouts": {token: {"question": text, **answer} for token, text in questions.items()},
        },
    }


def last_student(runs: Path) -> Path:
    """Checkpoint of the last stage that trained the language side."""
    mapper = runs / "mapper" / "last.pt"
    return mapper if mapper.is_file() else runs / "joint" / "last.pt"


def taught_weights(checkpoint: Path) -> State:
    """What the stages have trained: the student has every part from the start, taught or not."""
    taught = saved_extra(checkpoint).get("taught", ())
    chance = tuple(prefix for name, parts in PARTS.items() if name not in taught for prefix in parts)
    weights = saved_module(checkpoint, "student")
    return {key: value for key, value in weights.items() if not key.startswith(chance)}


def assemble(runs: Path) -> Model:
    """The model of the last stage's checkpoints under `runs`."""
    joint = taught_weights(last_student(runs))
    vision = saved_module(runs / "vision" / "last.pt", "eyes")
    decoders = shipped_decoders(runs, joint)
    pieces = (runs / "vocabulary" / "tokenizer.model").read_bytes()
    first = TextTokenizer(pieces, {}).vocab_size
    tokenizer = TextTokenizer(pieces, {token: first + i for i, token in enumerate(CONTROL_TOKENS)})
    regions = part(joint, "region_encoder.")
    released = released_config(tokenizer.vocab_size, decoders)
    config = ModelConfig.from_released(with_regions(released) if regions else released)
    core = build_core(config, tokenizer)
    if core.region_encoder is not None:
        core.region_encoder.load_state_dict(regions)
    core.vis_encoder.load_state_dict(part(vision, "vis_encoder."))
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


def training_aids(runs: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Weights that are not shipped with the model but let training go on from it (`--warm`)."""
    student = taught_weights(last_student(runs))
    return {
        "names": saved_module(runs / "detector" / "last.pt", "names"),
        "dense": saved_module(runs / "detector" / "last.pt", "dense"),
        "heads": saved_module(runs / "vision" / "last.pt", "heads"),
        "symbols": part(student, "model.symbols."),
        "region_symbols": part(student, "model.region_symbols."),
        "reader": part(student, "model.reader."),
    }


def main() -> None:
    """`python -m visionllm_adapters.recipe.export --out visionllm_sdk/embedded`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--out", type=Path, default=Path("visionllm_sdk/embedded"))
    parser.add_argument("--aids", type=Path, default=AIDS, help="where the training aids go")
    arguments = parser.parse_args()
    assemble(arguments.runs).save(arguments.out, dtype=torch.float16, shard_bytes=SHARD_BYTES)
    save_aids(training_aids(arguments.runs), arguments.aids)
    for path in sorted(arguments.out.glob("*")):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.name}")


if __name__ == "__main__":
    main()
