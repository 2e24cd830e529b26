"""The full-size 7B model with random weights on a GPU: every skill's speed, and its share of the hardware's.

python benchmarks/gpu.py [--device cuda] [--no-compile] [--skip picture] [--json]
python benchmarks/gpu.py --size tiny --device cpu     # the same steps at a size that any machine can run

Random weights compute as fast as trained ones; nothing is downloaded. Aims on an H200: decoding at batch 1
>= 150 tokens/s, prefill of 2,880 tokens <= 100 ms, detection of 80 labels at 800 x 1333 <= 150 ms end to end,
a picture of 512 px in 30 steps <= 0.6 s.
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from visionllm_sdk.model.cache import RowCache
from visionllm_sdk.model.compiled import CompiledStep, compile_in_place
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.core import VisionLLMCore, build_core
from visionllm_sdk.model.placement import default_dtype
from visionllm_sdk.model.prompt import Prompt, TiledImage, collate
from visionllm_sdk.model.skeleton import ParametersStayEmpty
from visionllm_sdk.model.tokenizer import TextTokenizer
from visionllm_sdk.registry import discover_tools
from visionllm_sdk.tool import SuperLink, ToolRequest

GOLDENS = Path(__file__).parents[1] / "tests" / "goldens"
LABELS = 80
WORD = 1  # id of any word
PROMPT_TOKENS = 2880  # four tiles and a thumbnail
DETECTION_SIZE = (1333, 800)  # width, height

# Dense bfloat16 operations and bytes of memory traffic per second, from the makers' data sheets.
HARDWARE = {
    "H200": (989e12, 4.8e12),
    "H100": (989e12, 3.35e12),
    "A100-SXM4-80GB": (312e12, 2.04e12),
    "A100": (312e12, 1.56e12),
    "L40S": (362e12, 0.864e12),
    "RTX 4090": (165e12, 1.01e12),
}


class ControlIds(TextTokenizer):
    """Ids of the control tokens of the full-size checkpoint; it never encodes."""

    def __init__(self, ids: dict[str, int]) -> None:
        self._ids = ids


@dataclass(frozen=True)
class Bench:
    """What the measurements share."""

    core: VisionLLMCore
    released: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    repeats: int

    def seconds(self, work: Callable[[], object]) -> float:
        """Median time of one call, after two for warming up."""
        times = []
        for number in range(self.repeats + 2):
            self.wait()
            begin = time.perf_counter()
            work()
            self.wait()
            if number >= 2:
                times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def read_released(size: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Configuration and ids of the control tokens."""
    if size == "7b":
        content = json.loads(lzma.decompress((GOLDENS / "manifest_7b.json.xz").read_bytes()))
        return content["config"], content["special_tokens"]
    folder = GOLDENS / "tiny_core"
    config = json.loads((folder / "config.json").read_text())
    detector = json.loads((GOLDENS / "tiny_detector" / "config.json").read_text())["gdino_config"]
    config |= {"use_gdino": True, "gdino_config": detector, "use_unipose": False}
    config |= {"use_sd": False, "use_ip2p": False}
    return config, json.loads((folder / "added_tokens.json").read_text())


