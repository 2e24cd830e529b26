from __future__ import annotations

import functools
import json
import random

import pytest
import torch
from safetensors import safe_open

from tests.sdk.model.reference import (
    GENERATE_CASES,
    GOLDENS,
    TOLERANCE,
    Planned,
    error,
    fresh_model,
    golden,
    golden_prompt,
    reference_model,
)
from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.generation import (
    CallDone,
    CancelToken,
    ForcedRequest,
    GeneratedReply,
    GenerationOptions,
    GenerationRequest,
    Generator,
    LinkDone,
    ReplyDone,
    Session,
    TextDelta,
)
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.conversation import (
    DETECTION_LAYOUT,
    KEYPOINT_LAYOUT,
    ForcedCall,
    Turn,
    image_parts,
    region_parts,
)
from visionllm_sdk.model.prompt import RegionPrompt, TiledImage, collate
from visionllm_sdk.model.session import image_key
from visionllm_sdk.tool import RoutingToken

ROUTING = ("[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]")
DET = RoutingToken(text="[DET]", label_tag="det", layout=DETECTION_LAYOUT)
POSE = RoutingToken(text="[POSE]", layout=KEYPOINT_LAYOUT)


@functools.cache
def tiny() -> Model:
    return reference_model("tiny_core")


@functools.cache
def generator() -> Generator:
    return Generator(tiny())


def picture(seed: int, tiles: int = 1) -> TiledImage:
    pixels = torch.randn(tiles, 3, 56, 56, generator=torch.Generator().manual_seed(seed))
    return TiledImage(pixels, key=image_key(pixels))


def request(text: str = "Hi", *images: TiledImage, session: Session | None = None, **options: object):
    prompt = generator().builder.build([Turn((*image_parts(len(images)), text))], images)
    settings = GenerationOptions(**{"max_new_tokens": 12, **options})
    return GenerationRequest(prompt=prompt, options=settings, question=text, session=session)


def recorded(checkpoint: str, name: str) -> tuple[GenerationRequest, dict[str, torch.Tensor]]:
    """A recorded generation as a request: the same prompt, the same planned tokens."""
    model, values = reference_model(checkpoint), golden(name)
    with safe_open(GOLDENS / f"{name}.safetensors", "pt") as file:
        plan = json.loads(file.metadata()["plan"])
    prompt = golden_prompt(model, values)
    first = min(model.tokenizer.added.values())
    planned = Planned(
        prompt_length=len(prompt.ids),
        plan={int(step): index for step, index in plan.items()},
        first_control=first,
        end=model.tokenizer.eos_id,
    )
    steps = values["sequences"].shape[1] - len(prompt.ids)
    return GenerationRequest(
        prompt=prompt, options=GenerationOptions(max_new_tokens=steps, processors=(planned,))
    ), values


def states(reply: GeneratedReply) -> list[torch.Tensor]:
    return [link.states for call in reply.calls for link in call.super_links]


# -- equality with the recorded runs -----------------------------------------------------------------------


@pytest.mark.parametrize(("checkpoint", "name"), GENERATE_CASES)
def test_ids_positions_and_states_equal_the_recorded_ones(checkpoint: str, name: str):
    model = reference_model(checkpoint)
    asked, values = recorded(checkpoint, name)
    steps: list[torch.Tensor] = []
    hook = model.core.llm.model.norm.register_forward_hook(lambda *call: steps.append(call[2].detach()))
    reply = Generator(model).generate([asked])[0]
    hook.remove()
    length = len(asked.prompt.ids)
    assert list(reply.ids) == values["sequences"][0, length:].tolist()
    assert [step.shape[1] for step in steps] == values["tokens_per_step"].tolist()
    assert error(torch.cat(steps, dim=1)[:, length - 1 :], values["hidden_new"]) < TOLERANCE
    if "superlink" in values:
        assert error(torch.cat(states(reply)), values["superlink"]) < TOLERANCE


