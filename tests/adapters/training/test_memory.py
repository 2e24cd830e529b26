"""What replay keeps: the words and the super-links of the model as it came."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch

from tests.sdk.conftest import drawing_changes, pose_sections, write_random_checkpoint
from visionllm_adapters.training.examples import REPLAY
from visionllm_adapters.training.lessons import Classroom
from visionllm_adapters.training.memory import Memory, Recollection, strayed, supervised
from visionllm_adapters.training.replay import _ASKED, Replay
from visionllm_adapters.training.selection import prepare
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_adapters.training.trainee import Trainee
from visionllm_sdk import VisionLLM
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.core import CoreOutput
from visionllm_sdk.model.prompt import Batch, collate
from visionllm_sdk.scenes.phrases import SHORT_ANSWER_HINT
from visionllm_tools.detection.tool import DetectionTool

NOTHING = CoreOutput(hidden=torch.zeros(0, 0, 1), links=[], states=[], loss=None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {**drawing_changes(), **pose_sections()}
    return write_random_checkpoint(tmp_path_factory.mktemp("all"), changes=changes)


def judge_by_few_points(model: Model) -> None:
    """Spare the time that thousands of points of every mask take."""
    detector = model.tools["detect"]
    assert isinstance(detector, DetectionTool)
    detector.loss_config = replace(detector.loss_config, points=200)


@pytest.fixture
def model(checkpoint: Path) -> Model:
    loaded = VisionLLM.from_pretrained(checkpoint).engine.model
    judge_by_few_points(loaded)
    return loaded


def replayed(model: Model) -> Batch:
    """A few replayed scenes of any kind."""
    room, builder = Classroom(model=model), model.prompt_builder()
    examples = [Replay(room, frozenset()).example(Random(seed)) for seed in range(6)]
    prompts = [
        builder.build(one.turns, [model.tile(image) for image in one.shown], one.regions) for one in examples
    ]
    return collate(prompts, pad_id=model.tokenizer.pad_id)


@torch.no_grad()
def test_a_memory_says_what_the_model_said_however_much_it_learnt(model: Model) -> None:
    batch = replayed(model)
    learning = prepare(model, FinetuneSettings(), ["detect"])
    memory = Memory(model, learning)
    with torch.no_grad():
        output = model.core(batch, loss=False)
        wanted = supervised(batch, output)
        logits, rows = model.core.llm.lm_head(output.hidden[:, :-1][wanted]), wanted.nonzero()[:, 0]
    before = memory.recall(batch)
    words, links = strayed(logits, rows, memory.read(zip(output.links, output.states, strict=True)), before)
    assert float(words) == pytest.approx(0, abs=1e-5)
    assert float(links) == pytest.approx(0, abs=1e-8)

    torch.manual_seed(0)
    core = {id(value) for value in model.core.parameters()}
    with torch.no_grad():
        for value in (one for one in learning.parameters().values() if id(one) in core):
            value.add_(torch.randn_like(value), alpha=0.1)
        output = model.core(batch, loss=False)
        wanted = supervised(batch, output)
        logits, rows = model.core.llm.lm_head(output.hidden[:, :-1][wanted]), wanted.nonzero()[:, 0]
    again = memory.recall(batch)
    torch.testing.assert_close(again.words, before.words)
    for one, other in zip(again.links, before.links, strict=True):
        torch.testing.assert_close(one, other)
    words, links = strayed(logits, rows, memory.read(zip(output.links, output.states, strict=True)), again)
    assert float(words) > 1e-3
    assert float(links) > 1e-3
    assert all(value.requires_grad for value in learning.parameters().values())  # recalling froze nothing


def test_an_answer_counts_by_the_root_of_its_length() -> None:
    then = torch.full((17, 2), 0.5).log()
    now = torch.zeros(17, 2)
    now[:, 0] = 4.0  # every token has strayed as far
    rows = torch.tensor([0] + [1] * 16)
    words, links = strayed(now, rows, [], Recollection(then, [], NOTHING))
    alone, _ = strayed(now[:1], torch.tensor([0]), [], Recollection(then[:1], [], NOTHING))
    assert float(words) == pytest.approx(float(alone) * (1 + 4) / 2)
    assert float(links) == 0


def test_every_super_link_counts_the_same_however_many_numbers_it_has() -> None:
    words = torch.zeros(1, 2).log_softmax(-1)
    then = Recollection(words, [torch.ones(4), torch.ones(64, 8)], NOTHING)
    rows = torch.tensor([0])
    _, first = strayed(words, rows, [torch.ones(4) * 2, torch.ones(64, 8)], then)
    _, second = strayed(words, rows, [torch.ones(4), torch.ones(64, 8) * 2], then)
    assert float(first) == float(second) == pytest.approx(0.5)


def test_what_the_tools_read_is_compared_where_they_say_it(model: Model) -> None:
    memory = Memory(model, prepare(model, FinetuneSettings(), ["detect"]))
    batch = replayed(model)
    with torch.no_grad():
        output = model.core(batch, loss=False)
        readings = memory.read(zip(output.links, output.states, strict=True))
    finds, poses = model.tools["detect"], model.tools["pose"]
    wanted = []
    for link, states in zip(output.links, output.states, strict=True):
        token = link.spec.token
        wanted += [finds.read(token, states)] if token in ("[DET]", "[GRD]", "[SEG]") else []
        wanted += [poses.read(token, states)] if token in ("[DET]", "[POSE]") else []
        wanted += [states] if token in ("[GEN]", "[EDIT]") else []
    assert len(wanted) > len(output.links) > 0
    for one, other in zip(readings, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_what_the_detector_said_is_kept_where_it_learns(checkpoint: Path) -> None:
    """Scores of replayed scenes are held to those of the detector as it came."""
    model = VisionLLM.from_pretrained(checkpoint, dtype="float32").engine.model
    judge_by_few_points(model)
    learning = prepare(model, FinetuneSettings(), ["detect"])
    memory = Memory(model, learning)
    trainee = Trainee(model, ["detect"], memory).train()
    replay = Replay(Classroom(model=model), frozenset({"detect"}))
    drawn = (replay.example(Random(seed)) for seed in range(20))
    examples = list(islice((one for one in drawn if any(call.truth for call in one.calls)), 3))
    assert len(examples) == 3
    for part in ("model.encoder", "model.decoder"):
        model.tools["detect"].decoder.get_submodule(part).eval()  # no noise: the same is said again
    _, terms = trainee(examples)
    assert float(terms["detect_known"].detach()) == pytest.approx(0, abs=1e-3)
    with torch.no_grad():
        for parameter in model.tools["detect"].decoder.patch2query.parameters():
            parameter.mul_(1.5)
    _, terms = trainee(examples)
    assert float(terms["detect_known"].detach()) > 1e-3
    assert memory.found("generate", []) is None  # does not learn


def test_replayed_scenes_pull_the_model_back(model: Model) -> None:
    learning = prepare(model, FinetuneSettings(lora_rate=1e-2), ["detect"])
    trainee = Trainee(model, ["detect"], Memory(model, learning)).train()
    replay = Replay(Classroom(model=model), frozenset())
    examples = [replay.example(Random(seed)) for seed in range(4)]
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in learning.parameters().items():
            if name.startswith("lora."):
                value.add_(torch.randn_like(value), alpha=0.05)
    optimiser = torch.optim.Adam(learning.parameters().values(), lr=3e-3)
    found = []
    for _ in range(14):
        total, terms = trainee(examples)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        assert float(terms["language"].detach()) == 0  # the old answers are the targets, not the true ones
        found.append(float((terms["words"] + terms["links"]).detach()))
    assert found[-1] < 0.5 * found[0]


def test_replay_asks_for_everything(model: Model) -> None:
    replay = Replay(Classroom(model=model), frozenset({"detect", "pose"}))
    found = [replay.example(Random(seed)) for seed in range(150)]
    assert {one.skill for one in found} == {REPLAY}
    tokens = {call.token for one in found for call in one.calls}
    assert tokens == {"[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]"}
    assert any(one.regions for one in found)
    assert any(not one.calls for one in found)
    hinted = [one for one in found if SHORT_ANSWER_HINT in str(one.turns)]
    assert hinted  # as `VisionLLM.ask` asks
    assert len(hinted) < len(found) / 2
    judged = [call for one in found for call in one.calls if call.token != "[GEN]"]
    assert all(call.truth is not None for call in judged)
    unjudged = Replay(Classroom(model=model), frozenset())
    assert all(call.truth is None for seed in range(20) for call in unjudged.example(Random(seed)).calls)


def test_every_kind_can_be_learnt_from(model: Model) -> None:
    replay = Replay(Classroom(model=model), frozenset({"detect", "pose"}))
    trainee = Trainee(model, ["detect", "pose"])
    for kind in _ASKED:
        asked = (replay._asked(kind, Random(seed)) for seed in range(6))
        total, _ = trainee([next(one for one in asked if one is not None)])
        assert torch.isfinite(total), kind
