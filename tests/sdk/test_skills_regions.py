"""The methods about region prompts on a model that knows nothing: forms, order, batches, and bad input."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, assert_type

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sdk.scripted import scripted
from visionllm_sdk.errors import InputError, LimitError, RegionError
from visionllm_sdk.generation import ToolJob
from visionllm_sdk.regions import Box, Mask, Point, Region, RegionBlock, Scribble
from visionllm_sdk.results import (
    Answer,
    Detection,
    Detections,
    GeneratedImage,
    RegionDescription,
    RegionLabel,
    Reply,
    RoutedCall,
)
from visionllm_sdk.scenes import render, sample_scene
from visionllm_sdk.skills import PastTurn, ReplyDone
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.history import conversation
from visionllm_sdk.skills.marking import mark, number_regions, region_prompts
from visionllm_sdk.skills.regional import agreement

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """A wide and a tall scene, cut into several tiles."""
    return [render(sample_scene(seed)).image.resize(size) for seed, size in ((3, (300, 120)), (4, (90, 240)))]


def prompts(image: Image.Image) -> list[Region]:
    width, height = image.size
    pixels = np.zeros((height, width), dtype=bool)
    pixels[height // 2 :, : width // 3] = True
    return [
        Box(2, 3, width / 2, height - 4),
        Point(width, 0),
        Scribble([(5, 5), (width / 2, height / 2)]),
        Mask.from_numpy(pixels),
    ]


def grid(image: Image.Image, count: int) -> list[Region]:
    width, height = image.size
    return [Box(i * width / count, 0, (i + 1) * width / count, height / 2) for i in range(count)]


# -- forms -------------------------------------------------------------------------------------------------


def test_describe(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    regions = prompts(images[0])
    found = assert_type(random_vlm.describe(images[0], regions), list[RegionDescription])
    assert [one.region for one in found] == regions
    assert random_vlm.describe(images[0], regions[2])[0].text == found[2].text  # alone as in a batch
    both = assert_type(
        random_vlm.describe(images, [regions[:1], prompts(images[1])]), list[list[RegionDescription]]
    )
    assert [len(part) for part in both] == [1, 4]
    assert both[0] == found[:1]


def test_classify(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    regions, labels = prompts(images[0]), ["star", "red circle", "dog"]
    found = assert_type(random_vlm.classify(images[0], regions, labels), list[RegionLabel])
    assert [one.region for one in found] == regions
    assert all(one.label in labels and 1 / 3 <= one.score <= 1 for one in found)
    (alone,) = random_vlm.classify(images[0], regions[1], labels)
    assert alone.label == found[1].label
    assert alone.score == pytest.approx(found[1].score, abs=1e-4)
    (sure,) = random_vlm.classify(images[0], regions[0], "star")
    assert sure == RegionLabel(region=regions[0], label="star", score=1.0)
    both = random_vlm.classify(images, Point(9, 9), [["star"], ["ring", "dog"]])
    assert [len(part) for part in both] == [1, 1]
    assert both[1][0].label in ("ring", "dog")


def test_the_label_is_the_most_probable_answer(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    """What forced answers score in one tree is what each scores alone."""
    from visionllm_sdk.model.conversation import RECOGNITION_LAYOUT, Turn, image_parts, region_parts
    from visionllm_sdk.model.prompt import collate
    from visionllm_sdk.model.scoring import score_answers
    from visionllm_sdk.skills.regional import Marked, look

    engine = random_vlm.engine
    box = Box(2, 3, 150, 80)
    (seen,) = look(engine, [Marked(random_vlm.rules.load(images[0]), (box,))])
    before, after = RECOGNITION_LAYOUT.question.split("{labels}")
    question = (*image_parts(), before, *region_parts("region1"), after)
    rows = [
        engine.generator.builder.build([Turn(question, (label,))], [seen.image], seen.prompts)
        for label in ("star", "red star", "dog")
    ]
    core = engine.model.core
    losses = []
    for row in rows:
        with torch.no_grad():
            output = core(collate([row], pad_id=0))
        losses.append(-float(output.loss) * sum(row.marks))
    assert score_answers(core, rows, pad_id=0) == pytest.approx(losses, abs=1e-3)
    shares = np.exp(losses) / np.exp(losses).sum()
    (found,) = random_vlm.classify(images[0], box, ["star", "red star", "dog"])
    assert found.label == ("star", "red star", "dog")[int(np.argmax(losses))]
    assert found.score == pytest.approx(shares.max(), abs=1e-3)


def test_segment_regions(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    regions = [*prompts(images[0]), *grid(images[0], 3)]  # more than one forced group holds
    found = assert_type(random_vlm.segment_regions(images[0], regions), Detections)
    assert [one.region for one in found] == list(range(7))
    assert [one.label for one in found] == list(found.labels) == [f"region{n + 1}" for n in range(7)]
    assert all(one.mask is not None and one.mask.size == images[0].size[::-1] for one in found)
    both = assert_type(
        random_vlm.segment_regions(images, [regions[:2], prompts(images[1])]), list[Detections]
    )
    assert [len(one) for one in both] == [2, 4]
    assert both[1].height == images[1].height


def test_segment_like(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    box = Box(2, 3, 100, 80)
    found = assert_type(random_vlm.segment_like(images[0], box, images[1], threshold=0.0), Detections)
    assert (found.width, found.height) == images[1].size
    assert len(found) > 0
    assert {one.region for one in found} == {0}
    each = assert_type(random_vlm.segment_like(images[0], box, images, threshold=0.0), list[Detections])
    np.testing.assert_allclose(each[1].boxes(), found.boxes(), atol=0.05)
    own = [Box(0, 0, 50, 50), Point(5, 5)]
    paired = random_vlm.segment_like(images, own, images, threshold=0.0, masks=False)
    assert [one.width for one in paired] == [image.width for image in images]
    assert all(one.mask is None for one in paired[0])


def test_ask_about_regions(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    two = prompts(images[0])[:2]
    answers = assert_type(
        random_vlm.ask(images, ["Is <region> left of <region>?", "What is it?"], [two, None]), list[Answer]
    )
    assert [one.question for one in answers] == ["Is <region> left of <region>?", "What is it?"]
    alone = assert_type(random_vlm.ask(images[0], "Is <region> left of <region>?", regions=two), Answer)
    assert alone.text == answers[0].text


async def test_asynchronous_twins(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    one, two = prompts(images[0])[:1], prompts(images[1])[:2]
    described = await asyncio.gather(
        random_vlm.adescribe(images[0], one[0]), random_vlm.adescribe(images[1], two)
    )
    assert described == random_vlm.describe(images, [one, two])
    labels = (await random_vlm.aclassify(images[0], one, ["star", "dog"]))[0]
    assert labels.region == one[0]
    assert len(await random_vlm.asegment_regions(images[1], two)) == 2
    like = await random_vlm.asegment_like(images[0], one[0], images[1], threshold=0.0)
    assert like.width == images[1].width
    assert len(await random_vlm.asegment_like(images[0], one[0], images)) == 2
    with pytest.raises(RegionError):
        await random_vlm.adescribe(images[0], Box(0, 0, 9999, 5))


async def test_questions_that_wait_together_keep_their_own_region(
    random_vlm: VisionLLM, images: list[Image.Image]
) -> None:
    places = [Box(0, 0, 80, 60), Box(10, 50, 40, 110)]  # each lies inside both images
    answers = await asyncio.gather(
        *(random_vlm.aask(image, "What?", place) for image, place in zip(images, places, strict=True))
    )
    for answer, image, place in zip(answers, images, places, strict=True):
        alone = random_vlm.ask(image, "What?", place)
        assert answer.text == alone.text
        assert answer.probability == pytest.approx(alone.probability, rel=1e-4)


# -- batches and memory ------------------------------------------------------------------------------------


def test_images_and_regions_are_seen_once(random_vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    core = random_vlm.engine.model.core
    seen: list[int] = []
    encoded: list[int] = []
    look, encode = core.vis_encoder.forward, core.encode_regions
    monkeypatch.setattr(
        core.vis_encoder, "forward", lambda pixels, **kw: (seen.append(len(pixels)), look(pixels, **kw))[1]
    )
    monkeypatch.setattr(
        core, "encode_regions", lambda *args: (encoded.append(len(args[2])), encode(*args))[1]
    )
    image = Image.effect_noise((70, 70), 60).convert("RGB")
    box = Box(1, 1, 30, 30)
    random_vlm.describe(image, [box, Point(5, 5), box])
    assert seen == [1]
    assert encoded == [2]
    random_vlm.classify(image.copy(), box, ["star"])
    random_vlm.segment_regions(np.array(image), [Point(5, 5)])
    assert seen == [1]
    assert encoded == [2]
    known = Image.effect_noise((70, 70), 61).convert("RGB")
    random_vlm.detect(known, ["star"])
    random_vlm.classify(known, box, ["star"])  # seen before, but not for regions: the thumbnail alone
    assert seen == [1, 1, 1]


def test_many_regions_run_together(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    regions = grid(images[0], 40)
    assert len(random_vlm.describe(images[0], regions)) == 40
    found = random_vlm.segment_regions(images[0], regions)
    assert [one.region for one in found] == list(range(40))


# -- free routing ------------------------------------------------------------------------------------------


def test_a_message_with_regions(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    options = scripted(random_vlm, "<det>region2</det>[DET], <det>star</det>[DET].")
    reply = assert_type(
        random_vlm.chat(
            "Segment <region> and <region>", images[0], regions=[Point(5, 5), Box(0, 0, 50, 50)],
            options=options, threshold=0.0,
        ),
        Reply,
    )  # fmt: skip
    (call,) = reply.calls
    assert isinstance(call.result, Detections)
    assert {(one.label, one.region) for one in call.result} == {("region2", 1), ("star", None)}
    assert reply.text == "region2, star."


def test_every_marked_thing_of_a_message_has_its_detection(
    random_vlm: VisionLLM, images: list[Image.Image]
) -> None:
    """However unsure the detector is: it was pointed at them. A threshold of the caller's own holds."""
    marks: list[Region] = [Point(5, 5), Box(0, 0, 50, 50)]
    words, asked = "<det>region2</det>[DET], <det>region1</det>[DET].", "Segment <region> and <region>"
    for threshold, answered in ((None, [1, 0]), (1.0, [])):
        reply = random_vlm.chat(
            asked, images[0], regions=marks, options=scripted(random_vlm, words), threshold=threshold
        )
        (found,) = reply.results
        assert isinstance(found, Detections)
        assert [one.region for one in found] == answered


