from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.model.reference import reference_model
from visionllm_sdk.model.reply import Link, ReplyBuilder, group_calls, label_of
from visionllm_sdk.tool import SuperLink

MODEL = reference_model("tiny_core")


def built(template: str, question: str = "") -> ReplyBuilder:
    """A reply as if the model had written the template."""
    reply = ReplyBuilder(MODEL.tokenizer, MODEL.core.plan, question=question)
    for index in MODEL.tokenizer.encode_template(template):
        reply.push(index)
        if spec := MODEL.core.plan.by_id.get(index):
            reply.link(spec.token, torch.zeros(spec.count, 2), 0.5, ())
    return reply


def labels(reply: ReplyBuilder) -> list[tuple[str, str]]:
    return [(link.super_link.token, link.super_link.label) for link in reply.links]


def test_tagged_labels_are_exact():
    reply = built("I see <det>red circle, maybe</det>[DET] and <grd>the star left of it</grd>[GRD].")
    assert labels(reply) == [("[DET]", "red circle, maybe"), ("[GRD]", "the star left of it")]
    assert reply.text == "I see red circle, maybe and the star left of it."
    assert reply.raw_text.count("[DET]") == 1


def test_released_labels_follow_the_question():
    reply = built(
        "Yes, here are the results for person[DET], red dog[DET] in the image.",
        "Can you analyze the image and identify the person, red dog present?",
    )
    assert labels(reply) == [("[DET]", "person"), ("[DET]", "red dog")]
    assert reply.text == "Yes, here are the results for person, red dog in the image."


def test_released_pose_and_picture_replies():
    reply = built(
        "Yes, here are the results for person[DET] in the image. Utilizing keypoints detection, the image "
        "analysis reveals the location of nose[POSE], left eye[POSE]."
    )
    assert labels(reply) == [("[DET]", "person"), ("[POSE]", "nose"), ("[POSE]", "left eye")]
    assert labels(built("Here it is [GEN].")) == [("[GEN]", "")]
    assert labels(built("Yes, it is [GRD].")) == [("[GRD]", "")]


@pytest.mark.parametrize(
    ("span", "question", "label"),
    [
        ("wall", "", "wall"),
        (" and the dog", "", "dog"),
        ("Sure, these objects are region1", "", "region1"),
        ("I can see a small cat", "Where is the cat?", "cat"),
        ("", "anything", ""),
    ],
)
def test_labels_without_tags(span: str, question: str, label: str):
    assert label_of(span, question) == label


def test_a_tag_that_was_never_closed_still_names_its_label():
    assert labels(built("<det>dog[DET]")) == [("[DET]", "dog")]


def test_a_label_is_held_back_until_its_token_comes():
    reply = ReplyBuilder(MODEL.tokenizer, MODEL.core.plan)
    for index in MODEL.tokenizer.encode_template("I see <det>dog</det>"):
        reply.push(index)
    assert reply.settled_text == "I see"
    assert reply.text == "I see dog"


def test_half_a_character_is_held_back():
    reply = ReplyBuilder(MODEL.tokenizer, MODEL.core.plan)
    ids = MODEL.tokenizer.encode_user_text("é")
    texts = []
    for index in ids:
        reply.push(index)
        texts.append(reply.text)
    assert texts[-1] == "é"
    assert "\ufffd" not in "".join(texts)


def test_neighbours_of_one_token_form_one_call():
    calls = group_calls(built("a[DET], b[DET] c[POSE], d[POSE] e[DET]").links)
    assert [(call.token, call.labels) for call in calls] == [
        ("[DET]", ("a", "b")),
        ("[POSE]", ("c", "d")),
        ("[DET]", ("e",)),
    ]
    assert [[link.label for link in call.context] for call in calls] == [[], ["a", "b"], ["c", "d"]]


def test_some_tokens_are_never_grouped():
    calls = group_calls(built("a[GEN] b[GEN] c[DET], d[DET]").links, single=["[GEN]"])
    assert [call.labels for call in calls] == [("a",), ("b",), ("c", "d")]


@given(st.lists(st.sampled_from(["[DET]", "[POSE]", "[GEN]"]), max_size=12))
def test_grouping_keeps_every_link_in_order(tokens: list[str]):
    links = [
        Link(
            super_link=SuperLink(token=token, label=str(number), states=torch.zeros(1, 1)),
            probability=1 / (number + 1),
            alternatives=((str(number), 0.0),),
            position=0,
        )
        for number, token in enumerate(tokens)
    ]
    calls = group_calls(links)
    assert [link for call in calls for link in call.links] == links
    assert all(first.token != second.token for first, second in itertools.pairwise(calls))
    for call in calls:
        assert call.probability == min(link.probability for link in call.links)
        assert call.alternatives[0][0] == call.links[-1].super_link.label
