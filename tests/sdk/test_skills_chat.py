"""Free routing behind a scripted model: calls, tools, reports, history, streams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_type

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sdk.scripted import scripted
from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.generation import CancelToken, GenerationOptions
from visionllm_sdk.geometry import Box
from visionllm_sdk.model.tokenizer import Control
from visionllm_sdk.results import (
    Detections,
    GeneratedImage,
    Grounding,
    Reply,
    RoutedCall,
    SemanticMap,
    revive,
)
from visionllm_sdk.skills import CallDone, PastTurn, ReplyDone, TextDelta
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.history import conversation, past_turns
from visionllm_sdk.skills.settings import talk_settings
from visionllm_sdk.skills.steps import opening

DETECT = "<det>star</det>[DET], <det>red ring</det>[DET]."
BRIEF = GenerationOptions(max_new_tokens=8)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.effect_noise((96, 64), 90).convert("RGB")


def test_a_reply_that_routes(random_vlm: VisionLLM, image: Image.Image) -> None:
    reply = random_vlm.chat(
        "Find the star and the red ring", images=[image], options=scripted(random_vlm, DETECT)
    )
    assert_type(reply, Reply)
    (call,) = reply.calls
    assert (call.token, call.tool, call.labels) == ("[DET]", "detect", ("star", "red ring"))
    assert 0 <= call.probability <= 1
    assert isinstance(call.result, Detections)
    assert (call.result.width, call.result.height) == (96, 64)
    assert reply.results == (call.result,)
    assert revive(reply.model_dump(mode="json")) == reply
    assert reply.seen == (random_vlm.rules.load(image).digest,)
    assert reply.usage is not None
    assert reply.usage.image_tokens == 64
    assert reply.usage.input_tokens > reply.usage.image_tokens


def test_calls_of_several_tools(random_vlm: VisionLLM, image: Image.Image) -> None:
    script = "<det>star</det>[SEG], <grd>the dog</grd>[GRD], <grd>the ring</grd>[GRD]."
    reply = random_vlm.chat("Do it", images=[image], options=scripted(random_vlm, script))
    assert [call.token for call in reply.calls] == ["[SEG]", "[GRD]", "[GRD]"]
    assert [type(call.result) for call in reply.calls] == [SemanticMap, Grounding, Grounding]
    assert [call.labels for call in reply.calls] == [("star",), ("the dog",), ("the ring",)]


def test_detection_in_a_chat_equals_the_direct_call(random_vlm: VisionLLM, image: Image.Image) -> None:
    reply = random_vlm.chat(
        "Detect star, red ring", images=[image], threshold=0.2, options=scripted(random_vlm, DETECT)
    )
    direct = random_vlm.detect(image, ["star", "red ring"], threshold=0.2)
    (found,) = reply.results
    assert isinstance(found, Detections)
    assert [one.label for one in found] == [one.label for one in direct]
    for one, other in zip(found, direct, strict=True):
        assert one.box.xyxy == pytest.approx(other.box.xyxy, abs=0.05)


def test_words_without_tools(random_vlm: VisionLLM) -> None:
    reply = random_vlm.chat("Hello", options=scripted(random_vlm, "Hello! How are you?"))
    assert reply.text == "Hello! How are you?"
    assert reply.calls == ()
    assert reply.finish_reason == "stop"
    assert random_vlm.chat("Hello", options=BRIEF).finish_reason == "length"


def test_a_reply_cut_at_a_stop_text_says_so(random_vlm: VisionLLM) -> None:
    options = replace(scripted(random_vlm, "Hello! How are you?"), stop="How")
    reply = random_vlm.chat("Hello", options=options)
    assert (reply.text, reply.finish_reason) == ("Hello!", "stop_string")


def test_the_model_is_told_what_was_found(
    random_vlm: VisionLLM, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random_vlm.engine.generator
    prompts: list[str] = []
    generate = generator.generate

    def listen(requests: list[object]) -> object:
        tokenizer = random_vlm.engine.model.tokenizer
        prompts.extend(tokenizer.decode(one.prompt.ids, controls=True) for one in requests)  # type: ignore[attr-defined]
        return generate(requests)  # type: ignore[arg-type]

    monkeypatch.setattr(generator, "generate", listen)
    options = scripted(random_vlm, DETECT)
    random_vlm.chat("Find the star", images=[image], threshold=1.0, options=options)
    asked, told = prompts
    assert asked.endswith("Find the star ASSISTANT:")
    assert told.startswith(asked)
    assert told.endswith("TOOL: no star, no red ring. ASSISTANT:")
    assert "<det>star</det>[DET]" in told


@pytest.mark.parametrize(("name", "tag"), [("detect", "<det>"), ("[GRD]", "<grd>"), ("segment", "<det>")])
def test_a_forced_reply_opens_with_a_label(random_vlm: VisionLLM, name: str, tag: str) -> None:
    settings = talk_settings(random_vlm.engine, {"force": name})
    (first,) = opening(random_vlm.engine, settings.generation, start=5).processors
    tokenizer = random_vlm.engine.model.tokenizer
    scores = torch.zeros(1, tokenizer.vocab_size)
    only = first(torch.zeros(1, 5, dtype=torch.long), scores)
    assert int(only.argmax()) == tokenizer.control_id(tag)
    assert torch.equal(first(torch.zeros(1, 6, dtype=torch.long), scores), scores)


def test_forbid(random_vlm: VisionLLM, image: Image.Image) -> None:
    settings = talk_settings(random_vlm.engine, {"forbid": "detect"})
    assert settings.generation.tokens == ("[GRD]", "[SEG]")
    with pytest.raises(InputError, match="both forced and forbidden"):
        random_vlm.chat("Hi", images=[image], force="detect", forbid=["count"])
    with pytest.raises(InputError, match="no such routing token"):
        random_vlm.chat("Hi", images=[image], forbid="[FLY]")


def test_bad_messages(random_vlm: VisionLLM, image: Image.Image) -> None:
    with pytest.raises(InputError, match="empty"):
        random_vlm.chat("  ")
    with pytest.raises(InputError, match="unknown setting"):
        random_vlm.chat("Hi", forse="detect")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="there is none"):
        random_vlm.chat("Find the star", options=scripted(random_vlm, DETECT))
    with pytest.raises(LimitError, match="longer than the language model can read"):
        random_vlm.chat("word " * 10_000)
    with pytest.raises(InputError, match="not an earlier turn"):
        random_vlm.chat("Hi", history=["Hello"])  # type: ignore[list-item]
    for history in (None, "Hello", 5):
        with pytest.raises(InputError, match="a history is a list of turns"):
            random_vlm.chat("Hi", history=history)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"turn 0, image 0: the image file does not exist"):
        random_vlm.chat("Hi", history=[PastTurn("Hello", "Hi", images=["nowhere.png"])])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("options", {"max_new_tokens": 5}),
        ("forbid", 5),
        ("forbid", ["detect", 5]),
        ("force", ["detect"]),
        ("system", 5),
        ("system", {}),
        ("cancel", True),
    ],
)
async def test_settings_of_a_wrong_kind(random_vlm: VisionLLM, name: str, value: object) -> None:
    settings: Any = {name: value}
    with pytest.raises(InputError, match=f"the setting {name} is of the wrong kind .*allowed"):
        random_vlm.chat("Hi", **settings)
    with pytest.raises(InputError, match="of the wrong kind"):
        random_vlm.stream("Hi", **settings)
    with pytest.raises(InputError, match="of the wrong kind"):
        await random_vlm.achat("Hi", **settings)


def test_several_messages(random_vlm: VisionLLM, image: Image.Image) -> None:
    replies = random_vlm.chat(["Hello", "What is it?"], images=[[], [image]], options=BRIEF)
    assert_type(replies, list[Reply])
    assert replies[0].text == random_vlm.chat("Hello", options=BRIEF).text
    assert replies[1].text == random_vlm.chat("What is it?", images=[image], options=BRIEF).text
    assert replies[1].usage is not None
    assert replies[1].usage.image_tokens > 0
    assert len(random_vlm.chat(["Hello"] * 3, options=BRIEF)) == 3
    with pytest.raises(InputError, match="images for every one of them"):
        random_vlm.chat(["Hello", "Hello"], images=[[image]])


def test_history_is_laid_out_as_it_was(random_vlm: VisionLLM, image: Image.Image) -> None:
    options = scripted(random_vlm, DETECT)
    reply = random_vlm.chat("Find them", images=[image], threshold=1.0, options=options)
    talk = conversation("And now?", [image], [("Find them", reply)], ImageRules())
    assert (len(talk.images), talk.new_images) == (1, 0)  # the image opens the first question
    routed, told = past_turns(talk, random_vlm.engine)
    assert [part.text for part in routed.answer or () if isinstance(part, Control)] == [
        "<det>", "</det>", "[DET]", "<det>", "</det>", "[DET]",
    ]  # fmt: skip
    assert told.role == "tool"
    assert told.question == ("no star, no red ring.",)
    assert told.answer == (reply.text,)
    again = random_vlm.chat("And now?", images=[image], history=[("Find them", reply)], options=BRIEF)
    stored = [("Find them", revive(reply.model_dump(mode="json")))]
    assert random_vlm.chat("And now?", [image], stored, options=BRIEF).text == again.text


def test_an_image_belongs_to_the_turn_that_saw_it(image: Image.Image) -> None:
    rules, later = ImageRules(), image.rotate(90, expand=True)
    digests = [rules.load(one).digest for one in (image, later)]
    first, second = Reply(text="A star.", seen=(digests[0],)), Reply(text="Another.", seen=tuple(digests))
    unseen = conversation("And this?", later, [("What is it?", first)], rules)
    assert (unseen.past[0][1], unseen.new_images) == (0, 1)
    history = [("What is it?", first), ("And this?", second)]
    both = conversation("Which is larger?", [image, later], history, rules)
    assert ([count for _, count in both.past], both.new_images) == ([1, 1], 0)
    assert both.image is not None
    assert both.image.digest == digests[1]
    untold = conversation("Which is larger?", [later, image], [("What is it?", "A star.")], rules)
    assert (untold.past[0][1], untold.new_images) == (2, 0)


def test_an_image_of_an_earlier_turn_is_not_read_twice(image: Image.Image) -> None:
    rules = ImageRules()
    reply = Reply(text="A star.", seen=(rules.load(image).digest,))
    for past in (PastTurn("What is it?", reply, images=[image]), PastTurn("What is it?", reply)):
        talk = conversation("And now?", [image], [past], rules)
        assert (len(talk.images), talk.new_images) == (1, 0)


def test_a_reply_that_was_cut_says_so(vlm: VisionLLM, image: Image.Image) -> None:
    """Though its closing sentence is whole: labels may be missing."""
    asked = "Detect the star and the red ring."
    assert vlm.chat(asked, images=[image]).finish_reason == "stop"
    cut = vlm.chat(asked, images=[image], options=GenerationOptions(max_new_tokens=8))
    assert cut.finish_reason == "length"
    assert cut.text.startswith("I found")


def test_an_image_given_after_a_picture_was_made_is_the_latest(image: Image.Image) -> None:
    rules = ImageRules()
    made = GeneratedImage(width=32, height=32, prompt="a red square", seed=0, steps=1, guidance=1.0)
    picture = made.with_image(Image.new("RGB", (32, 32), "red"))
    call = RoutedCall(token="[GEN]", tool="draw", probability=1.0, result=picture)
    talk = conversation("Find stars", image, [("Draw", Reply(text="Here.", calls=(call,), seen=()))], rules)
    assert talk.new_images == 2
    assert talk.image is not None
    assert (talk.image.width, talk.image.height) == image.size


def test_images_of_later_turns(random_vlm: VisionLLM, image: Image.Image) -> None:
    past = PastTurn("What is it?", "A star.", images=[image])
    talk = conversation("And this?", image.rotate(90), [past], ImageRules())
    assert (len(talk.images), talk.new_images) == (2, 1)
    assert talk.image is talk.images[1]
    reply = random_vlm.chat("And this?", images=image, history=[past], options=BRIEF)
    assert reply.usage is not None
    assert reply.usage.image_tokens > 64


def test_a_system_prompt_is_read(random_vlm: VisionLLM) -> None:
    with_it = random_vlm.chat("Hello", system="Be brief. " * 20, options=BRIEF)
    without = random_vlm.chat("Hello", system="", options=BRIEF)
    assert with_it.usage is not None
    assert without.usage is not None
    assert with_it.usage.input_tokens > without.usage.input_tokens + 40


def test_stream_tells_what_chat_returns(random_vlm: VisionLLM, image: Image.Image) -> None:
    events = list(random_vlm.stream("Find them", image, options=scripted(random_vlm, DETECT)))
    reply = random_vlm.chat("Find them", image, options=scripted(random_vlm, DETECT))
    streamed = [event.call for event in events if isinstance(event, CallDone)]
    assert isinstance(events[-1], ReplyDone)
    assert events[-1].reply.calls == tuple(streamed)
    assert [(call.token, call.labels) for call in streamed] == [(c.token, c.labels) for c in reply.calls]
    assert events[-1].reply.usage == reply.usage
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text.strip() == reply.text


def test_stream_of_words(random_vlm: VisionLLM) -> None:
    options = scripted(random_vlm, "Hello! How are you?")
    events = list(random_vlm.stream("Hello", options=options))
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(deltas) > 1
    assert "".join(deltas).strip() == "Hello! How are you?"


def test_a_stream_can_be_left_and_cancelled(random_vlm: VisionLLM) -> None:
    stream = random_vlm.stream("Hello", options=GenerationOptions(max_new_tokens=200))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert random_vlm.chat("Hello", options=BRIEF).finish_reason == "length"  # the model is free again
    cancel = CancelToken()
    cancel.cancel()
    assert random_vlm.chat("Hello", cancel=cancel).finish_reason == "cancelled"


def test_what_a_reply_says_twice_is_done_once(random_vlm: VisionLLM, image: Image.Image) -> None:
    twice = "<det>star</det>[DET], <det>star</det>[DET], <det>star</det>[SEG], <det>star</det>[DET]."
    options = scripted(random_vlm, twice)
    reply = random_vlm.chat("Find the star", images=[image], options=options)
    assert [(call.token, call.labels) for call in reply.calls] == [("[DET]", ("star",)), ("[SEG]", ("star",))]
    streamed = random_vlm.stream("Find the star", images=[image], options=scripted(random_vlm, twice))
    assert [event.call.token for event in streamed if isinstance(event, CallDone)] == ["[DET]", "[SEG]"]


def test_tools_look_at_the_image_that_is_given_again(random_vlm: VisionLLM, image: Image.Image) -> None:
    later = image.rotate(90, expand=True)
    digests = [random_vlm.rules.load(one).digest for one in (image, later)]
    history: list[Any] = [
        PastTurn("What is it?", Reply(text="A star.", seen=tuple(digests[:1])), images=[image]),
        PastTurn("And this?", Reply(text="A ring.", seen=tuple(digests)), images=[later]),
    ]
    reply = random_vlm.chat("Find it", image, history, options=scripted(random_vlm, DETECT))
    assert isinstance(reply.results[0], Detections)
    assert (reply.results[0].width, reply.results[0].height) == image.size
    reply = random_vlm.chat("And there?", history=history, images=later, options=scripted(random_vlm, DETECT))
    assert (reply.results[0].width, reply.results[0].height) == later.size  # type: ignore[attr-defined]
    box = Box(10, 10, 40, 40)
    pointed = scripted(random_vlm, "<det>region1</det>[DET].")
    reply = random_vlm.chat("Find <region>", image, history, regions=[box], options=pointed)
    assert [one.region for one in reply.results[0]] == [0]  # type: ignore[attr-defined]


def test_a_turn_may_have_one_image_by_itself(image: Image.Image) -> None:
    for one in (image, np.asarray(image)):
        talk = conversation("And now?", (), [PastTurn("What is it?", "A star.", images=one)], ImageRules())
        assert [(shown.width, shown.height) for shown in talk.images] == [image.size]


def test_what_is_required_has_to_be_allowed(random_vlm: VisionLLM, image: Image.Image) -> None:
    with pytest.raises(InputError, match="may not use a routing token that it has to use"):
        GenerationOptions(require="[DET]", tokens=("[GRD]",))
    with pytest.raises(InputError, match=r"has to use \(got \[DET\]; allowed: \[GRD\]"):
        random_vlm.chat("Find it", image, force="detect", options=GenerationOptions(tokens=("[GRD]",)))
