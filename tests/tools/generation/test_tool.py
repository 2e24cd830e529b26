from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tools.diffusion.reference import TEXT, UNET, VAE
from tests.tools.diffusion.small import QUERIES, SIDE, WIDTH, link, small_config
from visionllm_sdk.errors import (
    CheckpointError,
    DataError,
    GenerationCancelled,
    GenerationError,
    InputError,
    ToolError,
)
from visionllm_sdk.model.decoding import CancelToken
from visionllm_sdk.tool import SuperLink, ToolRequest
from visionllm_tools.diffusion.options import Progress
from visionllm_tools.diffusion.released import SCHEDULER
from visionllm_tools.diffusion.schedules import sampler_names
from visionllm_tools.diffusion.tool import PictureTruth
from visionllm_tools.generation.tool import GenerationOptions, GenerationTool

Request = ToolRequest[GenerationOptions]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tool() -> GenerationTool:
    return build(small_config("sd"))


def build(config: dict[str, Any]) -> GenerationTool:
    torch.manual_seed(0)
    made = GenerationTool.from_config(config)
    assert made is not None
    made.decoder.eval()
    return made


def request(number: int = 0, *, context: tuple[SuperLink, ...] = (), **options: Any) -> Request:
    return ToolRequest(
        token="[GEN]",
        links=(link("[GEN]", number),),
        options=GenerationOptions(**({"prompt": "a red star", "seed": 1} | options)),
        context=context,
    )


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image, dtype=np.int16)


def test_a_picture_says_how_it_was_made(tool: GenerationTool) -> None:
    (result,) = tool.run([request(guidance=3.0, steps=2)])
    assert result.image.size == (SIDE, SIDE) == (result.width, result.height)
    assert result.image.mode == "RGB"
    assert (result.prompt, result.seed, result.steps, result.guidance) == ("a red star", 1, 2, 3.0)
    defaults = tool.run([request()])[0]
    assert (defaults.steps, defaults.guidance) == (3, tool.config.cfg_scale)


def test_same_seed_same_bytes(tool: GenerationTool) -> None:
    first, second = (tool.run([request(seed=5)])[0].to_png() for _ in range(2))
    assert first == second
    assert tool.run([request(seed=6)])[0].to_png() != first


def test_a_drawn_seed_is_named(tool: GenerationTool) -> None:
    one, other = tool.run([request(seed=None), request(seed=None)])
    assert one.seed != other.seed
    again = tool.run([request(seed=one.seed)])[0]
    assert np.abs(pixels(again.image) - pixels(one.image)).max() <= 1


def test_a_batch_gives_every_request_its_own_picture(tool: GenerationTool) -> None:
    """Whatever the mix of seeds, sizes, steps and guidance, a picture is that of its request alone."""
    requests = [
        request(0, seed=1),
        request(1, seed=1),
        request(0, seed=2, steps=2),
        request(1, seed=3, guidance=1.0),
        request(0, seed=4, size=(64, 32)),
        request(2, seed=5, sampler="dpmpp_2m"),
    ]
    together = tool.run(requests)
    assert together[4].image.size == (64, 32)
    for wanted, found in zip(requests, together, strict=True):
        alone = tool.run([wanted])[0]
        assert np.abs(pixels(alone.image) - pixels(found.image)).max() <= 1
    assert np.abs(pixels(together[0].image) - pixels(together[1].image)).max() > 1


def test_words_steer_the_picture_only_with_guidance(tool: GenerationTool) -> None:
    weak, strong = (tool.run([request(guidance=value)])[0].image for value in (1.0, 8.0))
    assert np.abs(pixels(weak) - pixels(strong)).max() > 1


def test_a_negative_prompt_comes_as_a_super_link(tool: GenerationTool) -> None:
    plain = tool.run([request(guidance=4.0)])[0]
    away = tool.run([request(guidance=4.0, negative_prompt="blue", context=(link("[GEN]", 9),))])[0]
    assert away.negative_prompt == "blue"
    assert np.abs(pixels(plain.image) - pixels(away.image)).max() > 1
    with pytest.raises(ToolError, match="negative prompt"):
        tool.run([request(guidance=4.0, negative_prompt="blue")])
    with pytest.raises(InputError, match="does nothing without guidance"):
        tool.run([request(guidance=1.0, negative_prompt="blue", context=(link("[GEN]", 9),))])


def test_sizes(tool: GenerationTool) -> None:
    """The checkpoint works near its own size and then enlarges."""
    assert tool.run([request(size=64)])[0].image.size == (64, 64)
    for size in (30, 36, 10_000, (32, 33)):
        with pytest.raises(InputError, match="multiples of 8"):
            tool.run([request(size=size)])


def test_an_unknown_sampler(tool: GenerationTool) -> None:
    with pytest.raises(InputError, match="unipc"):
        tool.run([request(sampler="magic")])


def test_progress_and_previews(tool: GenerationTool) -> None:
    seen: list[Progress] = []
    (result,) = tool.run([request(watch=seen.append)])
    assert [progress.step for progress in seen] == [1, 2, 3]
    assert {progress.steps for progress in seen} == {3}
    assert seen[-1].share == 1
    last = seen[-1].preview()
    assert last.size == (SIDE, SIDE)
    assert np.abs(pixels(last) - pixels(result.image)).max() <= 1
    assert np.abs(pixels(seen[0].preview()) - pixels(result.image)).max() > 1


def test_cancelling_stops_after_the_current_step(tool: GenerationTool) -> None:
    cancel, steps = CancelToken(), []

    def watch(progress: Progress) -> None:
        steps.append(progress.step)
        if progress.step == 2:
            cancel.cancel()

    with pytest.raises(GenerationCancelled, match="after step 2 of 6"):
        tool.run([request(steps=6, watch=watch, cancel=cancel)])
    assert steps == [1, 2]


