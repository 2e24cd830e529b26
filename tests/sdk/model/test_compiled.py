"""A cache of fixed size and a compiled step give the replies of the plain loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.sdk.model.reference import reference_model
from visionllm_sdk import VisionLLM
from visionllm_sdk.generation import GenerationOptions, GenerationRequest, Generator
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.cache import RowCache
from visionllm_sdk.model.compiled import CompiledStep
from visionllm_sdk.model.conversation import Turn

CPU = torch.device("cpu")


class Planned:
    """Makes the reply have chosen tokens at chosen steps."""

    def __init__(self, start: int, ids: tuple[int | None, ...]) -> None:
        self.start, self.ids = start, ids

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = ids.shape[1] - self.start
        if step < len(self.ids) and self.ids[step] is not None:
            scores = torch.full_like(scores, -torch.inf)
            scores[:, self.ids[step]] = 0.0
        return scores


@pytest.mark.parametrize("sizes", [[[3, 1, 1, 5, 1]], [[4, 1, 1, 1, 1], [2, 5, 1, 1, 2]]])
def test_a_fixed_cache_equals_a_growing_one(sizes: list[list[int]]) -> None:
    llm = reference_model("tiny_core").core.llm
    torch.manual_seed(0)
    caches = [
        RowCache(llm.config, rows=len(sizes), capacity=4, device=CPU, dtype=torch.float32, fixed=fixed)
        for fixed in (False, True)
    ]
    assert caches[1].capacity == 512
    for column in zip(*sizes, strict=True):
        embeddings = torch.randn(len(sizes), max(column), 64)
        hidden = []
        for cache in caches:
            positions, seen = cache.begin(torch.tensor(column))
            with torch.no_grad():
                output = llm.model(
                    inputs_embeds=embeddings,
                    attention_mask=seen,
                    position_ids=positions,
                    past_key_values=cache,
                )
            hidden.append(output.last_hidden_state)
        for row, size in enumerate(column):
            torch.testing.assert_close(hidden[1][row, :size], hidden[0][row, :size], atol=2e-5, rtol=1e-4)
    assert caches[1].row_layers[0].keys.shape[2] == 513  # the last slot takes the padding


def test_a_fixed_cache_doubles() -> None:
    llm = reference_model("tiny_core").core.llm
    cache = RowCache(llm.config, rows=1, capacity=511, device=CPU, dtype=torch.float32, fixed=True)
    cache.begin(torch.tensor([512]))
    assert cache.capacity == 512
    _, seen = cache.begin(torch.tensor([1]))
    assert cache.capacity == 1024
    assert seen.shape == (1, 1, 1, 1024)
    assert int(seen.sum()) == 513


@pytest.fixture
def compiled(random_checkpoint: Path) -> Iterator[Model]:
    """A model whose step is traced, and not translated: that needs no compiler of C++ or CUDA."""
    model = VisionLLM.from_pretrained(random_checkpoint).engine.model
    model.core.step = CompiledStep(model.core.llm, backend="eager")
    yield model
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_replies_of_the_compiled_step(random_checkpoint: Path, compiled: Model) -> None:
    """Also with routing tokens on the way, whose queries take the plain path over the same cache."""
    plain = VisionLLM.from_pretrained(random_checkpoint).engine.model
    for text in ("What is there?", "Find the stars."):
        replies = []
        for model in (plain, compiled):
            generator = Generator(model)
            prompt = generator.builder.build([Turn((text,))])
            ids = (None, None, model.tokenizer.control_id("[DET]"))
            options = GenerationOptions(max_new_tokens=10, processors=(Planned(len(prompt.ids), ids),))
            replies += generator.generate([GenerationRequest(prompt=prompt, options=options)])
        assert replies[0].ids == replies[1].ids
        for one, other in zip(replies[0].calls, replies[1].calls, strict=True):
            states = (one.super_links[0].states, other.super_links[0].states)
            torch.testing.assert_close(*states, atol=2e-5, rtol=1e-4)


def test_the_setting_reaches_the_core(random_checkpoint: Path) -> None:
    assert VisionLLM.from_pretrained(random_checkpoint).engine.model.core.step is None
    vlm = VisionLLM.from_pretrained(random_checkpoint, compile=True)
    assert isinstance(vlm.engine.model.core.step, CompiledStep)
    assert not any("step" in key for key in vlm.engine.model.core.state_dict())