def fill(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Random parameters straight on the device; tensors under several names stay one."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is None:
                continue
            if id(old) not in made:
                values = torch.empty(old.shape, device=device, dtype=dtype).normal_(0, 0.02)
                made[id(old)] = nn.Parameter(values, requires_grad=False)
            part._parameters[name] = made[id(old)]
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = buffer.to(device)


def build(size: str, device: torch.device, dtype: torch.dtype, repeats: int) -> Bench:
    released, ids = read_released(size)
    with ParametersStayEmpty():
        core = build_core(ModelConfig.from_released(released), ControlIds(ids))
    fill(core, device, dtype)
    return Bench(core.eval(), released, device, dtype, repeats)


def tool(bench: Bench, name: str) -> Any:
    with ParametersStayEmpty():
        made = discover_tools().by_name(name).from_config(bench.released)
    if made is None:
        return None
    fill(made.decoder, bench.device, bench.dtype)
    made.decoder.eval()
    return made


# -- measurements ------------------------------------------------------------------------------------------


def weights(module: nn.Module) -> int:
    return sum(value.nbytes for value in module.parameters())


def decode(bench: Bench, *, compiled: bool, tokens: int) -> dict[str, float]:
    """Tokens per second at batch 1 after a prompt of 2,880 tokens; the limit is reading all weights once."""
    core = bench.core
    step = CompiledStep(core.llm) if compiled else None
    width = core.llm.config.hidden_size
    cache = RowCache(
        core.llm.config,
        rows=1,
        capacity=PROMPT_TOKENS + tokens,
        device=bench.device,
        dtype=bench.dtype,
        fixed=compiled,
    )
    prompt = torch.randn(1, PROMPT_TOKENS, width, device=bench.device, dtype=bench.dtype)
    run(core, cache, prompt)
    start = cache.lengths.clone()

    def reply() -> None:
        cache.lengths = start.clone()
        current = prompt[:, :1]
        for _ in range(tokens):
            hidden = run(core, cache, current, step)
            chosen = core.llm.lm_head(hidden[:, -1]).argmax(-1)
            current = core.word_embedding(chosen)[:, None]

    seconds = bench.seconds(reply) / tokens
    return {"tokens_per_second": 1 / seconds, "bytes": weights(core.llm), "seconds": seconds}


def run(core: VisionLLMCore, cache: RowCache, embeddings: Tensor, step: CompiledStep | None = None) -> Tensor:
    positions, seen = cache.begin(torch.tensor([embeddings.shape[1]]))
    if step is not None and step.fits(embeddings, cache):
        return step(embeddings, positions, seen, cache).clone()
    output = core.llm.model(
        inputs_embeds=embeddings,
        attention_mask=seen,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


def prefill(bench: Bench) -> dict[str, float]:
    """A prompt of 2,880 tokens; two operations for every weight and token."""
    core = bench.core
    embeddings = torch.randn(
        1, PROMPT_TOKENS, core.llm.config.hidden_size, device=bench.device, dtype=bench.dtype
    )
    mask = torch.ones(1, PROMPT_TOKENS, dtype=torch.bool, device=bench.device)
    seconds = bench.seconds(lambda: core.run(embeddings, mask))
    values = sum(value.numel() for value in core.llm.model.layers.parameters())
    return {"milliseconds": 1e3 * seconds, "operations": 2.0 * values * PROMPT_TOKENS, "seconds": seconds}


def detect(bench: Bench, *, compiled: bool) -> dict[str, float] | None:
    """Forced routing with 80 labels over one image, from tiles to boxes and masks."""
    detector = tool(bench, "detect")
    if detector is None:
        return None
    if compiled:
        compile_in_place(detector.compiled_parts())
    core = bench.core
    spec = core.plan.by_text("[DET]")
    side = int(bench.released["vis_encoder_config"]["image_size"])
    pixels = torch.randn(5, 3, side, side)
    image = Image.effect_noise(DETECTION_SIZE, 80).convert("RGB")
    answer = [index for _ in range(LABELS) for index in (WORD, spec.token_id, *spec.placeholders)]
    ids = [WORD, *[core.patch_id] * (5 * core.tokens_per_tile), *answer]

    def work() -> object:
        prompt = Prompt(ids=list(ids), marks=[False] * len(ids), images=(TiledImage(pixels),))
        output = core(collate([prompt], pad_id=0), loss=False)
        links = tuple(
            SuperLink(token="[DET]", label=f"label {number}", states=states)
            for number, states in enumerate(output.states)
        )
        options = detector.options_type(threshold=0.0, limit=20)
        return detector.run([ToolRequest(token="[DET]", links=links, options=options, image=image)])

    with torch.no_grad():
        return {"milliseconds": 1e3 * bench.seconds(work)}


def random_links(bench: Bench, token: str, count: int, queries: int) -> tuple[SuperLink, ...]:
    width = bench.core.llm.config.hidden_size
    states = torch.randn(count, queries, width, device=bench.device, dtype=bench.dtype)
    return tuple(
        SuperLink(token=token, label=f"{token} {number}", states=one) for number, one in enumerate(states)
    )


def pose(bench: Bench) -> dict[str, float] | None:
    """17 keypoints of one class in one image; the decoder alone."""
    estimator = tool(bench, "pose")
    if estimator is None:
        return None
    request = ToolRequest(
        token="[POSE]",
        links=random_links(bench, "[POSE]", 17, 4),
        context=random_links(bench, "[DET]", 1, 4),
        options=estimator.options_type(),
        image=Image.effect_noise(DETECTION_SIZE, 80).convert("RGB"),
    )
    return {"milliseconds": 1e3 * bench.seconds(lambda: estimator.run([request]))}


def picture(bench: Bench, steps: int = 30) -> dict[str, float] | None:
    """One picture of 512 px with guidance; the decoder alone."""
    painter = tool(bench, "generate")
    if painter is None:
        return None
    queries = int(bench.released.get("num_embs_gen", 64))
    link = random_links(bench, "[GEN]", 1, queries)
    request = ToolRequest(token="[GEN]", links=link, options=painter.options_type(steps=steps, seed=0))
    return {"seconds": bench.seconds(lambda: painter.run([request])), "steps": steps}


# -- report ------------------------------------------------------------------------------------------------


def limits(device: torch.device) -> tuple[str, float | None, float | None]:
    """Name of the device, operations and bytes per second that it can reach; None where unknown."""
    if device.type != "cuda":
        return "CPU", None, None
    name = torch.cuda.get_device_name(device)
    operations, traffic = next((HARDWARE[key] for key in HARDWARE if key in name), (None, None))
    return name, operations, traffic


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(arguments.device)
    name, operations, traffic = limits(device)
    bench = build(arguments.size, device, default_dtype(device), arguments.repeats)
    report: dict[str, Any] = {"device": name, "attention": bench.core.llm.config._attn_implementation}
    with torch.no_grad():
        report["decode"] = decode(bench, compiled=arguments.compile, tokens=arguments.tokens)
        report["prefill"] = prefill(bench)
    looking = partial(detect, compiled=arguments.compile)
    for label, task in (("detect", looking), ("pose", pose), ("picture", picture)):
        if label not in arguments.skip:
            report[label] = task(bench)
    if traffic:
        report["decode"]["share_of_limit"] = report["decode"]["bytes"] / report["decode"]["seconds"] / traffic
    if operations:
        report["prefill"]["share_of_limit"] = (
            report["prefill"]["operations"] / report["prefill"]["seconds"] / operations
        )
    if device.type == "cuda":
        report["gigabytes_at_most"] = torch.cuda.max_memory_allocated(device) / 1e9
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=("7b", "tiny"), default="7b")
    parser.add_argument("--tokens", type=int, default=128, help="to decode")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="nothing compiled")
    parser.add_argument("--skip", nargs="*", default=(), choices=("detect", "pose", "picture"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if torch.device(arguments.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; try --size tiny --device cpu")
    report = measure(arguments)
    if arguments.json:
        print(json.dumps(report))
        return
    for label, found in report.items():
        print(f"{label:10s}", found if not isinstance(found, dict) else _line(found))


def _line(found: Mapping[str, float]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in found.items())


if __name__ == "__main__":
    main()
