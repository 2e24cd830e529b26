from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from visionllm_sdk._saving import encoded, write_image
from visionllm_sdk.errors import InputError
from visionllm_sdk.images import load_image
from visionllm_sdk.results import GeneratedImage


def generated(width: int) -> GeneratedImage:
    made = GeneratedImage(width=width, height=1, prompt="a line", seed=1, steps=2, guidance=3.0)
    return made.with_image(Image.new("RGB", (width, 1)))


@pytest.mark.parametrize(("kind", "width"), [("WEBP", 16_384), ("JPEG", 65_536), ("GIF", 65_536)])
def test_what_a_format_cannot_hold_is_refused(kind: str, width: int) -> None:
    with pytest.raises(InputError, match=rf"as {kind}.*got {width} x 1 pixels.*\.png"):
        encoded(Image.new("RGB", (width, 1)), kind)


def test_pictures_that_their_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written as WEBP"):
        generated(16_384).save(tmp_path / "wide.webp")
    assert not list(tmp_path.iterdir())


def test_folders_are_created(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "b" / "picture.png", Image.new("RGB", (2, 1)))
    assert load_image(tmp_path / "a" / "b" / "picture.png").width == 2
    assert load_image(generated(2).save(tmp_path / "c" / "picture.png")).width == 2


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for place in (tmp_path / "file" / "picture.png", tmp_path / "folder.png"):
        with pytest.raises(InputError, match="cannot be written"):
            write_image(place, Image.new("RGB", (2, 1)))


def test_unknown_formats(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"picture\.xyz"):
        write_image(tmp_path / "picture.xyz", Image.new("RGB", (2, 1)))
