"""Adapters in use: nothing is lost on the way to the disk, and the base is untouched by them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.adapters.conftest import write_tiny_checkpoint
from visionllm_adapters import evaluate, export_merged
from visionllm_adapters.folder import LORA, MANIFEST, MODULES, read_manifest
from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import AdapterError, InputError
from visionllm_sdk.generation import GenerationOptions

WORDS = ["cup", "plate"]
SHORT = GenerationOptions(max_new_tokens=6)


@pytest.fixture
def pictures(labels: Path) -> list[Image.Image]:
    return [Image.open(labels.parent / f"{number}.png").convert("RGB") for number in range(3)]


def everything(vlm: VisionLLM, pictures: Any, **settings: Any) -> list[Any]:
    """What a model says about pictures, to the last bit."""
    found = vlm.detect(pictures, WORDS, threshold=0.0, **settings)
    questions = ["What is it?"] * len(pictures)
    replies = vlm.chat(questions, [[one] for one in pictures], options=SHORT, forbid="detect", **settings)
    return [(one.model_dump(), reply.text) for one, reply in zip(found, replies, strict=True)]


def test_the_folder_is_one_of_peft(adapter: Path, tiny_vlm: VisionLLM) -> None:
    from visionllm_adapters.library import peft_library

    names = {path.name for path in adapter.iterdir()}
    expected = {"adapter_config.json", LORA, MODULES, MANIFEST, "README.md", "log.csv", "curves.png"}
    assert expected <= names
    assert {"report.json", "report.html", "detect.png"} <= names
    with peft_library() as peft:
        model = peft.PeftModel.from_pretrained(tiny_vlm.engine.model.core.llm, str(adapter))
    assert model.active_adapter == "default"
    manifest = read_manifest(adapter)
    assert manifest.skills == ("detect", "ground")
    assert set(manifest.files) == {"adapter_config.json", LORA, MODULES}


def test_nothing_is_left_of_an_adapter_but_by_name(
    adapter: Path, tiny_vlm: VisionLLM, pictures: list[Image.Image]
) -> None:
    before = everything(tiny_vlm, pictures)
    layers = dict(tiny_vlm.engine.model.core.llm.named_modules())
    name = tiny_vlm.load_adapter(adapter)
    assert name == "kitchen"
    assert tiny_vlm.adapters == ("kitchen",)
    assert everything(tiny_vlm, pictures) == before
    with_it = everything(tiny_vlm, pictures, adapter=name)
    assert with_it != before
    assert everything(tiny_vlm, pictures) == before
    mixed = everything(tiny_vlm, pictures, adapter=[None, name, None])
    for got, wanted in zip(mixed, [before[0], with_it[1], before[2]], strict=True):
        assert got[1] == wanted[1]
        boxes = [
            np.array([list(d["box"].values())[1:] for d in one[0]["detections"]]) for one in (got, wanted)
        ]
        np.testing.assert_allclose(boxes[0], boxes[1], atol=0.05)
    tiny_vlm.unload_adapter(name)
    after = dict(tiny_vlm.engine.model.core.llm.named_modules())
    assert all(after[path] is layer for path, layer in layers.items())
    # What the mixed call read of the pictures is remembered, and it read them in batches of other sizes.
    for got, wanted in zip(everything(tiny_vlm, pictures), before, strict=True):
        assert got[1] == wanted[1]
        for found, known in zip(got[0]["detections"], wanted[0]["detections"], strict=True):
            assert found["score"] == pytest.approx(known["score"], rel=1e-4)
            assert found["mask"] == known["mask"]
    with pytest.raises(AdapterError, match="no such adapter"):
        tiny_vlm.detect(pictures[0], WORDS, adapter=name)


def test_two_adapters_side_by_side(adapter: Path, tiny_vlm: VisionLLM, pictures: list[Image.Image]) -> None:
    first = tiny_vlm.load_adapter(adapter, "first")
    alone = everything(tiny_vlm, pictures, adapter=first)
    second = tiny_vlm.load_adapter(adapter, "second")
    assert everything(tiny_vlm, pictures, adapter=second) == alone
    tiny_vlm.unload_adapter(first)
    assert everything(tiny_vlm, pictures, adapter=second) == alone
    with pytest.raises(AdapterError, match="of this name is loaded"):
        tiny_vlm.load_adapter(adapter, "second")
    with pytest.raises(AdapterError, match="cannot be added"):
        tiny_vlm.combine_adapters({"second": 0.5}, "half")
    with pytest.raises(InputError, match="one entry for every item"):
        tiny_vlm.detect(pictures, WORDS, adapter=["second"])


def test_conversations_choose_one(adapter: Path, tiny_vlm: VisionLLM, pictures: list[Image.Image]) -> None:
    name = tiny_vlm.load_adapter(adapter)
    plain = tiny_vlm.chat("What is it?", pictures[0], options=SHORT).text
    taught = tiny_vlm.chat("What is it?", pictures[0], adapter=name, options=SHORT).text
    assert tiny_vlm.chat("What is it?", pictures[0], options=SHORT).text == plain
    events = list(tiny_vlm.stream("What is it?", pictures[0], adapter=name, options=SHORT))
    assert events[-1].reply.text == taught  # type: ignore[union-attr]
    both = tiny_vlm.chat(["What is it?"] * 2, [pictures[0]] * 2, adapter=[name, None], options=SHORT)
    assert [reply.text for reply in both] == [taught, plain]


def test_merged_is_unmerged(adapter: Path, tiny_checkpoint: Path, labels: Path, tmp_path: Path) -> None:
    picture = Image.open(labels.parent / "0.png").convert("RGB")
    vlm = VisionLLM.from_pretrained(tiny_checkpoint)
    wanted = vlm.detect(picture, WORDS, threshold=0.0, adapter=vlm.load_adapter(adapter))
    merged = export_merged(adapter, tmp_path / "merged", model=tiny_checkpoint)
    found = VisionLLM.from_pretrained(merged).detect(picture, WORDS, threshold=0.0)
    np.testing.assert_allclose(found.boxes(), wanted.boxes(), atol=0.02)
    np.testing.assert_allclose([d.score for d in found], [d.score for d in wanted], atol=1e-4)
    with pytest.raises(AdapterError, match="exists already"):
        export_merged(adapter, tmp_path / "merged", model=tiny_checkpoint)


def shifted(adapter: Path, folder: Path, shift: Any) -> Path:
    """A copy of an adapter that says how scores are shifted."""
    copy = Path(shutil.copytree(adapter, folder / f"shifted-{len(list(folder.iterdir()))}"))
    content = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(content | {"score_shift": shift}))
    return copy


def logits(vlm: VisionLLM, pictures: list[Image.Image], **settings: Any) -> list[float]:
    found = vlm.detect(pictures[0], WORDS, threshold=0.0, masks=False, **settings)
    scores = torch.tensor([one.score for one in found], dtype=torch.float64)
    return scores.logit().tolist()


def test_scores_are_shifted_only_while_the_adapter_answers(
    adapter: Path, tiny_vlm: VisionLLM, pictures: list[Image.Image], tmp_path: Path
) -> None:
    base = logits(tiny_vlm, pictures)
    plain = tiny_vlm.load_adapter(adapter)
    name = tiny_vlm.load_adapter(shifted(adapter, tmp_path, {"detect": 0.5}))
    wanted = [score + 0.5 for score in logits(tiny_vlm, pictures, adapter=plain)]
    assert logits(tiny_vlm, pictures, adapter=name) == pytest.approx(wanted, abs=1e-4)
    assert logits(tiny_vlm, pictures) == base
    tiny_vlm.unload_adapter(name)
    assert logits(tiny_vlm, pictures) == base


def test_a_merged_model_keeps_its_shift(
    adapter: Path, tiny_checkpoint: Path, tiny_vlm: VisionLLM, pictures: list[Image.Image], tmp_path: Path
) -> None:
    folder = shifted(adapter, tmp_path, {"detect": -0.5})
    export_merged(folder, tmp_path / "merged", model=tiny_checkpoint)
    merged = VisionLLM.from_pretrained(tmp_path / "merged")
    wanted = logits(tiny_vlm, pictures, adapter=tiny_vlm.load_adapter(folder))
    assert logits(merged, pictures) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("shift", [{"detect": float("nan")}, {"pose": 0.5}, {"detect": "much"}, [1.0]])
def test_a_shift_that_cannot_be(adapter: Path, tiny_vlm: VisionLLM, tmp_path: Path, shift: Any) -> None:
    with pytest.raises(AdapterError):
        tiny_vlm.load_adapter(shifted(adapter, tmp_path, shift))
    assert tiny_vlm.adapters == ()


def test_evaluate_with_and_without(adapter: Path, tiny_vlm: VisionLLM, val_labels: Path) -> None:
    base = evaluate(val_labels, model=tiny_vlm)
    taught = evaluate(val_labels, model=tiny_vlm, adapter=adapter)
    assert tiny_vlm.adapters == ()
    assert {"ap", "ap50", "ap75", "mask_ap"} <= base.as_dict().keys()
    report = json.loads((adapter / "report.json").read_text())["skills"]["detect"]
    assert report["before"]["ap"] == pytest.approx(base.figures["ap"])
    assert report["after"]["ap"] == pytest.approx(taught.figures["ap"])


def test_an_adapter_of_another_base(adapter: Path, tmp_path: Path) -> None:
    other = VisionLLM.from_pretrained(write_tiny_checkpoint(tmp_path, seed=5))
    with pytest.raises(AdapterError, match="another base model"):
        other.load_adapter(adapter)


@pytest.mark.parametrize("name", [LORA, MODULES, "adapter_config.json"])
def test_a_tampered_or_incomplete_adapter(
    adapter: Path, tiny_vlm: VisionLLM, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(adapter, copy)
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(AdapterError, match="was changed"):
        tiny_vlm.load_adapter(copy)
    (copy / name).unlink()
    with pytest.raises(AdapterError, match="incomplete"):
        tiny_vlm.load_adapter(copy)
    assert tiny_vlm.adapters == ()


def test_a_later_layout_is_said_to_be_one(adapter: Path, tiny_vlm: VisionLLM, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(adapter, copy)
    content = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**content, "version": 2, "licence": "MIT"}))
    with pytest.raises(AdapterError, match="another layout"):
        tiny_vlm.load_adapter(copy)
    for odd in ({"files": []}, {"base": 5}):
        (copy / MANIFEST).write_text(json.dumps({**content, **odd}))
        with pytest.raises(AdapterError, match="cannot be read"):
            tiny_vlm.load_adapter(copy)


def test_what_is_no_adapter(tiny_vlm: VisionLLM, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no such adapter"):
        tiny_vlm.load_adapter(tmp_path / "nothing")
    with pytest.raises(AdapterError, match="not an adapter folder"):
        tiny_vlm.load_adapter(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(AdapterError, match="cannot be read"):
        tiny_vlm.load_adapter(tmp_path)


def test_what_learns_reaches_through_the_super_links(tiny_vlm: VisionLLM, labels: Path) -> None:
    """The detector's loss alone moves the language model, the queries and the routing tokens' rows."""
    from visionllm_adapters.data import read_data
    from visionllm_adapters.training.decoder_losses import fit_losses
    from visionllm_adapters.training.lessons import Classroom, DetectLesson
    from visionllm_adapters.training.selection import prepare
    from visionllm_adapters.training.settings import FinetuneSettings
    from visionllm_adapters.training.trainee import Trainee

    model = tiny_vlm.engine.model
    settings = FinetuneSettings(preset="light", points=64)
    lesson = DetectLesson(read_data(labels), Classroom(model=model))
    learning = prepare(model, settings, ["detect"])
    fit_losses(model, ["detect"], settings)
    trainee = Trainee(model, ["detect"]).train()
    from random import Random

    total, terms = trainee([lesson.example(lesson.items[0], Random(0))])
    (total - terms["language"]).backward()
    moved = {
        name for name, p in learning.parameters().items() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert "emb_embeddings_det.weight" in moved
    assert any("patch2query" in name for name in moved)
    assert any("embed_tokens" in name for name in moved)
    assert sum("lora_B" in name for name in moved) >= 7
    frozen = [p for p in trainee.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)
    assert not any(p.requires_grad for n, p in trainee.named_parameters() if "backbone" in n)
    assert isinstance(terms["language"], torch.Tensor)
