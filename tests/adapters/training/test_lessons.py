"""Regions and pictures: every kind of lesson goes through training, measuring and loading again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image

from tests.adapters.conftest import QUICK
from tests.sdk.conftest import write_random_checkpoint
from visionllm_adapters import evaluate, finetune
from visionllm_adapters.data import read_data
from visionllm_adapters.scoring.pictures import common_colours, likeness
from visionllm_adapters.training.curriculum import LESSONS
from visionllm_adapters.training.lessons import Classroom
from visionllm_adapters.training.sizes import InputSizes
from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import AdapterError, InputError
from visionllm_sdk.geometry import Box


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, with regions, generation and editing."""
    from visionllm_tools.diffusion.embedded import embedded_section

    changes: dict[str, Any] = {"use_sd": True, "use_ip2p": True}
    for name in ("sd", "ip2p"):
        section = embedded_section(
            64, editing=name == "ip2p", widths=(32, 32), condition=32, queries=4, side=32
        )
        section["visionllm_sdk"] |= {"steps": 2}
        changes[f"{name}_config"] = section
    return write_random_checkpoint(tmp_path_factory.mktemp("drawing"), changes=changes)


def write_lines(folder: Path, labels: Path, kind: str) -> Path:
    """Captions of the labelled pictures, or edits from one to the next."""
    names = [f"{number}.png" for number in range(4)]
    lines: list[dict[str, Any]] = [
        {"image": name, "caption": f"a red cup and a blue plate, {number}"}
        for number, name in enumerate(names)
    ]
    if kind == "edit":
        lines = [
            {"before": name, "instruction": f"move the cup, {number}", "after": names[number - 1]}
            for number, name in enumerate(names)
        ]
    path = folder / f"{kind}.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_regions(drawing: Path, val_labels: Path, tmp_path: Path) -> None:
    skills = ["describe", "classify", "segment_regions"]
    out = tmp_path / "marked"
    report = finetune(
        val_labels, output=out, model=drawing, skill=skills, **{**QUICK, "steps": 1, "batch": 3}
    )
    assert list(report.skills) == skills
    vlm = VisionLLM.from_pretrained(drawing)
    name = vlm.load_adapter(out)
    assert any(key.startswith("region_encoder.") for key in vlm.engine.rack()._loaded[name].own)  # type: ignore[attr-defined]
    for skill in skills:
        again = evaluate(val_labels, skill=skill, model=vlm, adapter=name)
        assert again.value == pytest.approx(report.skills[skill].after.value, abs=0.02)
    picture = Image.open(val_labels.parent / "0.png").convert("RGB")
    middle = Box(20, 16, 60, 48)
    asked: dict[str, Callable[..., Any]] = {
        "classify": lambda images, **more: vlm.classify(images, middle, ["cup", "plate"], **more),
        "describe": lambda images, **more: vlm.describe(images, middle, **more),
        "segment_regions": lambda images, **more: vlm.segment_regions(images, middle, **more),
        "segment_like": lambda images, **more: vlm.segment_like(
            picture, middle, images, threshold=0.0, **more
        ),
    }
    for skill, ask in asked.items():
        plain, taught = ask([picture]), ask([picture], adapter=name)
        assert skill == "describe" or plain != taught  # words may stay the same after one step
        assert ask([picture]) == plain
        mixed = ask([picture, picture], adapter=[None, name])
        assert len(mixed) == 2
        with pytest.raises(AdapterError, match="no such adapter"):
            ask(picture, adapter="nobody")
    assert asyncio.run(vlm.aclassify(picture, middle, ["cup", "plate"], adapter=name)) == asked["classify"](
        picture, adapter=name
    )


@pytest.mark.parametrize("skill", ["generate", "edit"])
def test_pictures(drawing: Path, labels: Path, tmp_path: Path, skill: str) -> None:
    data = write_lines(tmp_path, labels, skill)
    out = tmp_path / "style"
    report = finetune(
        data, images=labels.parent, output=out, model=drawing, skill=skill, **{**QUICK, "preset": "light"}
    )
    assert 0 <= report.skills[skill].after.value <= 1
    assert (out / f"{skill}.png").is_file()
    vlm = VisionLLM.from_pretrained(drawing)
    name = vlm.load_adapter(out)
    picture = Image.open(labels.parent / "0.png").convert("RGB")
    both = [
        vlm.generate("a cup", seed=1, adapter=one)
        if skill == "generate"
        else vlm.edit(picture, "move the cup", seed=1, adapter=one)
        for one in (None, name)
    ]
    assert both[0].image.tobytes() != both[1].image.tobytes()


def test_a_lesson_marks_what_it_speaks_of(drawing: Path, labels: Path) -> None:
    model = VisionLLM.from_pretrained(drawing).engine.model
    room = Classroom(model=model, flip=False, zoom=1.0)
    data = read_data(labels)
    lesson = LESSONS["segment_regions"](data, room)
    example = lesson.example(lesson.items[0], Random(0))
    assert len(example.regions) == len(example.calls[0].labels) == len(example.calls[0].truth.boxes)
    words = LESSONS["classify"](data, room)
    for item in words.items[:4]:
        one = words.example(item, Random(1))
        thing = data.records[0].learnable[item[1]] if item[0] is data.records[0] else None
        if thing is not None:
            assert one.turns[0].answer == (thing.label,)
            rows, columns = torch.nonzero(one.regions[0].mask, as_tuple=True)
            side = model.config.image_size
            middle = (float(columns.float().mean()) * 96 / side, float(rows.float().mean()) * 64 / side)
            assert thing.box.contains(*middle)


def test_regions_need_a_region_encoder(tiny_checkpoint: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no region encoder"):
        finetune(labels, output=tmp_path / "out", model=tiny_checkpoint, skill="classify", **QUICK)


def test_generation_needs_a_decoder(tiny_checkpoint: Path, labels: Path, tmp_path: Path) -> None:
    data = write_lines(tmp_path, labels, "generate")
    with pytest.raises(InputError, match="no decoder"):
        finetune(
            data,
            images=labels.parent,
            output=tmp_path / "out",
            model=tiny_checkpoint,
            skill="generate",
            **QUICK,
        )


def test_likeness_of_pictures() -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    assert common_colours(red, red) == likeness(red, red) == 1
    assert common_colours(red, blue) == 0
    assert likeness(red, blue) == pytest.approx(1 / 3)


def test_small_pictures_first(drawing: Path) -> None:
    model = VisionLLM.from_pretrained(drawing).engine.model
    decoder: Any = model.tools["detect"].decoder
    used = decoder.config
    sizes = InputSizes(model, ["detect", "generate"], share=0.999, seed=0)
    with sizes.at(0, 0.1):
        assert decoder.config.longest_edge <= used.longest_edge
        assert decoder.config is not used
    assert decoder.config is used
    with sizes.at(0, 0.9):
        assert decoder.config is used
