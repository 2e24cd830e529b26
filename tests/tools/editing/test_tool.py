from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tests.tools.diffusion.small import SIDE, link, small_config
from visionllm_sdk.errors import ToolError
from visionllm_sdk.tool import ToolRequest
from visionllm_tools.diffusion.tool import PictureTruth
from visionllm_tools.editing.keeping import keep_unchanged
from visionllm_tools.editing.tool import EditingOptions, EditingTool

Request = ToolRequest[EditingOptions]


@pytest.fixture(scope="module")
def tool() -> EditingTool:
    return build(keep_threshold=None)


def build(**changes: Any) -> EditingTool:
    torch.manual_seed(0)
    made = EditingTool.from_config(small_config("ip2p", **changes))
    assert made is not None
    made.decoder.eval()
    return made


def picture(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (40, 90, 160))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill=(230, 40, 40))
    return image


def request(image: Image.Image | None, number: int = 0, **options: Any) -> Request:
    return ToolRequest(
        token="[EDIT]",
        links=(link("[EDIT]", number),),
        options=EditingOptions(**({"prompt": "make it green", "seed": 1} | options)),
        image=image,
    )


@pytest.mark.parametrize("size", [(SIDE, SIDE), (61, 47), (300, 20), (9, 400), (1, 1), (128, 96)])
def test_the_edited_image_has_the_size_of_its_input(tool: EditingTool, size: tuple[int, int]) -> None:
    (result,) = tool.run([request(picture(*size))])
    assert result.image.size == size == (result.width, result.height)
    assert result.image_guidance == 1.5
    assert result.prompt == "make it green"


def test_the_input_is_not_changed(tool: EditingTool) -> None:
    image = picture(50, 40)
    before = image.tobytes()
    tool.run([request(image)])
    assert image.tobytes() == before


def test_the_image_reaches_the_denoiser(tool: EditingTool) -> None:
    one, other = tool.run([request(picture(32, 32)), request(Image.new("RGB", (32, 32), "white"))])
    assert np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max() > 1


def test_image_guidance_changes_the_result(tool: EditingTool) -> None:
    image = picture(32, 32)
    one, other = tool.run([request(image, guidance=2.0, image_guidance=value) for value in (1.0, 4.0)])
    assert other.image_guidance == 4.0
    assert np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max() > 1


def test_a_mixed_batch_is_that_of_single_calls(tool: EditingTool) -> None:
    requests = [request(picture(32, 32)), request(picture(64, 32), 1, seed=4), request(picture(40, 40), 2)]
    for wanted, found in zip(requests, tool.run(requests), strict=True):
        alone = tool.run([wanted])[0]
        assert np.abs(np.asarray(alone.image, int) - np.asarray(found.image, int)).max() <= 1


def test_an_edit_without_an_image(tool: EditingTool) -> None:
    with pytest.raises(ToolError, match="needs an image"):
        tool.run([request(None)])


def test_training_reads_the_input_image(tool: EditingTool) -> None:
    image = picture(32, 32)
    torch.manual_seed(0)
    first = tool.loss([request(image)], [PictureTruth(image=image)])
    torch.manual_seed(0)
    given = tool.loss([request(None)], [PictureTruth(image=image, source=image)])
    assert torch.equal(first.total, given.total)
    torch.manual_seed(0)
    other = tool.loss([request(Image.new("RGB", (32, 32)))], [PictureTruth(image=image)])
    assert not torch.equal(first.total, other.total)
    first.total.backward()


def test_what_did_not_change_is_kept_exactly() -> None:
    """A fine pattern that the work cannot resolve survives outside of the changed place."""
    rows, columns = np.mgrid[:128, :128]
    fine = np.where((rows + columns) % 2, 90, 110).astype(np.uint8)
    image = Image.fromarray(np.stack([fine] * 3, axis=-1))
    before = image.resize((32, 32), Image.Resampling.BOX)
    after = before.copy()
    ImageDraw.Draw(after).rectangle((8, 8, 15, 15), fill=(220, 30, 30))
    result = np.asarray(keep_unchanged(image, before, after, threshold=0.04))
    assert result.shape == (128, 128, 3)
    assert np.array_equal(result[:24], np.asarray(image)[:24])
    assert np.array_equal(result[80:], np.asarray(image)[80:])
    assert np.abs(result[40:56, 40:56].astype(int) - (220, 30, 30)).max() <= 8


def test_tiny_changes_count_as_none() -> None:
    image = picture(32, 32)
    noisy = np.clip(np.asarray(image, int) + np.random.default_rng(0).integers(-6, 7, (32, 32, 3)), 0, 255)
    result = keep_unchanged(image, image, Image.fromarray(noisy.astype(np.uint8)), threshold=0.04)
    assert result.tobytes() == image.tobytes()


def test_a_checkpoint_may_ask_to_keep() -> None:
    keeping = build(keep_threshold=0.9999)  # nothing changes by more than full scale
    image = picture(50, 30)
    assert keeping.run([request(image)])[0].image.tobytes() == image.tobytes()
