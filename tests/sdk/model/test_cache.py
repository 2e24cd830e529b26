from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sdk.model.reference import reference_model
from visionllm_sdk.model.cache import RowCache

LLM = reference_model("tiny_core").core.llm


def run(cache: RowCache, embeddings: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    positions, seen = cache.begin(sizes)
    return LLM.model(
        inputs_embeds=embeddings, attention_mask=seen, position_ids=positions, past_key_values=cache
    ).last_hidden_state


def new_cache(rows: int, capacity: int) -> RowCache:
    return RowCache(LLM.config, rows=rows, capacity=capacity, device=torch.device("cpu"), dtype=torch.float32)


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.integers(1, 5), min_size=4, max_size=4), min_size=1, max_size=3), st.integers(0, 99)
)
def test_rows_of_different_steps_equal_one_pass(steps: list[list[int]], seed: int):
    """However the rows are cut into steps, each equals a single causal pass."""
    random = torch.Generator().manual_seed(seed)
    lengths = [sum(row) for row in steps]
    inputs = [torch.randn(length, 64, generator=random) for length in lengths]
    cache = new_cache(len(steps), 3)
    outputs: list[list[torch.Tensor]] = [[] for _ in steps]
    with torch.no_grad():
        for number in range(4):
            sizes = torch.tensor([row[number] for row in steps])
            chunk = torch.zeros(len(steps), int(sizes.max()), 64)
            for row, whole in enumerate(inputs):
                start = int(cache.lengths[row])
                chunk[row, : sizes[row]] = whole[start : start + sizes[row]]
            hidden = run(cache, chunk, sizes)
            for row, size in enumerate(sizes.tolist()):
                outputs[row].append(hidden[row, :size])
        for row, whole in enumerate(inputs):
            alone = LLM.model(inputs_embeds=whole[None]).last_hidden_state[0]
            torch.testing.assert_close(torch.cat(outputs[row]), alone, atol=2e-5, rtol=1e-4)


def test_rows_leave_and_prefixes_enter():
    torch.manual_seed(0)
    inputs = torch.randn(2, 9, 64)
    with torch.no_grad():
        first = new_cache(2, 16)
        run(first, inputs[:, :5], torch.tensor([5, 4]))
        stored = first.row(0)
        first.keep([0])
        assert first.lengths.tolist() == [5]
        second = new_cache(1, 2)
        second.preload(0, stored)
        kept = run(first, inputs[:1, 5:], torch.tensor([4]))
        loaded = run(second, inputs[:1, 5:], torch.tensor([4]))
        alone = LLM.model(inputs_embeds=inputs[:1]).last_hidden_state[:, 5:]
    torch.testing.assert_close(kept, alone, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(loaded, kept)
    assert second.get_seq_length() == 9
    assert second.get_max_length() == -1