@pytest.mark.parametrize(("checkpoint", "name"), GENERATE_CASES)
def test_one_pass_over_the_reply_equals_the_recorded_states(checkpoint: str, name: str):
    model = reference_model(checkpoint)
    asked, values = recorded(checkpoint, name)
    ids = values["expanded_ids"][0].tolist()
    prompt = type(asked.prompt)(ids=ids, marks=[False] * len(ids), images=asked.prompt.images)
    with torch.no_grad():
        output = model.core(collate([prompt], pad_id=0), loss=False)
    start = len(asked.prompt.ids) - 1
    assert error(output.hidden[:, start:], values["teacher_forced.hidden_new"]) < TOLERANCE


# -- batches -----------------------------------------------------------------------------------------------


class Scattered:
    """Emits routing tokens at random steps, the same for a row wherever it stands."""

    def __init__(self, seed: int, start: int, ids: list[int]) -> None:
        self._seed, self._start, self._ids = seed, start, ids

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        draw = random.Random(1000 * self._seed + ids.shape[1] - self._start)
        if draw.random() < 0.35:
            scores = scores.clone()
            scores[:, draw.choice(self._ids)] = 1e4
        return scores


def scattered(number: int, text: str, *images: TiledImage, **options: object) -> GenerationRequest:
    plain = request(text, *images)
    ids = [tiny().tokenizer.control_id(token) for token in ROUTING]
    settings = GenerationOptions(
        max_new_tokens=6 + number, processors=(Scattered(number, len(plain.prompt.ids), ids),), **options
    )
    return GenerationRequest(prompt=plain.prompt, options=settings, question=text)


def test_a_batch_equals_single_runs_token_for_token():
    requests = [
        scattered(0, "Hi"),
        scattered(1, "What is in the image?", picture(1)),
        scattered(2, "Compare the two images, please.", picture(2, 3), picture(3)),
        scattered(3, "Detect the person and the dog.", picture(1)),
        request("Say nothing.", max_new_tokens=1),
        request("Sample something.", temperature=1.0, seed=7, max_new_tokens=9),
        scattered(4, "Sample.", temperature=0.7, seed=3),
    ]
    together = generator().generate(requests)
    used = {call.token for reply in together for call in reply.calls}
    assert len(used) >= 4
    for reply, one in zip(together, requests, strict=True):
        alone = generator().generate([one])[0]
        assert reply.ids == alone.ids
        assert (reply.text, reply.finish) == (alone.text, alone.finish)
        for found, wanted in zip(states(reply), states(alone), strict=True):
            assert error(found, wanted) < TOLERANCE


def test_no_request_no_reply():
    assert generator().generate([]) == []


def test_cached_super_links_equal_one_pass_over_the_reply():
    asked = scattered(5, "What is there?", picture(1))
    reply = generator().generate([asked])[0]
    parts = tiny().tokenizer
    plan = tiny().core.plan
    ids = list(asked.prompt.ids)
    for index in reply.ids:
        ids += [index, *(plan.by_id[index].placeholders if index in plan.by_id else ())]
    prompt = type(asked.prompt)(ids=ids, marks=[False] * len(ids), images=asked.prompt.images)
    output = tiny().core(collate([prompt], pad_id=parts.pad_id), loss=False)
    assert len(output.states) == len(states(reply)) > 0
    for found, wanted in zip(states(reply), output.states, strict=True):
        assert error(found, wanted.detach()) < TOLERANCE


# -- options -----------------------------------------------------------------------------------------------


def test_seeds_repeat_and_differ():
    once, again, other = (
        generator().generate([request(temperature=1.5, seed=seed, max_new_tokens=20)])[0].ids
        for seed in (1, 1, 2)
    )
    assert once == again != other
    assert (
        generator().generate([request(temperature=1.5, top_k=1)])[0].ids
        == generator().generate([request()])[0].ids
    )


