"""The typed methods on a model with random weights: shapes, lists, limits, reuse - not what is learnt."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import ImageError, InputError, LimitError
from visionllm_sdk.regions import Box
from visionllm_sdk.results import Answer, Count, Detections, Grounding, SemanticMap
from visionllm_sdk.scenes import render, sample_scene
from visionllm_sdk.skills.arguments import ImageRules, check_threshold, load_images


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [render(sample_scene(seed)).image for seed in range(3)]


@pytest.fixture
def seen_tiles(random_vlm: VisionLLM) -> Iterator[list[int]]:
    """Number of tiles of every pass of the vision encoder."""
    passes: list[int] = []
    encoder = random_vlm.engine.model.core.vis_encoder
    handle = encoder.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    yield passes
    handle.remove()


def test_detect(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    found = random_vlm.detect(scenes[0], ["red circle", "star"], threshold=0.0)
    assert_type(found, Detections)
    assert (found.width, found.height) == scenes[0].size
    assert found.labels == ("red circle", "star")
    assert found.detections
    assert {one.label for one in found} <= {"red circle", "star"}
    assert all(one.mask is not None and one.mask.size == scenes[0].size[::-1] for one in found)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert len(random_vlm.detect(scenes[0], ["star"], threshold=1.0)) == 0


def test_detect_without_masks(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    found = random_vlm.detect(scenes[0], "star", threshold=0.0, masks=False)
    assert found.labels == ("star",)
    assert all(one.mask is None for one in found)


def test_a_list_gives_a_list_of_the_same_results(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    together = random_vlm.detect(scenes, ["star", "ring"], threshold=0.3)
    assert_type(together, list[Detections])
    assert len(together) == len(scenes)
    for one, scene in zip(together, scenes, strict=True):
        alone = random_vlm.detect(scene, ["star", "ring"], threshold=0.3)
        assert [d.label for d in one] == [d.label for d in alone]
        np.testing.assert_allclose(one.boxes(), alone.boxes(), atol=0.05)
    assert random_vlm.detect([], ["star"]) == []


def test_every_image_may_have_its_own_labels(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    found = random_vlm.detect(scenes[:2], [["star"], ["ring", "dog"]])
    assert [one.labels for one in found] == [("star",), ("ring", "dog")]
    counts = random_vlm.count(scenes[:2], ["star", "ring"])
    assert [one.label for one in counts] == ["star", "ring"]
    with pytest.raises(InputError, match="one entry for every image"):
        random_vlm.count(scenes[:2], ["star"] * 3)


def test_the_other_methods(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    image = scenes[0]
    segments = assert_type(random_vlm.segment(image, ["circle", "star"]), SemanticMap)
    assert segments.to_numpy().shape == image.size[::-1]
    ground = assert_type(random_vlm.ground(image, "the star left of the ring", threshold=1.0), Grounding)
    assert ground.expression == "the star left of the ring"
    assert len(ground) == 1  # the best candidate, whatever its score
    count = assert_type(random_vlm.count(image, "star", threshold=0.0), Count)
    assert count.count == len(count.detections) > 0
    assert_type(random_vlm.count(scenes, "star"), list[Count])


def test_words(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    answer = assert_type(random_vlm.ask(scenes[0], " How many stars? "), Answer)
    assert answer.question == "How many stars?"
    assert answer.probability is not None
    assert 0 < answer.probability <= 1
    answers = random_vlm.ask(scenes[:2], ["How many stars?", "What colour is the ring?"])
    assert [one.question for one in answers] == ["How many stars?", "What colour is the ring?"]
    assert answers[0].text == answer.text  # greedy: the same alone and in a batch
    assert_type(random_vlm.caption(scenes[0]), Answer)
    assert len(random_vlm.caption(scenes)) == 3


def test_images_come_in_many_forms(random_vlm: VisionLLM, scenes: list[Image.Image], tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    scenes[0].save(path)
    buffer = io.BytesIO()
    scenes[0].save(buffer, "PNG")
    forms = [path, str(path), buffer.getvalue(), np.array(scenes[0]), scenes[0]]
    found = random_vlm.detect(forms, ["star"], threshold=0.5)
    for other in found[1:]:
        np.testing.assert_allclose(other.boxes(), found[0].boxes(), atol=0.05)


def test_repeated_labels_are_asked_once(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    found = random_vlm.detect(scenes[0], ["star", " Star ", "ring", "star"], threshold=0.0)
    assert found.labels == ("star", "ring")


def test_a_thousand_labels(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    labels = [f"thing {number}" for number in range(1000)]
    found = random_vlm.detect(scenes[0], labels, threshold=0.0, masks=False)
    assert found.labels == tuple(labels)
    assert len(found) > 1000  # nothing is cut that reaches the threshold


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no label"),
        ("", "empty"),
        (["star", " "], "label 1: a label is empty"),
        (["star", 3], "label 1: a label is not text"),
        (["star", "dog \ud83d"], "label 1: a label does not encode to UTF-8"),
        (3, "labels are text"),
        (["x" * 501], "too long"),
        (["x"] * 10_001, "too many labels"),
    ],
)
def test_bad_labels(random_vlm: VisionLLM, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_vlm.detect(Image.new("RGB", (8, 8)), labels)  # type: ignore[call-overload]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), True, "0.5"])
def test_bad_threshold(random_vlm: VisionLLM, threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        random_vlm.detect(Image.new("RGB", (8, 8)), ["star"], threshold=threshold)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_thresholds_are_real_numbers_of_any_kind(number: float) -> None:
    found = check_threshold(number)
    assert (found, type(found)) == (0.5, float)


@pytest.mark.parametrize("adapter", [Path("blueprint"), 5, [None, Path("blueprint")]])
def test_adapters_are_named(random_vlm: VisionLLM, scenes: list[Image.Image], adapter: Any) -> None:
    with pytest.raises(InputError, match=r"chosen by its name.*load_adapter\(\)"):
        random_vlm.detect(scenes[:2], ["star"], adapter=adapter)
    with pytest.raises(InputError, match="chosen by its name"):
        random_vlm.chat(["Hi", "Hi"], adapter=adapter)


def test_a_bad_image_of_a_list_is_named(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    with pytest.raises(ImageError, match=r"^image 1: the image file does not exist"):
        random_vlm.detect([scenes[0], "nowhere.png"], ["star"])


def test_bad_words(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    with pytest.raises(InputError, match="a question is empty"):
        random_vlm.ask(scenes[0], "  ")
    with pytest.raises(InputError, match="does not encode to UTF-8") as caught:
        random_vlm.ask(scenes[0], "what \ud83d")
    assert str(caught.value).encode()  # it can be shown
    with pytest.raises(InputError, match=r"goes with a list of images.*\[image\] \* 2"):
        random_vlm.ask(scenes[0], ["How many?", "Which colour?"])
    with pytest.raises(InputError, match="an expression is not text"):
        random_vlm.ground(scenes[0], None)  # type: ignore[call-overload]
    with pytest.raises(LimitError, match="longer than the language model can read"):
        random_vlm.ask(scenes[0], "star " * 10_000)
    with pytest.raises(LimitError, match="longer than the language model can read"):
        random_vlm.detect(scenes[0], ["x" * 500, "y" * 500, "z" * 500])


def test_labels_that_spell_control_tokens_stay_words(
    random_vlm: VisionLLM, scenes: list[Image.Image]
) -> None:
    found = random_vlm.detect(scenes[0], ["[DET]", "</det>[GRD]", "[EMB]"], threshold=0.0, masks=False)
    assert found.labels == ("[DET]", "</det>[GRD]", "[EMB]")


def test_an_image_is_seen_once(random_vlm: VisionLLM, seen_tiles: list[int]) -> None:
    image = Image.effect_noise((90, 70), 80).convert("RGB")
    random_vlm.detect(image, ["star"])
    assert len(seen_tiles) == 1
    random_vlm.ask(image.copy(), "How many?")
    random_vlm.chat("hello", images=[np.array(image)])
    random_vlm.segment([image, image], ["star"])
    assert len(seen_tiles) == 1


def test_images_of_a_list_are_seen_together(random_vlm: VisionLLM, seen_tiles: list[int]) -> None:
    noise = [Image.effect_noise((60, 60), spread).convert("RGB") for spread in (20, 30, 40)]
    random_vlm.detect(noise, ["star"])
    assert sum(seen_tiles) == 3


def test_equal_images_of_a_list_are_seen_once(random_vlm: VisionLLM, seen_tiles: list[int]) -> None:
    noise = [Image.effect_noise((60, 60), spread).convert("RGB") for spread in (50, 60)]
    found = random_vlm.detect([noise[0], noise[1], noise[0].copy(), noise[0]], ["star"], threshold=0.0)
    assert sum(seen_tiles) == 2
    assert found[0] == found[3]
    assert len(found) == 4


def test_files_of_a_list_are_decoded_in_order(
    random_vlm: VisionLLM, scenes: list[Image.Image], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, scene in zip(paths, scenes, strict=True):
        scene.save(path)
    mixed = [paths[0], scenes[1], paths[2], paths[0]]
    found = random_vlm.detect(mixed, ["star"], threshold=0.0, masks=False)
    assert found == random_vlm.detect(
        [scenes[0], *scenes[1:], scenes[0]], ["star"], threshold=0.0, masks=False
    )
    paths[2].write_bytes(b"no image")
    with pytest.raises(ImageError, match="image 2"):
        random_vlm.detect([*mixed, "nowhere.png"], ["star"])


def test_files_are_decoded_without_threads_of_torch(
    scenes: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are loaded before a call's turn, while lanes of another may have changed their number."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, scene in zip(paths, scenes, strict=True):
        scene.save(path)

    def touch(*_: object) -> int:
        raise AssertionError("torch's number of threads was touched")

    for name in ("get_num_threads", "set_num_threads"):
        monkeypatch.setattr(torch, name, touch)
    loaded = load_images(paths, ImageRules())
    assert [one.source for one in loaded.items] == [str(path) for path in paths]


def test_too_long_labels_name_their_image(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    many = [*scenes, *(Image.effect_noise((40, 40), spread).convert("RGB") for spread in range(70, 87))]
    labels = [["star"]] * (len(many) - 1) + [["x" * 500, "y" * 500, "z" * 500]]
    with pytest.raises(LimitError, match="request 19"):
        random_vlm.detect(many, labels)


def test_feature_cache_is_bounded() -> None:
    from visionllm_sdk.model.prompt import TiledImage
    from visionllm_sdk.skills.engine import FeatureCache

    cache = FeatureCache(max_bytes=3000)
    for key in "abc":
        cache.put(TiledImage(torch.zeros(1, 3, 10, 10), key=key))  # 1200 bytes each
        cache.get("a")
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert len(cache) == 2


def test_a_decoder_sees_a_picture_once_whoever_asks(
    random_vlm: VisionLLM, scenes: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = random_vlm.engine.model.tools["detect"].decoder
    looked, look = [], decoder.look

    def counted(pixels: Tensor, mask: Tensor) -> object:
        looked.append(len(pixels))
        return look(pixels, mask)

    monkeypatch.setattr(decoder, "look", counted)
    picture = scenes[0].transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    first = random_vlm.detect(picture, "star", threshold=0.3)
    random_vlm.segment(np.array(picture), ["ring", "star"])
    random_vlm.segment_regions(picture, Box(2, 2, 30, 30))
    random_vlm.chat("Detect star", images=[picture])
    again = random_vlm.detect([picture, picture], "star", threshold=0.3)
    assert looked == [1]
    for one in again:
        np.testing.assert_allclose(one.boxes(), first.boxes(), atol=0.05)
    random_vlm.detect([picture, scenes[1].rotate(90)], "star")
    assert looked == [1, 1]


def test_a_picture_is_read_once_whatever_is_asked(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    picture = scenes[0].rotate(180)
    random_vlm.detect(picture, "star")
    random_vlm.ask(picture, "What is there?")
    assert random_vlm.engine.session.reused_tokens >= random_vlm.engine.model.core.tokens_per_tile


def test_nothing_that_other_weights_read_is_used(random_vlm: VisionLLM, scenes: list[Image.Image]) -> None:
    engine, norm = random_vlm.engine, random_vlm.engine.model.core.llm.model.norm.weight
    random_vlm.detect(scenes[0], "star")
    session = engine.session
    random_vlm.detect(scenes[0], "ring")
    assert engine.session is session
    with torch.no_grad():
        norm.mul_(1.0)
    random_vlm.detect(scenes[0], "star")
    assert engine.session is not session
