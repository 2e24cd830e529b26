from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from visionllm_adapters.recipe.dialogues import ALL_MAKERS, SKILLS, Curriculum, branches, dialogue, kinds_of
from visionllm_adapters.recipe.packing import QUERIES, TABLE_SIZES, TABLES, WRAPPERS, Packer, Row, pack
from visionllm_adapters.recipe.symbols import GRID, random_scene
from visionllm_adapters.recipe.train_language import (
    LanguageTrainee,
    symbolic_batch,
    symbolic_regions,
    symbolic_tokens,
)
from visionllm_adapters.recipe.vocabulary import SYSTEM, train_vocabulary
from visionllm_sdk.model.conversation import VICUNA_V1, ForcedCall, Turn, forced_turn, image_parts
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, Control, Part, TextTokenizer
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.language import VQA_KINDS, Exchange, Link
from visionllm_sdk.scenes.pose_language import pose_reply
from visionllm_sdk.tool import ForcedLayout, RoutingToken


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


def answer_parts(exchange: Exchange) -> tuple[Part, ...]:
    parts: list[Part] = []
    for part in exchange.answer:
        if isinstance(part, Link):
            start, end = WRAPPERS.get(part.token, ("", ""))
            parts += [Control(start), part.text, Control(end)] if start else []
            count = TABLE_SIZES[TABLES[part.token]]
            queries = QUERIES if count == len(QUERIES) else QUERIES[:1] * count
            parts += [Control(part.token), *(Control(query) for query in queries)]
        else:
            parts.append(part)
    return tuple(parts)


def asked(kind: str, seed: int) -> tuple[SceneFacts, Exchange]:
    rng = Random(seed)
    while True:
        scene = random_scene(rng)
        turns = dialogue(kind, scene, rng)
        if turns is not None:
            return scene, turns[0]


@pytest.mark.parametrize("kind", sorted(ALL_MAKERS))
@pytest.mark.parametrize("seed", range(6))
def test_training_sees_what_the_model_will_be_asked(
    packer: Packer, tokenizer: TextTokenizer, kind: str, seed: int
) -> None:
    scene, exchange = asked(kind, seed)
    question = tokenizer.parse_template(exchange.question)
    turn = Turn((*image_parts(1), *question), answer_parts(exchange))
    ids, marks = tokenizer.encode(VICUNA_V1.render([turn], system=SYSTEM))
    branch = packer.branch([exchange], scene)
    mine = [*packer.prefix(SYSTEM), packer.control["<image>"], *branch.ids]
    assert mine == ids
    learnt = [label != -100 for label in branch.labels]
    queries = set(packer.query_ids)
    expected = [mark and index not in queries for mark, index in zip(marks, ids, strict=True)]
    assert learnt == expected[-len(learnt) :]


def test_poses_are_laid_out_as_forced_routing_lays_them_out(packer: Packer, tokenizer: TextTokenizer) -> None:
    layouts = {
        "[DET]": ForcedLayout(question="Detect {labels}", answer="{items}."),
        "[POSE]": ForcedLayout(question="with the keypoints {labels}", answer="{items}."),
    }
    calls = [
        ForcedCall(token=RoutingToken(text="[DET]", label_tag="det"), labels=("person",)),
        ForcedCall(token=RoutingToken(text="[POSE]", label_tag="det"), labels=("nose", "left knee")),
    ]
    turn = forced_turn(calls, label_tags=True, layouts=layouts)
    ids, _ = tokenizer.encode(VICUNA_V1.render([turn], system=SYSTEM))
    question = "Detect person with the keypoints nose, left knee"
    exchange = Exchange("pose", question, pose_reply(["person"], ["nose", "left knee"]))
    branch = packer.branch([exchange], random_scene(Random(0)))
    mine = [*packer.prefix(SYSTEM), packer.control["<image>"], *branch.ids]
    assert [index for index in mine if index not in packer.query_ids] == ids