def test_sampling_settings_of_the_library_apply():
    greedy = generator().generate([request(max_new_tokens=20)])[0].ids
    narrow = generator().generate([request(temperature=2.0, top_p=1e-6, max_new_tokens=20, seed=0)])[0].ids
    assert narrow == greedy
    varied = generator().generate([request(repetition_penalty=50.0, max_new_tokens=20)])[0].ids
    assert len(set(varied)) > len(set(greedy))


def test_stop_texts_end_a_reply_and_are_cut_off():
    whole = generator().generate([request(max_new_tokens=30)])[0].text
    stop = whole[6:9]
    reply = generator().generate([request(max_new_tokens=30, stop=(stop,))])[0]
    assert reply.text == whole[: whole.index(stop)]
    assert reply.finish == "stop_string"
    alone = generator().generate([request(max_new_tokens=30, stop=stop)])[0]
    assert (alone.text, alone.finish) == (reply.text, reply.finish)


def test_end_tokens_end_a_reply():
    end = tiny().tokenizer.eos_id

    def always_end(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, end] = 1e4
        return scores

    reply = generator().generate([request(processors=(always_end,))])[0]
    assert (reply.ids, reply.text, reply.finish) == ((), "", "stop")


def routing_ids(reply: GeneratedReply) -> list[str]:
    return [text for index in reply.ids if (text := tiny().tokenizer.control_text(index))]


def test_routing_can_be_forbidden_required_and_limited():
    biased = {"routing_bias": {"[SEG]": 60.0}, "max_new_tokens": 5}
    assert routing_ids(generator().generate([request(**biased)])[0]) == ["[SEG]"] * 5
    assert routing_ids(generator().generate([request(tokens=(), max_new_tokens=5)])[0]) == []
    only = generator().generate([request(tokens=("[DET]",), require="[DET]", max_new_tokens=40)])[0]
    assert set(routing_ids(only)) <= {"[DET]"}
    limited = generator().generate([request(**biased, max_calls=2)])[0]
    assert (routing_ids(limited), limited.finish) == (["[SEG]"] * 2, "calls")


def test_a_required_token_blocks_the_end():
    end = tiny().tokenizer.eos_id
    det = tiny().tokenizer.control_id("[DET]")

    def end_or_route(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, end], forced[:, det] = 2.0, 1.0
        return forced + torch.where(scores.isneginf(), scores, 0.0)

    reply = generator().generate([request(require="[DET]", processors=(end_or_route,))])[0]
    assert routing_ids(reply) == ["[DET]"]
    assert reply.finish == "stop"


def test_a_reply_that_ends_with_a_routing_token_still_has_its_queries():
    reply = generator().generate([request(routing_bias={"[GEN]": 60.0}, max_new_tokens=1)])[0]
    assert reply.finish == "length"
    assert states(reply)[0].shape == (8, 64)


def test_placeholders_and_input_tokens_are_never_written():
    never = ("[EMB]", "[EMB4]", "<im_patch>", "<image>", "<region>", "[PAD]", "<s>")
    reply = generator().generate([request(temperature=50.0, seed=0, max_new_tokens=100)])[0]
    assert len(set(reply.ids)) > 30  # hot enough to have written anything
    assert not set(reply.ids) & {tiny().tokenizer.control_id(text) for text in never}


def test_probability_and_runners_up_are_recorded():
    [call] = generator().generate([request(routing_bias={"[DET]": 60.0}, max_new_tokens=1)])[0].calls
    prompt = request().prompt
    with torch.no_grad():
        hidden = tiny().core(collate([prompt], pad_id=0), loss=False).hidden[0, -1]
        wanted = tiny().core.llm.lm_head(hidden).softmax(-1)
    assert call.probability == pytest.approx(float(wanted[tiny().tokenizer.control_id("[DET]")]), rel=1e-3)
    values = [value for _, value in call.alternatives]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(float(wanted.max()), rel=1e-3)


BAD_OPTIONS = {
    "max_new_tokens": 0, "max_calls": -1, "temperature": -0.1, "top_k": -1, "top_p": 0.0,
    "repetition_penalty": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD_OPTIONS))
