from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sdk.model.reference import reference_model
from visionllm_sdk.model.conversation import Turn, image_parts
from visionllm_sdk.model.prompt import Prompt, TiledImage, collate
from visionllm_sdk.model.tree import PromptTree, run_trees

MODEL = reference_model("tiny_core")
CORE, LAYOUT = MODEL.core, MODEL.core.layout
WORDS = st.lists(st.integers(10, 14), min_size=1, max_size=7)


def prompt(ids: list[int]) -> Prompt:
    return Prompt(ids=ids, marks=[False] * len(ids))


def alone(one: Prompt) -> torch.Tensor:
    batch = collate([one], pad_id=0)
    return CORE.run(CORE.embed(batch), batch.mask)[0]


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_each_prompt_sees_itself_and_nothing_else(texts: list[list[int]]) -> None:
    tree = PromptTree()
    paths = [tree.add(prompt(ids), LAYOUT) for ids in texts]
    mask, depths = tree.mask(), tree.depths()
    for ids, path in zip(texts, paths, strict=True):
        assert [tree.ids[node] for node in path] == ids
        assert depths[path].tolist() == list(range(len(ids)))
        for place, node in enumerate(path):
            assert mask[node].nonzero().flatten().tolist() == sorted(path[: place + 1])
    assert len(tree) == len({tuple(ids[: n + 1]) for ids in texts for n in range(len(ids))})


@settings(max_examples=20)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=3), st.integers(0, 6))
def test_a_pass_over_trees_equals_each_prompt_alone(rows: list[list[list[int]]], shared: int) -> None:
    begin = [20 + i for i in range(shared)]
    with torch.no_grad():
        prefix = []
        if shared:
            trunk = PromptTree()
            trunk.add(prompt(begin), LAYOUT)
            prefix = run_trees(CORE, [trunk], [[]], pad_id=0).cache.row(0)
        trees, paths = [], []
        for texts in rows:
            tree = PromptTree()
            paths.append([tree.add(prompt(ids), LAYOUT) for ids in texts])
            trees.append(tree)
        prefixes = [prefix if number % 2 == 0 else [] for number in range(len(rows))]
        output = run_trees(CORE, trees, prefixes, pad_id=0)
        for number, (texts, own) in enumerate(zip(rows, paths, strict=True)):
            before = begin if number % 2 == 0 else []
            for ids, path in zip(texts, own, strict=True):
                wanted = alone(prompt([*before, *ids]))[len(before) :]
                torch.testing.assert_close(output.hidden[number, path], wanted, atol=2e-5, rtol=1e-4)


def test_an_image_is_the_same_only_if_it_is_the_same_object() -> None:
    image, twin = (TiledImage(torch.zeros(1, 3, 56, 56)) for _ in range(2))

    def about(one: TiledImage, text: str) -> Prompt:
        return MODEL.prompt_builder().build([Turn((*image_parts(), text))], [one])

    tree = PromptTree()
    tree.add(about(image, "a dog"), LAYOUT)
    before = len(tree)
    tree.add(about(image, "a cat"), LAYOUT)
    assert len(tree) < before + 16
    assert tree.images == [image]
    tree.add(about(twin, "a dog"), LAYOUT)
    assert len(tree) > before + 16
    assert tree.images == [image, twin]
