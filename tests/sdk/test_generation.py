from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.sdk.generating import generator, picture, recorded, request, scattered, states, tiny
from tests.sdk.model.reference import (
    GENERATE_CASES,
    TOLERANCE,
    error,
    fresh_model,
    reference_model,
)
from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.generation import (
    CallDone,
    CancelToken,
    GeneratedReply,
    GenerationOptions,
    GenerationRequest,
    Generator,
    LinkDone,
    ReplyDone,
    TextDelta,
)
from visionllm_sdk.model.prompt import collate


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


BAD_OPTIONS: dict[str, float] = {
    "max_new_tokens": 0, "max_calls": -1, "temperature": -0.1, "top_k": -1, "top_p": 0.0,
    "repetition_penalty": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD_OPTIONS))
def test_impossible_options_are_named(name: str):
    for value in (BAD_OPTIONS[name], "1", None, True, math.inf, math.nan, [1]):
        with pytest.raises(InputError, match=name):
            GenerationOptions(**{name: value})


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


def test_tied_embeddings_generate_too():
    model = fresh_model()
    model.core.llm.lm_head.weight = model.core.llm.model.embed_tokens.weight
    reply = Generator(model).generate([request(max_new_tokens=3)])[0]
    assert len(reply.ids) == 3


def test_numbers_of_any_type_come_to_one_form():
    plain = GenerationOptions(
        max_new_tokens=5, temperature=2.0, top_p=0.5, top_k=3, repetition_penalty=2.0, seed=5
    )
    odd = GenerationOptions(
        max_new_tokens=np.int64(5),  # type: ignore[arg-type]
        temperature=np.float32(2),  # type: ignore[arg-type]
        top_p=np.float64(0.5),
        top_k=torch.tensor(3),  # type: ignore[arg-type]
        repetition_penalty=2,
        seed=np.uint8(5),  # type: ignore[arg-type]
    )
    assert odd == plain
    assert [type(getattr(odd, name)) for name in ("top_k", "seed", "repetition_penalty")] == [int, int, float]
    replies = [
        generator().generate([GenerationRequest(prompt=request().prompt, options=one)])[0].ids
        for one in (plain, odd)
    ]
    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    "options",
    [
        {"seed": "x"}, {"seed": 1.5}, {"seed": 2**64}, {"tokens": "[DET]"}, {"tokens": (3,)}, {"require": 3},
        {"routing_bias": None}, {"routing_bias": {"[DET]": math.nan}}, {"routing_bias": {"[DET]": "much"}},
        {"processors": None}, {"processors": (3,)}, {"require": "[DET]", "tokens": ()},
        {"require": "[POSE]", "before": ("[DET]",), "tokens": ("[POSE]",)},
    ],
)  # fmt: skip
def test_odd_options_are_refused(options: dict):
    with pytest.raises(InputError) as caught:
        GenerationOptions(**options)
    assert caught.value.remedy


def test_what_a_required_token_reads_stands_before_it():
    always = {"routing_bias": {"[DET]": 60.0, "[SEG]": 70.0}, "max_new_tokens": 3}
    reply = generator().generate([request(require="[SEG]", before=("[DET]",), **always)])[0]
    assert [token for call in reply.calls for token in [call.token]] == ["[DET]", "[SEG]"]
