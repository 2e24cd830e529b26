from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk.errors import InputError, LimitError
from visionllm_tools.diffusion.options import MAX_SEED, check_prompt
from visionllm_tools.diffusion.sizes import check_size, working_size
from visionllm_tools.editing.tool import EditingOptions
from visionllm_tools.generation.tool import GenerationOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ""),
        ("prompt", " \n\t"),
        ("negative_prompt", ""),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("seed", 1.5),
        ("steps", 0),
        ("steps", -3),
        ("steps", 100_000),
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("guidance", -1),
        ("guidance", 1e6),
        ("size", 0),
        ("size", -64),
        ("size", (64, 0)),
        ("size", (64, 64, 64)),
        ("size", "large"),
        ("colour", "red"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_it(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        GenerationOptions(**{name: value})
    assert caught.value.value is not None


def test_too_many_words() -> None:
    with pytest.raises(LimitError, match="5000 words") as caught:
        GenerationOptions(prompt="star " * 5000)
    assert len(str(caught.value)) < 500
    with pytest.raises(LimitError, match="characters"):
        GenerationOptions(prompt="a" * 4000)


def test_image_guidance() -> None:
    assert EditingOptions(image_guidance=2).image_guidance == 2
    with pytest.raises(InputError):
        EditingOptions(image_guidance=float("nan"))
    with pytest.raises(InputError):
        EditingOptions(image_guidance=0.5)


def test_options_have_a_schema_without_callbacks() -> None:
    fields = GenerationOptions.model_json_schema()["properties"]
    assert set(fields) == {"prompt", "seed", "steps", "guidance", "sampler", "negative_prompt", "size"}
    assert GenerationOptions(size=64).size == (64, 64)
    assert GenerationOptions(watch=print).model_dump()["seed"] is None


def test_blanks_are_squeezed() -> None:
    assert check_prompt("  a red\n star ") == "a red star"


@pytest.mark.parametrize("size", [(66, 64), (64, 16), (10_000, 64), (64, 260)])
def test_impossible_sizes_name_a_possible_one(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="multiples of 4 from 32 to 256") as caught:
        check_size(size, step=4, native=64)
    assert "Ask for" in str(caught.value)


@given(width=st.integers(1, 20_000), height=st.integers(1, 20_000))
def test_work_is_done_near_the_native_area(width: int, height: int) -> None:
    found = working_size((width, height), step=4, native=64)
    assert all(side % 4 == 0 and side >= 32 for side in found)
    assert 0.8 * 64**2 <= found[0] * found[1] <= 1.2 * 64**2
    if 1 / 3 < width / height < 3:
        assert found[0] / found[1] == pytest.approx(width / height, rel=0.15)
