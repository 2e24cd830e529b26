from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from visionllm_sdk.errors import ArtifactError, GenerationError, HandleError, ImageError, InputError
from visionllm_sdk.images import ImageLimits
from visionllm_sdk.results import EditedImage, GeneratedImage, Picture, revive
from visionllm_sdk.skills.shelf import PictureShelf


def generated(**changes: Any) -> GeneratedImage:
    numbers = {"width": 60, "height": 40, "prompt": "a red star", "seed": 3, "steps": 10, "guidance": 2.0}
    return GeneratedImage(**(numbers | changes))


@pytest.fixture
def result(picture: Image.Image) -> GeneratedImage:
    return generated().with_image(picture)


def test_pixels_are_not_part_of_the_data(result: GeneratedImage, picture: Image.Image) -> None:
    assert result.image.tobytes() == picture.tobytes()
    data = json.loads(result.model_dump_json())
    assert set(data) >= {"prompt", "seed", "steps", "model", "adapter", "handle"}
    back = revive(data)
    assert back == result
    with pytest.raises(HandleError, match="with_image"):
        _ = back.image
    assert back.with_image(picture).image.tobytes() == picture.tobytes()


def test_origin(result: GeneratedImage) -> None:
    named = result.with_origin(model="embedded", handle="img_1_0123456789abcdef")
    assert (named.model, named.adapter, named.handle) == ("embedded", None, "img_1_0123456789abcdef")
    assert named.image is result.image
    assert result.model == ""


def test_another_size_is_refused(result: GeneratedImage) -> None:
    with pytest.raises(InputError, match="another size"):
        result.with_image(Image.new("RGB", (4, 4)))


def test_a_png_tells_how_it_was_made(result: GeneratedImage, tmp_path: Path) -> None:
    named = result.with_origin(model="embedded", adapter="blueprint", handle="img_1_0123456789abcdef")
    path = named.save(tmp_path / "star.png")
    with Image.open(path) as file:
        assert file.text["Description"] == "a red star"  # type: ignore[attr-defined]
    back = GeneratedImage.from_png(path.read_bytes())
    assert back == named.model_copy(update={"handle": None})
    assert back.image.tobytes() == result.image.tobytes()
    assert Picture.from_png(path.read_bytes()) == back


def test_unicode_prompts_survive(picture: Image.Image) -> None:
    result = generated(prompt="ein roter Stern – 赤い星").with_image(picture)
    assert GeneratedImage.from_png(result.to_png()).prompt == result.prompt


def test_pictures_can_be_written_without_their_record(result: GeneratedImage, tmp_path: Path) -> None:
    path = result.save(tmp_path / "star.png", metadata=False)
    assert b"red star" not in path.read_bytes()
    with pytest.raises(ArtifactError, match="does not say how"):
        GeneratedImage.from_png(path.read_bytes())


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".webp"])
def test_other_formats(result: GeneratedImage, tmp_path: Path, ending: str) -> None:
    path = result.save(tmp_path / f"star{ending}")
    with Image.open(path) as file:
        assert file.size == (60, 40)
        assert json.loads(file.getexif()[0x010E])["seed"] == 3
    assert b"red star" not in result.save(path, metadata=False).read_bytes()


@pytest.mark.parametrize("name", ["star", "star.gif", "star.txt"])
def test_unknown_endings(result: GeneratedImage, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.png"):
        result.save(tmp_path / name)


def test_a_refused_picture_has_no_pixels(picture: Image.Image, tmp_path: Path) -> None:
    refused = generated(refused="not for children").with_image(picture)
    for use in (lambda: refused.image, refused.to_png, lambda: refused.save(tmp_path / "x.png")):
        with pytest.raises(GenerationError, match="not for children"):
            use()
    assert refused._repr_png_() is None


def test_records_of_other_kinds(picture: Image.Image) -> None:
    edited = EditedImage(
        width=60, height=40, prompt="x", seed=0, steps=1, guidance=1, image_guidance=1.5
    ).with_image(picture)
    with pytest.raises(ArtifactError, match="GeneratedImage"):
        GeneratedImage.from_png(edited.to_png())
    assert EditedImage.from_png(edited.to_png()) == edited


def test_damaged_records(picture: Image.Image) -> None:
    for record in ("{", '{"type": "generated_image", "seed": -1}', '{"type": "box"}', "[]"):
        info, buffer = PngInfo(), io.BytesIO()
        info.add_itxt("visionllm_sdk", record)
        picture.save(buffer, format="PNG", pnginfo=info)
        with pytest.raises(ArtifactError):
            GeneratedImage.from_png(buffer.getvalue())
    with pytest.raises(ImageError):
        GeneratedImage.from_png(b"no picture")


def test_notebooks_show_the_picture(result: GeneratedImage) -> None:
    shown = result._repr_png_()
    assert shown is not None
    assert shown.startswith(b"\x89PNG")
    assert generated()._repr_png_() is None


def test_limits_that_the_caller_raised_hold_for_the_pixels() -> None:
    large = Image.new("RGB", (40_000, 2))
    result = generated(width=40_000, height=2).with_image(large)
    assert PictureShelf("model").keep([result])[0].image.size == large.size  # type: ignore[attr-defined]
    with pytest.raises(ImageError, match="too large"):
        GeneratedImage.from_png(result.to_png())
    assert GeneratedImage.from_png(result.to_png(), limits=ImageLimits(max_side=40_000)) == result