def test_marks_do_not_change_what_other_tools_do(
    random_vlm: VisionLLM, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionllm_sdk.skills.regional.one_each", pytest.fail)
    asked, seen = "Segment <region>", list[object]()
    run = random_vlm.engine.run
    monkeypatch.setattr(random_vlm.engine, "run", lambda jobs: (seen.extend(jobs), run(jobs))[1])
    options = scripted(random_vlm, "<seg>region1</seg>[SEG].")
    random_vlm.chat(asked, images[0], regions=Point(5, 5), options=options)
    (job,) = seen
    assert isinstance(job, ToolJob)
    assert getattr(job.options, "of_each", None) is None


def test_an_example_in_another_image_may_have_many_like_it(
    random_vlm: VisionLLM, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = RegionBlock(region=Point(5, 5), image=0)
    options = scripted(random_vlm, "<det>region1</det>[DET].")
    monkeypatch.setattr("visionllm_sdk.skills.regional.one_each", pytest.fail)
    (found,) = random_vlm.chat("Like <region>?", images[:2], regions=[block], options=options).results
    assert isinstance(found, Detections)
    assert found.width == images[1].width


def test_regions_in_earlier_turns_and_images(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    past = PastTurn("Describe <region>", "A star.", images=images, regions=[Point(80, 200)])
    asked = random_vlm.chat(
        "And <region>?", regions=Point(4, 4), history=[past], options=scripted(random_vlm, "fine")
    )
    assert asked.text == "fine"
    block = RegionBlock(region=Point(250, 100), image=0)
    asked = random_vlm.chat("What?", images, regions=[block], options=scripted(random_vlm, "fine"))
    assert asked.text == "fine"
    with pytest.raises(RegionError, match="the point lies outside"):
        random_vlm.chat("What?", images, regions=[Point(250, 100)])  # the last image is narrower
    with pytest.raises(RegionError, match="an image that is not there"):
        random_vlm.chat("What?", images, regions=[RegionBlock(region=Point(2, 1), image=2)])
    with pytest.raises(RegionError, match="turn 0: region 0: the point lies outside"):
        random_vlm.chat("Hi", history=[PastTurn("What?", "A.", images=images, regions=[Point(200, 1)])])


def test_regions_lie_in_the_images_as_they_were_given(images: list[Image.Image]) -> None:
    """Whatever a history moves: images that a reply has seen, and pictures that it made."""
    rules, (wide, tall) = ImageRules(), images
    first = RegionBlock(region=Point(250, 100), image=0)  # fits the wide one only
    seen = Reply(text="A star.", seen=(rules.load(wide).digest,))
    drawing = GeneratedImage(width=64, height=64, prompt="a star", seed=0, steps=1, guidance=1.0)
    call = RoutedCall(
        token="[GEN]", tool="draw", probability=1.0, result=drawing.with_image(Image.new("RGB", (64, 64)))
    )
    made = Reply(text="Here.", calls=(call,), seen=())
    for history in ([], [("What?", seen)], [("Draw it", made)], [("What?", "A star.")]):
        talk = mark(conversation("And <region>?", [wide, tall], history, rules), [first])
        assert talk.images[talk.marks[-1][0].image].width == wide.width, history
        last = mark(conversation("And <region>?", [tall, wide], history, rules), Point(250, 100))
        assert last.images[last.marks[-1][0].image].width == wide.width, history
    past = PastTurn("Is <region> red?", "No.", images=[wide, tall], regions=[first])
    again = mark(conversation("And <region>?", [], [past, ("Draw it", made)], rules), Point(60, 60))
    assert [again.images[marks[0].image].width for marks in again.marks if marks] == [wide.width, 64]


def test_embeddings_belong_to_the_adapter_that_is_active(
    random_vlm: VisionLLM, images: list[Image.Image]
) -> None:
    engine = random_vlm.engine
    talk = mark(conversation("What is <region>?", images[0], [], ImageRules()), Point(20, 20))

    def embedding() -> torch.Tensor:
        ((prompt,),) = region_prompts(engine, [talk])
        assert prompt.embedding is not None
        return prompt.embedding

    base = embedding()
    weights = [*engine.model.core.region_encoder.parameters()]
    try:
        engine._activate("other")
        with torch.no_grad():
            [weight.add_(0.1) for weight in weights]
        assert not torch.allclose(embedding(), base)
    finally:
        engine._activate(None)
        with torch.no_grad():
            [weight.sub_(0.1) for weight in weights]
        engine.forget("other")
    torch.testing.assert_close(embedding(), base)


def test_streaming_and_several_messages(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    options = scripted(random_vlm, "<det>region1</det>[DET].")
    events = list(
        random_vlm.stream("Segment <region>", images[0], regions=Point(3, 3), options=options, threshold=0.0)
    )
    assert isinstance(events[-1], ReplyDone)
    (result,) = events[-1].reply.results
    assert isinstance(result, Detections)
    assert {one.region for one in result} == {0}
    replies = random_vlm.chat(
        ["What is it?", "Hello"], [images[0], images[1]], regions=[[Point(3, 3)], None],
        options=scripted(random_vlm, "fine"),
    )  # fmt: skip
    assert len(replies) == 2


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Mask.from_numpy(np.zeros((120, 300), dtype=bool)), "the mask is empty"),
        (Mask.from_numpy(np.ones((300, 120), dtype=bool)), "not of the image's size"),
        (Box(400, 10, 500, 20), "outside the image"),
        (Box(5, 5, 5, 50), "the box is empty"),
        (Point(301, 5), "outside the image"),
        ([], "there is no region"),
        ("box:1,2,3,4", "not a region prompt"),
    ],
)
def test_bad_regions(random_vlm: VisionLLM, images: list[Image.Image], region: Region, message: str) -> None:
    for ask in (
        lambda: random_vlm.describe(images[0], region),
        lambda: random_vlm.classify(images[0], region, ["star"]),
        lambda: random_vlm.segment_regions(images[0], region),
    ):
        with pytest.raises(RegionError, match=message):
            ask()
    if region:
        with pytest.raises(RegionError, match=message):
            random_vlm.ask(images[0], "What is <region>?", regions=[region])
        with pytest.raises(RegionError, match=message):
            random_vlm.segment_like(images[0], region, images[1])


def test_bad_calls(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    with pytest.raises(InputError, match="no label"):
        random_vlm.classify(images[0], Point(1, 1), [])
    with pytest.raises(LimitError, match="too many regions"):
        random_vlm.describe(images[0], [Point(1, 1)] * 1001)
    with pytest.raises(RegionError, match="image 1: region 0: the point lies outside"):
        random_vlm.describe(images, [[Point(200, 1)], [Point(200, 1)]])
    with pytest.raises(InputError, match="region lists needs one entry for every image"):
        random_vlm.describe(images, [[Point(1, 1)]])
    with pytest.raises(InputError, match="does not speak of each of its regions"):
        random_vlm.ask(images[0], "What is <region>?", regions=[Point(1, 1), Point(2, 2)])
    with pytest.raises(RegionError, match="no image to mark a region in"):
        random_vlm.chat("What is <region>?", regions=[Point(1, 1)])
    with pytest.raises(LimitError, match="longer than the language model can read"):
        random_vlm.classify(images[0], Point(1, 1), ["\u4e2d" * 500])


def test_a_checkpoint_without_region_encoder(
    random_vlm: VisionLLM, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(random_vlm.engine.model.core._modules, "region_encoder", None)
    fresh = Box(1.5, 1.5, 77.25, 33)
    for ask in (random_vlm.describe, random_vlm.segment_regions):
        with pytest.raises(InputError, match="no region encoder"):
            ask(images[0], fresh)
    with pytest.raises(InputError, match="no region encoder"):
        random_vlm.ask(images[0], "What is <region>?", regions=fresh)


def test_agreement_of_prompts_and_detections() -> None:
    pixels = np.zeros((20, 30), dtype=bool)
    pixels[5:15, 10:20] = True
    mask = Mask.from_numpy(pixels)
    found = Detection(label="region1", score=0.5, box=Box(10, 5, 20, 15), mask=mask)
    bare = found.model_copy(update={"mask": None})
    for one in (found, bare):
        assert agreement(Box(10, 5, 20, 15), one) == 1
        assert agreement(mask, one) == 1
        assert agreement(Point(12, 6), one) == 1
        assert agreement(Point(2, 6), one) == 0
        assert agreement(Scribble([(12, 6), (2, 6)]), one) == 0.5
    assert agreement(Point(30, 20), found) == 0


def test_results_of_routed_calls_are_numbered() -> None:
    box = Box(0, 0, 5, 5)
    names = ("region2", "star", "region9")
    found = Detections(
        width=9, height=9, detections=tuple(Detection(label=name, score=0.5, box=box) for name in names)
    )
    assert [one.region for one in number_regions(found)] == [1, None, 8]
    assert [one.region for one in number_regions(found, 2)] == [1, None, None]
    answer = Answer(text="region1")
    assert number_regions(answer) is answer