def test_impossible_options_are_named(name: str):
    with pytest.raises(InputError, match=name):
        GenerationOptions(**{name: BAD_OPTIONS[name]})


@pytest.mark.parametrize("stop", ["", ("",), ("END", ""), (3,), [None], None, b"END", 3])
def test_stop_texts_are_texts(stop: object):
    with pytest.raises(InputError, match="stop does not hold texts"):
        GenerationOptions(stop=stop)  # type: ignore[arg-type]


def test_stop_texts_come_to_one_form():
    assert [GenerationOptions(stop=stop).stop for stop in ("END", ["END"], ("END",), ())] == [
        *[("END",)] * 3,
        (),
    ]


@pytest.mark.parametrize(
    "options", [{"require": "[DEPTH]"}, {"tokens": ("[DEPTH]",)}, {"routing_bias": {"[X]": 1.0}}]
)
def test_unknown_routing_tokens_are_named(options: dict):
    with pytest.raises(InputError, match="no such routing token"):
        generator().generate([request(**options)])


def test_a_prompt_that_is_too_long_is_refused():
    with pytest.raises(LimitError, match=r"request 1.*Shorten"):
        generator().generate([request(), request("word " * 2000)])


def test_a_reply_ends_where_the_positions_end():
    end = tiny().tokenizer.eos_id

    def never_end(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, end] = -torch.inf
        return scores

    asked = request("a " * 930, max_new_tokens=500, processors=(never_end,))
    reply = generator().generate([asked])[0]
    queries = sum(len(one) for one in states(reply))
    assert reply.finish == "length"
    assert 1015 <= reply.prompt_tokens + len(reply.ids) + queries <= 1024


# -- streaming and cancelling ------------------------------------------------------------------------------


def test_streamed_events_add_up_to_the_replies():
    requests = [scattered(seed, "What is it?", picture(seed)) for seed in range(1, 5)]
    events = list(generator().stream(requests))
    for index, wanted in enumerate(generator().generate(requests)):
        own = [event for event in events if event.request == index]
        assert "".join(event.text for event in own if isinstance(event, TextDelta)) == wanted.text
        assert len([event for event in own if isinstance(event, LinkDone)]) == len(states(wanted))
        calls = [event.call for event in own if isinstance(event, CallDone)]
        assert [(call.token, call.labels) for call in calls] == [
            (call.token, call.labels) for call in wanted.calls
        ]
        assert isinstance(own[-1], ReplyDone)
        assert own[-1].reply.ids == wanted.ids


def test_a_stop_text_is_never_streamed():
    whole = generator().generate([request(max_new_tokens=30)])[0].text
    stop = whole[6:12]
    events = list(generator().stream([request(max_new_tokens=30, stop=(stop,))]))
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == whole[: whole.index(stop)]


def test_one_request_can_be_cancelled_while_others_go_on():
    token = CancelToken()
    plain = request(max_new_tokens=10)
    stopped = GenerationRequest(prompt=plain.prompt, options=plain.options, cancel=token)
    replies = {}
    for event in generator().stream([stopped, plain]):
        if isinstance(event, TextDelta) and event.request == 0:
            token.cancel()
        if isinstance(event, ReplyDone):
            replies[event.request] = event.reply
    assert replies[0].finish == "cancelled"
    assert len(replies[0].ids) < 10
    assert replies[1].ids == generator().generate([plain])[0].ids


def test_a_closed_stream_stops():
    steps = []
    hook = tiny().core.llm.model.norm.register_forward_hook(lambda *call: steps.append(1))
    stream = generator().stream([request(max_new_tokens=200)])
    next(stream)
    stream.close()
    hook.remove()
    assert len(steps) <= 3


# -- sessions ----------------------------------------------------------------------------------------------


def follow_up(text: str, first: GenerationRequest, answer: str, *images: TiledImage, session: Session | None):
    turns = [Turn((*image_parts(len(images)), first.question), (answer,)), Turn((text,))]
    prompt = generator().builder.build(turns, images)
    return GenerationRequest(prompt=prompt, options=first.options, question=text, session=session)


