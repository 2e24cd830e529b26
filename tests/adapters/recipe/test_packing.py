from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from visionllm_adapters.recipe.dialogues import Curriculum, branches
from visionllm_adapters.recipe.packing import QUERIES, Packer, pack
from visionllm_adapters.recipe.symbols import GRID, random_scene
from visionllm_adapters.recipe.vocabulary import SYSTEM, train_vocabulary
from visionllm_sdk.model.conversation import VICUNA_V1, Turn, image_parts
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, Control, TextTokenizer
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS, Exchange, Link
from visionllm_sdk.scenes.phrases import TRAINING


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_vocabulary(tmp_path_factory.mktemp("vocabulary"), size=1000, count=3000)


@pytest.fixture(scope="module")
def packer(vocabulary: Path) -> Packer:
    return Packer.from_file(vocabulary)


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> TextTokenizer:
    pieces = vocabulary.read_bytes()
    first = TextTokenizer(pieces, {}).vocab_size
    return TextTokenizer(pieces, {token: first + i for i, token in enumerate(CONTROL_TOKENS)})


def answer_parts(exchange: Exchange) -> tuple[str | Control, ...]:
    parts: list[str | Control] = []
    for part in exchange.answer:
        if isinstance(part, Link):
            tag = "grd" if part.token == "[GRD]" else "det"
            parts += [Control(f"<{tag}>"), part.text, Control(f"</{tag}>"), Control(part.token)]
            parts += [Control(query) for query in QUERIES]
        else:
            parts.append(part)
    return tuple(parts)


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("seed", range(6))
def test_training_sees_what_the_model_will_be_asked(
    packer: Packer, tokenizer: TextTokenizer, kind: str, seed: int
) -> None:
    rng = Random(seed)
    exchange = None
    while exchange is None:
        scene = random_scene(rng)
        exchange = MAKERS[kind](scene, rng, TRAINING)
    turn = Turn((*image_parts(1), exchange.question), answer_parts(exchange))
    ids, marks = tokenizer.encode(VICUNA_V1.render([turn], system=SYSTEM))
    branch = packer.branch([exchange], scene)
    mine = [*packer.prefix(SYSTEM), packer.control["<image>"], *branch.ids]
    assert mine == ids
    learnt = [label != -100 for label in branch.labels]
    queries = set(packer.query_ids)
    expected = [mark and index not in queries for mark, index in zip(marks, ids, strict=True)]
    assert learnt == expected[-len(learnt) :]


def test_branches_do_not_see_one_another(packer: Packer) -> None:
    rng = Random(5)
    scene = random_scene(rng)
    found = branches(scene, ["count", "colour", "detect"], rng, packer)
    prefix = packer.prefix(SYSTEM)
    packed = pack([(prefix, list(range(GRID * GRID)), found)], packer.control["<im_patch>"], GRID)
    head = len(prefix) + GRID * GRID
    start = head
    for branch in found:
        end = start + len(branch.ids)
        rows = packed.mask[0, 0, start:end]
        assert rows[:, :head].all()
        assert not rows[:, head:start].any()
        assert not rows[:, end:].any()
        assert torch.equal(rows[:, start:end], torch.ones(end - start, end - start).tril().bool())
        assert packed.position_ids[0, start] == head
        start = end


def test_links_point_at_their_queries(packer: Packer) -> None:
    rng = Random(11)
    scene = random_scene(rng)
    found = branches(scene, ["detect", "ground", "mixed", "segment"], rng, packer)
    packed = pack([(packer.prefix(SYSTEM), [], found)], packer.control["<im_patch>"], GRID)
    for row, column in packed.link_places.tolist():
        assert packed.ids[row, column : column + 4].tolist() == packer.query_ids
        assert packed.ids[row, column - 1].item() in {packer.control[t] for t in ("[DET]", "[GRD]", "[SEG]")}


def test_targets_are_the_next_tokens(packer: Packer) -> None:
    rng = Random(2)
    scene = random_scene(rng)
    packed = pack(
        [(packer.prefix(SYSTEM), [0, 5], branches(scene, list(VQA_KINDS), rng, packer))],
        packer.control["<im_patch>"],
        GRID,
    )
    rows, columns = packed.learn.T
    assert torch.equal(packed.ids[rows, columns + 1], packed.targets)
    assert packed.weights.sum() == pytest.approx(len(packed.kinds), rel=1e-5)


def test_the_curriculum_asks_what_is_still_wrong() -> None:
    curriculum = Curriculum()
    for _ in range(2000):
        curriculum.note({"count": [False], **{kind: [True] for kind in MAKERS if kind != "count"}})
    drawn = curriculum.draw(Random(0), 1000)
    assert drawn.count("count") > 500
    assert set(drawn) == set(MAKERS)  # nothing is forgotten