def test_marks_and_second_images_stand_where_the_question_says(packer: Packer) -> None:
    rows: list[Row] = []
    for seed in range(3):
        scene, exchange = asked("in_context", seed)
        branch = packer.branch([exchange], scene, other=(seed + 1) % 3)
        rows.append((packer.prefix(SYSTEM), [3 * seed, 3 * seed + 1], [branch]))
    patch = packer.control["<im_patch>"]
    packed = pack(rows, patch, GRID)
    assert (packed.ids[packed.image_places] == patch).all()
    assert (packed.ids[packed.region_places] == packer.control["<region>"]).all()
    assert packed.image_sources[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert sorted(packed.image_sources[6:].tolist()) == [0, 1, 2, 3, 4, 5]
    for first in range(6, 12, 2):
        place, source = int(packed.image_places[first]), int(packed.image_sources[first])
        cells = packed.position_ids[place : place + 2] - packed.position_ids[place - 1] - 1
        assert cells.tolist() == rows[source // 2][1]
        assert packed.position_ids[place + 2] == packed.position_ids[place - 1] + 1 + GRID * GRID


def test_a_branch_is_read_as_if_it_were_alone(packer: Packer) -> None:
    torch.manual_seed(0)
    model, rng = LanguageTrainee(packer.size), Random(5)
    packed, facts, grid = symbolic_batch(packer, rng, Curriculum(), 3, 6, full_grid=0.5)
    tokens, regions = (
        symbolic_tokens(model.symbols, facts, grid=grid),
        symbolic_regions(model, packed, facts, rng),
    )
    embeds: list[torch.Tensor] = []
    handle = model.llm.model.layers[0].register_forward_pre_hook(
        lambda _, given: embeds.append(given[0][0]), with_kwargs=False
    )
    with torch.no_grad():
        found = model.hidden(packed, tokens, regions)
        handle.remove()
        model.llm.set_attn_implementation("eager")
        width = packed.blocks.prefix[1]
        start = packed.blocks.prefix[0] * width
        for group in packed.blocks.groups:
            for row, bias in zip(group.rows.tolist(), group.bias, strict=True):
                head = int((bias[0, 0, :width] == 0).sum())
                line = [*range(row * width, row * width + head), *range(start, start + group.shape[1])]
                mask = torch.full((len(line), len(line)), -1e4).triu(1)[None, None]
                alone = model.llm.model(
                    inputs_embeds=embeds[0][line][None],
                    attention_mask=mask,
                    position_ids=packed.position_ids[line][None],
                    use_cache=False,
                ).last_hidden_state[0]
                real = packed.ids[line] != 0
                assert torch.allclose(found[line][real], alone[real], atol=1e-4)
                start += group.shape[1]
    assert start == len(packed.ids)


def test_every_part_learns(packer: Packer) -> None:
    torch.manual_seed(0)
    model, rng = LanguageTrainee(packer.size), Random(7)
    packed, facts, grid = symbolic_batch(packer, rng, Curriculum(), 3, 0, full_grid=1.0, held_out=True)
    tokens, regions = (
        symbolic_tokens(model.symbols, facts, grid=grid),
        symbolic_regions(model, packed, facts, rng),
    )
    loss, scores, states = model.loss(packed, tokens, regions)
    assert torch.isfinite(loss)
    assert set(scores) >= {"pose", "describe", "in_context", "generate", "edit"}
    (loss + sum(found.square().mean() for found in states.values())).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_links_point_at_their_queries(packer: Packer) -> None:
    rng = Random(11)
    scene = random_scene(rng)
    kinds = ["detect", "ground", "mixed", "segment", "pose", "generate", "edit"]
    found = branches(scene, kinds, rng, packer)
    packed = pack([(packer.prefix(SYSTEM), [], found)], packer.control["<im_patch>"], GRID)
    for table, places in packed.links.items():
        tokens = {packer.control[token] for token, its in TABLES.items() if its == table}
        queries = packer.query_ids if TABLE_SIZES[table] == 4 else [packer.control["[EMB]"]] * 64
        assert len(places)
        for place in places.tolist():
            assert packed.ids[place : place + len(queries)].tolist() == queries
            assert packed.ids[place - 1].item() in tokens
    assert len(packed.keypoints) == len(packed.links["pose"])
    assert [len(packed.orders[table]) for table in ("gen", "edit")] == [1, 1]


def test_targets_are_the_next_tokens(packer: Packer) -> None:
    rng = Random(2)
    scene = random_scene(rng)
    packed = pack(
        [(packer.prefix(SYSTEM), [0, 5], branches(scene, list(VQA_KINDS), rng, packer))],
        packer.control["<im_patch>"],
        GRID,
    )
    assert torch.equal(packed.ids[packed.learn + 1], packed.targets)
    assert packed.weights.sum() == pytest.approx(len(packed.kinds), rel=1e-5)


def test_requests_that_need_an_image_are_not_made_without_one(packer: Packer) -> None:
    scene = random_scene(Random(3))
    found = branches(scene, ["describe", "in_context", "detect"], Random(3), packer, opening="")
    assert len(found) == 1
    assert not found[0].regions


def test_a_curriculum_may_leave_skills_out() -> None:
    curriculum = Curriculum(kinds_of(["pose"]))
    curriculum.resume({"pose": 0.25, "describe": 0.5})
    assert curriculum.error["pose"] == 0.25
    assert set(curriculum.error) == set(ALL_MAKERS) - set(SKILLS["regions"]) - set(SKILLS["drawing"])


def test_the_curriculum_asks_what_is_still_wrong() -> None:
    curriculum = Curriculum()
    for _ in range(2000):
        curriculum.note({"count": [False], **{kind: [True] for kind in ALL_MAKERS if kind != "count"}})
    drawn = curriculum.draw(Random(0), 5000)
    assert drawn.count("count") > 2500
    assert set(drawn) == set(ALL_MAKERS)  # nothing is forgotten