def test_a_second_question_reuses_image_and_prefix_and_changes_nothing():
    session, image = Session(), picture(1, 3)
    seen = []
    hook = tiny().core.vis_encoder.register_forward_hook(lambda *call: seen.append(len(call[1][0])))
    first = request("What is it?", image, session=session)
    answer = generator().generate([first])[0]
    assert answer.reused_tokens == 0
    again = request("Where is it?", image, session=session)
    second = generator().generate([again])[0]
    third = generator().generate([follow_up("And now?", first, answer.text, image, session=session)])[0]
    hook.remove()
    assert sum(seen) == image.tiles
    assert second.reused_tokens > 16 * 3
    assert third.reused_tokens > 16 * 3
    assert second.ids == generator().generate([request("Where is it?", image)])[0].ids
    fresh = follow_up("And now?", first, answer.text, image, session=None)
    assert third.ids == generator().generate([fresh])[0].ids


def test_another_image_is_never_answered_from_memory():
    session = Session()
    generator().generate([request("What is it?", picture(1), session=session)])
    other = generator().generate([request("What is it?", picture(2), session=session)])[0]
    assert other.ids == generator().generate([request("What is it?", picture(2))])[0].ids
    unnamed = TiledImage(picture(1).pixels)
    reply = generator().generate([request("What is it?", unnamed, session=session)])[0]
    assert reply.reused_tokens < 70


def test_sessions_of_a_batch_are_independent_and_survive_routing():
    sessions = [Session(), Session()]
    images = [picture(1), picture(2)]
    for text in ("What is it?", "Detect it all.", "What is it?"):
        plain = [scattered(3, text, image) for image in images]
        kept = [
            GenerationRequest(prompt=one.prompt, options=one.options, question=text, session=session)
            for one, session in zip(plain, sessions, strict=True)
        ]
        found = [reply.ids for reply in generator().generate(kept)]
        assert found == [reply.ids for reply in generator().generate(plain)]
    assert all(session.reused_tokens > 0 for session in sessions)


def test_regions_work_with_sessions():
    session, image = Session(), picture(1)
    turns = [Turn((*image_parts(), "What is ", *region_parts("region1"), "?"))]
    replies = []
    for mask in (torch.ones(56, 56), torch.eye(56), torch.ones(56, 56)):
        prompt = generator().builder.build(turns, [image], [RegionPrompt(mask)])
        options = GenerationOptions(max_new_tokens=8)
        kept = generator().generate([GenerationRequest(prompt=prompt, options=options, session=session)])[0]
        plain = generator().generate([GenerationRequest(prompt=prompt, options=options)])[0]
        assert kept.ids == plain.ids
        replies.append(kept)
    assert replies[0].ids == replies[2].ids


# -- forced routing ----------------------------------------------------------------------------------------


def forced(labels: tuple[str, ...], *images: TiledImage) -> ForcedRequest:
    return ForcedRequest(calls=(ForcedCall(token=DET, labels=labels),), images=images)


def test_forced_routing_is_one_pass_for_a_batch():
    passes = []
    hook = tiny().core.llm.model.norm.register_forward_hook(lambda *call: passes.append(1))
    requests = [forced(("a", "b"), picture(1)), forced(("dog",), picture(2, 3)), forced(("x", "y", "z"))]
    batch = generator().forced(requests)
    hook.remove()
    assert len(passes) == 1
    for one, [call] in zip(requests, batch, strict=True):
        [[alone]] = generator().forced([one])
        assert call.labels == one.calls[0].labels
        assert call.token == "[DET]"
        for found, wanted in zip(call.links, alone.links, strict=True):
            assert error(found.super_link.states, wanted.super_link.states) < TOLERANCE
            assert found.probability == pytest.approx(wanted.probability, rel=1e-3)
            assert 0 < found.probability < 1


