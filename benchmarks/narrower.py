"""What a batch would gain if the embedded model were smaller: the same code with narrower nets.

    python benchmarks/narrower.py [--json] [--rounds 5]

A call for one image has both cores already, so sixteen in one call win only what single calls waste. Whether
a model with less arithmetic would waste more is asked here before one is trained: checkpoints of the embedded
model's layout with random weights and fewer channels, asked in turns. As many things are kept as in drawn
scenes. Times are medians in milliseconds an image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import BATCH, LABELS, fresh_images, seconds

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

_KEPT_OF_EIGHT = 20


def as_shipped(config: dict[str, Any]) -> None:
    """The sizes of the embedded model."""


def narrow_sight(config: dict[str, Any]) -> None:
    """Half the channels in the encoder and in the detector's backbone: a quarter of their arithmetic."""
    for sight in (config["vis_encoder_config"], config["gdino_config"]["backbone_config"]):
        sight |= {"embedding_size": 16, "hidden_sizes": [24, 48, 80, 96]}


def narrow_detector(config: dict[str, Any]) -> None:
    """Half the channels behind the backbone, too."""
    narrow_sight(config)
    config["gdino_config"] |= {
        "d_model": 64,
        "mask_dim": 32,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
    }


def narrow_everything(config: dict[str, Any]) -> None:
    """And half of those of the language model."""
    narrow_detector(config)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    config["llm_config"] |= {"hidden_size": 128, "intermediate_size": 256, **heads}
    config["gdino_config"]["l_hidden_size"] = 128


SIZES: dict[str, Callable[[dict[str, Any]], None]] = {
    "as_shipped": as_shipped,
    "narrow_sight": narrow_sight,
    "narrow_detector": narrow_detector,
    "narrow_everything": narrow_everything,
}


def random_checkpoint(folder: Path, narrow: Callable[[dict[str, Any]], None]) -> Path:
    """The language side and the detector, of other sizes and untrained."""
    import torch

    from visionllm_sdk.model.assembly import Model
    from visionllm_sdk.model.config import ModelConfig
    from visionllm_sdk.model.core import build_core
    from visionllm_sdk.model.tokenizer import TextTokenizer
    from visionllm_sdk.registry import discover_tools
    from visionllm_sdk.skills.loading import embedded_folder

    torch.manual_seed(0)
    shipped = embedded_folder()
    released = json.loads((shipped / "config.json").read_text(encoding="utf-8"))
    released |= {name: False for name in released if name.startswith("use_") and name != "use_gdino"}
    narrow(released)
    config = ModelConfig.from_released(released)
    tokenizer = TextTokenizer.from_folder(shipped, legacy_spacing=config.sdk.legacy_spacing)
    core = build_core(config, tokenizer)
    tool = discover_tools().by_name("detect").from_config(config.to_released())
    assert tool is not None, "the configuration has a detector"
    core.eval()
    tool.decoder.eval()
    Model(config=config, tokenizer=tokenizer, core=core, tools={"detect": tool}).save(folder)
    return folder


def threshold_of(vlm: VisionLLM) -> float:
    """Above which a random detector keeps as many things as a trained one does."""
    images = fresh_images()
    found = vlm.detect([next(images) for _ in range(8)], LABELS, threshold=0.0)
    scores = sorted((one.score for result in found for one in result.detections), reverse=True)
    return scores[_KEPT_OF_EIGHT]


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Figures of every size."""
    from visionllm_sdk import VisionLLM

    with tempfile.TemporaryDirectory() as folder:
        models = {
            name: VisionLLM.from_pretrained(random_checkpoint(Path(folder) / name, narrow))
            for name, narrow in SIZES.items()
        }
        floors = {name: threshold_of(vlm) for name, vlm in models.items()}
        alone: dict[str, list[float]] = {name: [] for name in models}
        together: dict[str, list[float]] = {name: [] for name in models}
        images = fresh_images()
        for _, (name, vlm) in product(range(rounds), models.items()):
            one, other = ([next(images) for _ in range(BATCH)] for _ in range(2))
            ask = partial(vlm.detect, labels=LABELS, threshold=floors[name])
            alone[name].append(seconds(lambda ask=ask, one=one: [ask(image) for image in one]))
            together[name].append(seconds(lambda ask=ask, other=other: ask(other)))
    figures = {}
    for name in SIZES:
        single, many = (statistics.median(times[name]) / BATCH * 1000 for times in (alone, together))
        figures[name] = {"single_ms": single, "in_batch_ms": many, "batch_speedup": single / many}
    return figures


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    figures = measure(given.rounds)
    if given.json:
        print(json.dumps({name: {k: round(v, 3) for k, v in row.items()} for name, row in figures.items()}))
        return
    for name, row in figures.items():
        print(f"{name:20}", *(f"{key} {value:8.2f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