def test_one_cancelled_request_does_not_stop_the_others(tool: GenerationTool) -> None:
    cancel = CancelToken()
    cancel.cancel()
    results = tool.run([request(cancel=cancel), request(1)])
    assert np.abs(pixels(results[1].image) - pixels(tool.run([request(1)])[0].image)).max() <= 1


def test_a_safety_checker_holds_pictures_back(tool: GenerationTool) -> None:
    asked = []

    def checker(image: Image.Image, prompt: str) -> str | None:
        asked.append((image.size, prompt))
        return "too red" if "red" in prompt else None

    checked = GenerationTool(tool.decoder, safety=checker)
    refused, passed = checked.run([request(), request(prompt="a blue star")])
    assert asked == [((SIDE, SIDE), "a red star"), ((SIDE, SIDE), "a blue star")]
    assert refused.refused == "too red"
    with pytest.raises(GenerationError, match="too red"):
        _ = refused.image
    assert passed.image.size == (SIDE, SIDE)


def test_wrong_super_links(tool: GenerationTool) -> None:
    options = GenerationOptions()
    with pytest.raises(ToolError, match="one super-link"):
        tool.run([ToolRequest(token="[GEN]", links=(link("[GEN]"),) * 2, options=options)])
    with pytest.raises(ToolError, match="does not fit"):
        tool.run([ToolRequest(token="[GEN]", links=(link("[GEN]", width=WIDTH + 1),), options=options)])


def test_the_record_names_the_words_that_led_here(tool: GenerationTool) -> None:
    by_label = ToolRequest(token="[GEN]", links=(link("[GEN]", label="a cat"),), options=GenerationOptions())
    by_text = ToolRequest(
        token="[GEN]", links=(link("[GEN]"),), options=GenerationOptions(), instruction="draw a dog"
    )
    assert [result.prompt for result in tool.run([by_label, by_text])] == ["a cat", "draw a dog"]


def test_training_lowers_the_loss() -> None:
    tool = build(small_config("sd"))
    image = Image.new("RGB", (SIDE, SIDE), (200, 30, 30))
    requests, targets = [request(0), request(1)], [PictureTruth(image=image)] * 2
    optimizer = torch.optim.Adam(tool.decoder.parameters(), lr=2e-3)
    losses = []
    for _ in range(5):
        torch.manual_seed(0)
        loss = tool.loss(requests, targets)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert losses[-1] < 0.9 * losses[0]


def test_training_wants_pictures_of_one_size(tool: GenerationTool) -> None:
    small, large = (PictureTruth(image=Image.new("RGB", (side, side))) for side in (32, 64))
    with pytest.raises(DataError, match="size"):
        tool.loss([request(), request()], [small, large])
    with pytest.raises(DataError, match="one ground truth"):
        tool.loss([request()], [])


@pytest.fixture(scope="module")
def classic() -> GenerationTool:
    """Of the released kind: learned autoencoder, text encoder, noise prediction."""
    parts = {"unet": {**UNET, "sample_size": 16}, "vae": VAE, "text_encoder": TEXT, "steps": 2}
    section = {"llm_hidden_size": WIDTH, "sd_hidden_size": 32, "visionllm_sdk": parts}
    return build({"llm_config": {"hidden_size": WIDTH}, "use_sd": True, "sd_config": section})


@pytest.mark.parametrize("sampler", [None, *sampler_names(SCHEDULER)])
def test_every_sampler_draws(classic: GenerationTool, sampler: str | None) -> None:
    (result,) = classic.run([request(sampler=sampler)])
    assert result.image.size == (32, 32)
    assert result.sampler == sampler


def test_released_sizes_are_made_as_asked(classic: GenerationTool) -> None:
    assert classic.run([request(size=(48, 32))])[0].image.size == (48, 32)


def test_the_caption_loss_needs_a_text_encoder(classic: GenerationTool, tool: GenerationTool) -> None:
    image, ids = Image.new("RGB", (32, 32)), torch.randint(0, 512, (77,))
    with_ids = classic.loss([request()], [PictureTruth(image=image, caption_ids=ids)])
    assert set(with_ids.terms) == {"noise", "caption"}
    assert torch.allclose(with_ids.total, sum(with_ids.terms.values()))
    assert set(classic.loss([request()], [PictureTruth(image=image)]).terms) == {"noise"}
    assert set(tool.loss([request()], [PictureTruth(image=image, caption="a star")]).terms) == {"noise"}


def test_captions_and_negative_prompts_need_the_tokenizer(classic: GenerationTool) -> None:
    image = Image.new("RGB", (32, 32))
    calls: list[Callable[[], object]] = [
        lambda: classic.loss([request()], [PictureTruth(image=image, caption="a star")]),
        lambda: classic.run([request(negative_prompt="blue")]),
    ]
    for call in calls:
        with pytest.raises(CheckpointError, match="tokenizer"):
            call()


def test_description() -> None:
    described = GenerationTool.describe()
    assert described.name == "generate"
    assert not described.needs_image
    assert "seed" in described.options_schema["properties"]
    assert GenerationTool.table.size({"num_embs_gen": QUERIES}) == QUERIES
    assert GenerationTool.table.size({}) == 64


def test_offering_the_tools_does_not_import_the_library() -> None:
    """Only a checkpoint with such a decoder needs it."""
    code = (
        "import sys, visionllm_tools.generation.tool as g, visionllm_tools.editing.tool as e\n"
        "assert g.GenerationTool.from_config({}) is None and e.EditingTool.from_config({}) is None\n"
        "print('diffusers' in sys.modules)"
    )
    roots = [str(ROOT / name) for name in (".", "tools")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {roots!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