def test_forced_routing_equals_a_laid_out_pass():
    values = golden("golden_mm_det")
    image = TiledImage(values["images"])
    calls = generator().forced([forced(("person", "dog", "cat"), image)])[0]
    words = tiny().tokenizer
    template = "Yes, here are the results for person[DET], dog[DET], cat[DET] in the image."
    question = "Can you analyze the image and identify the person, dog, cat present?"
    turn = Turn((*image_parts(), question), tuple(words.parse_template(template)))
    output = tiny().core(collate([generator().builder.build([turn], [image])], pad_id=0))
    for link, wanted in zip(calls[0].links, output.states, strict=True):
        assert error(link.super_link.states, wanted.detach()) < TOLERANCE


def grouping(limit: int, *, label_tags: bool = False) -> Generator:
    model = tiny()
    config = model.config.with_sdk(max_forced_labels=limit, label_tags=label_tags)
    return Generator(Model(config=config, tokenizer=model.tokenizer, core=model.core, tools={}))


def test_long_label_lists_are_split_and_keep_their_order():
    labels = tuple(f"label {number}" for number in range(11))
    [[call]] = grouping(4).forced([forced(labels, picture(1))])
    assert call.labels == labels
    for start in (0, 4, 8):
        [[part]] = grouping(4).forced([forced(labels[start : start + 4], picture(1))])
        for found, wanted in zip(call.links[start : start + 4], part.links, strict=True):
            assert error(found.super_link.states, wanted.super_link.states) < TOLERANCE


def test_split_lists_of_several_calls_keep_their_context():
    names = tuple(f"point {number}" for number in range(5))
    asked = ForcedRequest(
        calls=(ForcedCall(token=DET, labels=("person",)), ForcedCall(token=POSE, labels=names)),
        images=(picture(1),),
    )
    [objects, points] = grouping(2).forced([asked])[0]
    assert (objects.labels, points.labels) == (("person",), names)
    assert [link.label for link in points.context] == ["person"]


def test_label_tags_are_laid_out_where_the_checkpoint_has_them():
    plain = grouping(9).forced([forced(("dog",), picture(1))])[0][0]
    tagged = grouping(9, label_tags=True).forced([forced(("dog",), picture(1))])[0][0]
    assert tagged.labels == plain.labels
    assert error(tagged.links[0].super_link.states, plain.links[0].super_link.states) > TOLERANCE


def test_forced_routing_after_earlier_turns_takes_its_own_links_only():
    words = tiny().tokenizer
    history = (
        Turn(
            (*image_parts(), "Find a cat."),
            tuple(words.parse_template("cat[DET].")),
        ),
    )
    asked = ForcedRequest(
        calls=(ForcedCall(token=DET, labels=("dog",)),), images=(picture(1),), history=history
    )
    [call] = generator().forced([asked])[0]
    assert call.labels == ("dog",)
    assert len(call.links) == 1


def test_forced_routing_with_regions():
    mask = torch.zeros(56, 56)
    mask[10:20, 10:20] = 1
    call = ForcedCall(token=DET, labels=("region1",), slot=region_parts("region1"))
    asked = ForcedRequest(calls=(call,), images=(picture(1),), regions=(RegionPrompt(mask),))
    [found] = generator().forced([asked, forced(("a",), picture(2))])[0]
    assert found.labels == ("region1",)
    many = ForcedCall(token=DET, labels=("a", "b", "c"), slot=region_parts("region1"))
    with pytest.raises(InputError, match="cannot be split"):
        grouping(2).forced(
            [ForcedRequest(calls=(many,), images=(picture(1),), regions=(RegionPrompt(mask),))]
        )


def test_forced_routing_needs_labels():
    with pytest.raises(InputError, match="at least one label"):
        forced(())


def test_tied_embeddings_generate_too():
    model = fresh_model()
    model.core.llm.lm_head.weight = model.core.llm.model.embed_tokens.weight
    reply = Generator(model).generate([request(max_new_tokens=3)])[0]
    assert len(reply.ids) == 3
