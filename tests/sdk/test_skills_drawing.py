"""Drawing and editing through the facade, on a checkpoint with random weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.sdk.scripted import scripted
from visionllm_sdk.errors import GenerationCancelled, HandleError, InputError, LimitError, ToolError
from visionllm_sdk.generation import CancelToken
from visionllm_sdk.results import EditedImage, GeneratedImage
from visionllm_sdk.skills.history import PastTurn
from visionllm_sdk.skills.talk import CallDone, ReplyDone

if TYPE_CHECKING:
    from pathlib import Path

    from visionllm_sdk import VisionLLM

CAPTION = "a red circle left of a blue star"
SIDE = 32


@pytest.fixture(scope="module")
def vlm(drawing_checkpoint: Path) -> VisionLLM:
    from visionllm_sdk import VisionLLM

    return VisionLLM.from_pretrained(drawing_checkpoint)


def pixels(picture: GeneratedImage | EditedImage) -> np.ndarray[Any, Any]:
    return np.asarray(picture.image)


def test_a_picture_says_how_it_was_made(vlm: VisionLLM) -> None:
    picture = vlm.generate(CAPTION, seed=3, steps=3)
    assert isinstance(picture, GeneratedImage)
    assert picture.image.mode == "RGB"
    assert picture.image.size == (SIDE, SIDE)
    assert (picture.prompt, picture.seed, picture.steps, picture.model) == (CAPTION, 3, 3, vlm.name)
    assert picture.handle is not None
    assert vlm.engine.pictures.handles.origin(picture.handle) == f"generated_image: {CAPTION}"


def test_the_same_seed_gives_the_same_bytes(vlm: VisionLLM) -> None:
    first, again, other = (vlm.generate(CAPTION, seed=seed) for seed in (5, 5, 6))
    assert first.to_png() == again.with_origin(handle=first.handle).to_png()
    assert (pixels(first) != pixels(other)).any()
    unseeded = vlm.generate(CAPTION)
    assert unseeded.to_png() == vlm.generate(CAPTION, seed=unseeded.seed).to_png()


def test_several_pictures_of_a_caption_pass_the_language_model_once(
    vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forced = vlm.engine.generator.forced

    def counted(requests: Any) -> Any:
        rows.append(len(requests))
        return forced(requests)

    monkeypatch.setattr(vlm.engine.generator, "forced", counted)
    pictures = vlm.generate(CAPTION, n=3, seed=5)
    assert rows == [1]
    assert [picture.seed for picture in pictures] == [5, 6, 7]
    alone = vlm.generate(CAPTION, seed=6)
    assert np.abs(pixels(pictures[1]).astype(int) - pixels(alone)).max() <= 1


def test_several_captions(vlm: VisionLLM) -> None:
    pictures = vlm.generate([CAPTION, "a star"], n=2, seed=1)
    assert [[one.prompt for one in group] for group in pictures] == [[CAPTION] * 2, ["a star"] * 2]
    assert [one.prompt for one in vlm.generate(["a star", "a ring"])] == ["a star", "a ring"]


def test_a_size_of_ones_own(vlm: VisionLLM) -> None:
    assert vlm.generate(CAPTION, size=(64, 32)).image.size == (64, 32)
    assert vlm.generate(CAPTION, size=48).image.size == (48, 48)


@pytest.mark.parametrize("size", [(300, 90), (7, 5), (32, 1), (500, 10)])
def test_an_edit_has_the_size_of_its_input(vlm: VisionLLM, size: tuple[int, int]) -> None:
    edited = vlm.edit(Image.new("RGB", size, "red"), "make it blue", seed=1)
    assert isinstance(edited, EditedImage)
    assert edited.image.size == size


def test_edits_of_several_images(vlm: VisionLLM) -> None:
    images = [Image.new("RGB", (40, 30), "red"), Image.new("RGB", (20, 60), "blue")]
    edited = vlm.edit(images, ["make it green", "make it pink"], seed=4)
    assert [one.image.size for one in edited] == [(40, 30), (20, 60)]
    assert [one.prompt for one in edited] == ["make it green", "make it pink"]


def test_pictures_and_their_handles_are_images(vlm: VisionLLM) -> None:
    picture = vlm.generate(CAPTION, seed=2)
    edited = vlm.edit(picture.handle, "make the star yellow", seed=2)
    assert edited.source == picture.handle
    assert pixels(vlm.edit(picture, "make the star yellow", seed=2)).tolist() == pixels(edited).tolist()
    assert vlm.detect(edited, ["star"]).width == SIDE
    with pytest.raises(HandleError, match="does not belong to this session"):
        vlm.edit("img_1_0123456789abcdef", "make the star yellow")


def test_metadata_goes_into_the_file_or_not(vlm: VisionLLM) -> None:
    picture = vlm.generate(CAPTION, seed=9)
    again = GeneratedImage.from_png(picture.to_png())
    assert (again.prompt, again.seed, again.model) == (CAPTION, 9, vlm.name)
    assert again.handle is None
    assert CAPTION.encode() not in picture.to_png(metadata=False)


def test_a_safety_checker_holds_pictures_back(vlm: VisionLLM) -> None:
    seen: list[tuple[Any, str]] = []

    def checker(image: Image.Image, prompt: str) -> str | None:
        seen.append((image.size, prompt))
        return "not today" if "star" in prompt else None

    vlm.safety_checker = checker
    try:
        refused, fine = vlm.generate(["a star", "a ring"], seed=1)
    finally:
        vlm.safety_checker = None
    assert seen == [((SIDE, SIDE), "a star"), ((SIDE, SIDE), "a ring")]
    assert (refused.refused, fine.refused) == ("not today", None)
    assert refused.handle is None
    with pytest.raises(Exception, match="refused this picture"):
        refused.save("never.png")


def test_progress_and_cancelling(vlm: VisionLLM) -> None:
    seen: list[tuple[float, tuple[int, int]]] = []
    vlm.generate(CAPTION, steps=3, watch=lambda done: seen.append((done.share, done.preview().size)))
    assert [share for share, _ in seen] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert seen[0][1] == (SIDE, SIDE)
    token = CancelToken()
    with pytest.raises(GenerationCancelled, match="after step 1 of 4"):
        vlm.generate(CAPTION, steps=4, cancel=token, watch=lambda done: token.cancel())


def test_a_negative_prompt_takes_a_super_link_of_its_own(vlm: VisionLLM) -> None:
    plain = vlm.generate(CAPTION, seed=1, guidance=3.0)
    against = vlm.generate(CAPTION, seed=1, guidance=3.0, negative_prompt="a green ring")
    assert against.negative_prompt == "a green ring"
    assert (pixels(plain) != pixels(against)).any()


def test_cancelling_in_a_conversation_leaves_the_reply_so_far(vlm: VisionLLM) -> None:
    def settings(token: CancelToken) -> Any:
        script = scripted(vlm, "Here it is [GEN].")
        return {"options": script, "steps": 4, "cancel": token, "watch": lambda done: token.cancel()}

    reply = vlm.chat("Draw a star", **settings(CancelToken()))
    assert (reply.finish_reason, reply.calls, reply.text) == ("cancelled", (), "Here it is.")
    *_, last = vlm.stream("Draw a star", **settings(CancelToken()))
    assert isinstance(last, ReplyDone)
    assert (last.reply.finish_reason, last.reply.calls) == ("cancelled", ())


def test_numbers_of_numpy(vlm: VisionLLM) -> None:
    pictures = vlm.generate(CAPTION, n=np.int64(2), seed=np.int64(5))
    assert [picture.seed for picture in pictures] == [5, 6]


def test_new_pixels_are_looked_at(vlm: VisionLLM) -> None:
    made, other = vlm.generate(CAPTION, seed=2), Image.new("RGB", (SIDE, SIDE), "green")
    changed = made.with_image(other)
    assert (changed.handle, made.with_image(made.image).handle) == (None, made.handle)
    wanted = vlm.rules.load(other).digest
    stored = GeneratedImage.model_validate(made.model_dump())  # of which nobody knows the pixels
    assert [vlm.rules.load(one).digest for one in (changed, stored.with_image(other))] == [wanted] * 2  # type: ignore[arg-type]
    assert vlm.rules.load(stored).digest == vlm.rules.load(made.image).digest  # type: ignore[arg-type]


async def test_asynchronous_twins(vlm: VisionLLM) -> None:
    picture = await vlm.agenerate(CAPTION, seed=1)
    assert (pixels(picture) == pixels(vlm.generate(CAPTION, seed=1))).all()
    assert (await vlm.aedit(picture, "make it blue")).image.size == (SIDE, SIDE)


def test_draw_then_edit_then_look_in_a_conversation(vlm: VisionLLM) -> None:
    drawn = vlm.chat("Draw a star", options=scripted(vlm, "Here it is [GEN]."), seed=7, steps=3)
    (picture,) = drawn.results
    assert isinstance(picture, GeneratedImage)
    assert (picture.prompt, picture.seed, picture.steps) == ("Draw a star", 7, 3)
    assert drawn.text == "Here it is."
    history: list[Any] = [("Draw a star", drawn)]
    told = vlm.chat("Make it blue", history=history, options=scripted(vlm, "Here it is [EDIT]."), seed=7)
    (edited,) = told.results
    assert isinstance(edited, EditedImage)
    assert (
        pixels(edited) == pixels(vlm.edit(picture, "Make it blue", seed=7))
    ).all() or edited.source is None
    history.append(PastTurn("Make it blue", told))
    looked = vlm.chat("Find it", history=history, options=scripted(vlm, "<det>star</det>[DET]."))
    assert looked.results[0].width == SIDE
    kept = vlm.engine.pictures.handles
    assert picture.handle in kept
    assert edited.handle in kept


def test_streaming_shows_previews(vlm: VisionLLM) -> None:
    seen: list[int] = []
    events = vlm.stream(
        "Draw a star", options=scripted(vlm, "Here it is [GEN]."), watch=lambda done: seen.append(done.step)
    )
    calls = [event.call for event in events if isinstance(event, CallDone)]
    assert isinstance(calls[0].result, GeneratedImage)
    assert seen == [1, 2]


def test_a_checkpoint_that_cannot_draw_says_so(random_vlm: VisionLLM) -> None:
    with pytest.raises(ToolError, match=r"cannot generate pictures.*Load a checkpoint that has one"):
        random_vlm.generate(CAPTION)
    with pytest.raises(ToolError, match="cannot edit pictures"):
        random_vlm.edit(Image.new("RGB", (32, 32)), "make it blue")


@pytest.mark.parametrize(
    ("words", "settings", "error", "message"),
    [
        ("", {}, InputError, "caption is empty"),
        ("  \n", {}, InputError, "caption is empty"),
        (None, {}, InputError, "caption is not text"),
        ("star " * 5000, {}, LimitError, "too many words"),
        (CAPTION, {"size": 0}, InputError, "width and a height"),
        (CAPTION, {"size": -64}, InputError, "width and a height"),
        (CAPTION, {"size": (64, 0)}, InputError, "width and a height"),
        (CAPTION, {"size": 33}, InputError, "cannot be made"),
        (CAPTION, {"size": 10_000}, InputError, "cannot be made"),
        (CAPTION, {"size": "big"}, InputError, "size"),
        (CAPTION, {"steps": 0}, InputError, "steps"),
        (CAPTION, {"steps": 100_000}, InputError, "steps"),
        (CAPTION, {"guidance": math.nan}, InputError, "guidance"),
        (CAPTION, {"guidance": -1.0}, InputError, "guidance"),
        (CAPTION, {"seed": -1}, InputError, "seed"),
        (CAPTION, {"seed": "x"}, InputError, "seed"),
        (CAPTION, {"seed": True}, InputError, "seed"),
        (CAPTION, {"seed": 2**63}, InputError, "seed"),
        (CAPTION, {"seed": 2**63 - 1, "n": 2}, InputError, "seed"),
        (CAPTION, {"n": 0}, InputError, "this many pictures"),
        (CAPTION, {"n": 1000}, InputError, "this many pictures"),
        (CAPTION, {"n": 2.5}, InputError, "this many pictures"),
        (CAPTION, {"sampler": "magic"}, InputError, "sampler"),
        (CAPTION, {"stepz": 3}, InputError, "unknown setting"),
        (["a star", ""], {}, InputError, "caption 1: the caption is empty"),
    ],
)
def test_bad_wishes(
    vlm: VisionLLM, words: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        vlm.generate(words, **settings)


@pytest.mark.parametrize(
    ("image", "words", "settings", "message"),
    [
        (None, "make it blue", {}, "an edit needs an image"),
        ([], "make it blue", {}, "an edit needs an image"),
        ("nowhere.png", "make it blue", {}, "does not exist"),
        (Image.new("RGB", (32, 32)), "", {}, "instruction is empty"),
        (Image.new("RGB", (32, 32)), "blue", {"image_guidance": math.inf}, "image_guidance"),
        (Image.new("RGB", (32, 32)), "blue", {"image_guidance": 0.5}, "image_guidance"),
        (Image.new("RGB", (32, 32)), "blue", {"image_guidance": 2.0}, "does nothing without guidance"),
        ([Image.new("RGB", (32, 32))], ["a", "b"], {}, "one entry for every image"),
    ],
)
def test_bad_edits(vlm: VisionLLM, image: Any, words: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        vlm.edit(image, words, **settings)


def test_an_edit_in_a_conversation_without_an_image(vlm: VisionLLM) -> None:
    with pytest.raises(InputError, match="there is none"):
        vlm.chat("Make it blue", options=scripted(vlm, "Here it is [EDIT]."))
