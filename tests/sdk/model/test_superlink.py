from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.model.reference import reference_model
from visionllm_sdk.errors import InputError
from visionllm_sdk.model.superlink import extract_links, find_links, insert_queries, place_queries, query_mask

PLAN = reference_model("tiny_core").core.plan
ROUTING = sorted(PLAN.by_id)
WIDTH = 6
ids_without_queries = st.lists(st.one_of(st.integers(3, 500), st.sampled_from(ROUTING)), max_size=20)


def padded(rows: list[list[int]]) -> torch.Tensor:
    length = max(map(len, rows), default=0)
    return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], dtype=torch.long)


def tables() -> dict[str, torch.Tensor]:
    sizes = {spec.table: spec.count for spec in PLAN.by_id.values()}
    return {name: torch.randn(size, WIDTH, requires_grad=True) for name, size in sizes.items()}


@given(st.lists(ids_without_queries, min_size=1, max_size=4))
def test_insertion_and_extraction_meet_for_any_mix(rows: list[list[int]]):
    """Whatever the batch and the order: each link gets its own table's queries, and nothing else moves."""
    expanded = [insert_queries(row, [True] * len(row), PLAN)[0] for row in rows]
    ids = padded(expanded)
    links = find_links(ids, PLAN)
    assert [(link.row, link.spec.token_id) for link in links] == [
        (number, index) for number, row in enumerate(rows) for index in row if index in PLAN.by_id
    ]
    queries = tables()
    before = torch.randn(*ids.shape, WIDTH)
    after = place_queries(before, links, queries)
    for link, states in zip(links, extract_links(after, links), strict=True):
        assert torch.equal(states, queries[link.spec.table])
    untouched = ~query_mask(ids, links)
    assert torch.equal(after[untouched], before[untouched])
    assert int((~untouched).sum()) == sum(link.spec.count for link in links)


@given(ids_without_queries, st.data())
def test_insertion_keeps_ids_and_marks_in_order(ids: list[int], data: st.DataObject):
    marks = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    new_ids, new_marks = insert_queries(ids, marks, PLAN)
    kept = [pair for pair in zip(new_ids, new_marks, strict=True) if pair[0] not in PLAN.placeholder_ids]
    assert kept == list(zip(ids, marks, strict=True))
    assert not any(
        mark for index, mark in zip(new_ids, new_marks, strict=True) if index in PLAN.placeholder_ids
    )


def test_perception_placeholders_are_numbered_and_image_placeholders_repeat():
    words = reference_model("tiny_core").tokenizer
    spell = {
        spec.token: [words.control_text(index) for index in spec.placeholders] for spec in PLAN.by_id.values()
    }
    assert spell["[GRD]"] == ["[EMB]", "[EMB2]", "[EMB3]", "[EMB4]"]
    assert spell["[EDIT]"] == ["[EMB]"] * 8


def test_gradients_reach_tables_and_states():
    ids = padded([insert_queries([5, ROUTING[0], 6], [True] * 3, PLAN)[0]])
    links = find_links(ids, PLAN)
    queries = tables()
    states = extract_links(place_queries(torch.zeros(*ids.shape, WIDTH), links, queries), links)
    states[0].sum().backward()
    assert torch.equal(queries[links[0].spec.table].grad, torch.ones(links[0].spec.count, WIDTH))


def test_a_batch_without_routing_token_passes_through():
    embeddings = torch.randn(2, 3, WIDTH)
    assert find_links(torch.full((2, 3), 5), PLAN) == []
    assert place_queries(embeddings, [], tables()) is embeddings
    assert extract_links(embeddings, []) == []


def test_queries_are_never_inserted_twice():
    once, marks = insert_queries([ROUTING[0]], [True], PLAN)
    with pytest.raises(InputError, match="already hold query placeholders"):
        insert_queries(once, marks, PLAN)


def test_missing_or_stray_placeholders_are_errors():
    spec = PLAN.by_id[ROUTING[0]]
    with pytest.raises(InputError, match=r"row 1, position 1.*not followed"):
        find_links(torch.tensor([[5, 5, 5], [5, spec.token_id, 5]]), PLAN)
    with pytest.raises(InputError, match="no routing token precedes"):
        find_links(torch.tensor([[5, spec.placeholders[0]]]), PLAN)


def test_unknown_routing_tokens_are_named():
    assert PLAN.by_text("[SEG]").table == "det"
    with pytest.raises(InputError, match=r"\[DET\], \[GRD\]"):
        PLAN.by_text("[DEPTH]")
