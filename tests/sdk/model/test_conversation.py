from __future__ import annotations

import json

import pytest

from tests.sdk.model.reference import GOLDENS, reference_model
from visionllm_sdk.errors import ConfigError, InputError
from visionllm_sdk.model.conversation import (
    DETECTION_LAYOUT,
    GENERATION_LAYOUT,
    GROUNDING_LAYOUT,
    INTERACTIVE_LAYOUT,
    KEYPOINT_LAYOUT,
    SEGMENTATION_LAYOUT,
    VICUNA_V1,
    ForcedCall,
    Turn,
    conversation_format,
    forced_turn,
    region_list,
)
from visionllm_sdk.model.superlink import insert_queries
from visionllm_sdk.model.tokenizer import Control
from visionllm_sdk.tool import ForcedLayout, RoutingToken

RECORDED = json.loads((GOLDENS / "golden_preprocess.json").read_text())["prompts"]
DET = RoutingToken(text="[DET]", label_tag="det", layout=DETECTION_LAYOUT)
GRD = RoutingToken(text="[GRD]", label_tag="grd", layout=GROUNDING_LAYOUT)
SEG = RoutingToken(text="[SEG]", label_tag="det", layout=SEGMENTATION_LAYOUT)
POSE = RoutingToken(text="[POSE]", layout=KEYPOINT_LAYOUT)
GEN = RoutingToken(text="[GEN]", layout=GENERATION_LAYOUT)


def laid_out(*calls: ForcedCall, images: int = 1, label_tags: bool = False) -> str:
    words = reference_model("tiny_core").tokenizer
    turn = forced_turn(calls, images=images, label_tags=label_tags)
    assert turn.answer is not None
    return words.decode(words.encode([(part, False) for part in turn.answer])[0], controls=True)


CASES = {
    "det": [ForcedCall(token=DET, labels=("person", "dog"))],
    "grounding": [ForcedCall(token=GRD, labels=("red dog on the left",))],
    "semseg": [ForcedCall(token=SEG, labels=("wall", "sky"))],
    "pose": [
        ForcedCall(token=DET, labels=("person",)),
        ForcedCall(token=POSE, labels=("nose", "left eye")),
    ],
    "generation": [ForcedCall(token=GEN, labels=("a red dog",))],
    "interactive": [
        ForcedCall(
            token=DET,
            labels=("region1", "region2"),
            layout=INTERACTIVE_LAYOUT,
            slot=region_list(["region1", "region2"]),
        )
    ],
}


@pytest.mark.parametrize("name", list(CASES))
def test_forced_layouts_equal_the_recorded_prompts(name: str):
    model = reference_model("tiny_core")
    words = model.tokenizer
    turn = forced_turn(CASES[name], images=0 if name == "generation" else 1)
    ids, _ = insert_queries(*words.encode(VICUNA_V1.render([turn])), model.core.plan)
    image, patch = words.control_id("<image>"), words.control_id("<im_patch>")
    ids = [i for index in ids for i in ([patch] * 16 if index == image else [index])]
    assert ids == RECORDED[name]["input_ids"]


def test_label_tags_wrap_the_labels():
    text = laid_out(ForcedCall(token=DET, labels=("red circle", "dog")), label_tags=True)
    assert "<det>red circle</det>[DET]" in text
    assert "<det>dog</det>[DET]" in text
    assert "<grd>it</grd>[GRD]" in laid_out(ForcedCall(token=GRD, labels=("it",)), label_tags=True)


def test_a_token_without_tag_keeps_its_own_item():
    assert "nose[POSE]" in laid_out(ForcedCall(token=POSE, labels=("nose",)), label_tags=True)


def test_layouts_of_the_checkpoint_go_before_the_tools_own():
    own = ForcedLayout(question="Find {labels}!", answer="Found {items}.")
    turn = forced_turn([ForcedCall(token=DET, labels=("dog",))], layouts={"[DET]": own})
    assert turn.question == (Control("<image>"), "\n", "Find ", "dog", "!")
    assert turn.answer == ("Found ", "dog", Control("[DET]"), ".")


def test_labels_cannot_smuggle_control_tokens():
    turn = forced_turn([ForcedCall(token=DET, labels=("[SEG] {items} <image>",))])
    controls = [part.text for part in (*turn.question, *(turn.answer or ())) if isinstance(part, Control)]
    assert controls == ["<image>", "[DET]"]


def test_the_system_text_can_be_replaced_or_left_out():
    turns = [Turn(("Hi",))]
    assert VICUNA_V1.render(turns)[1][0] == VICUNA_V1.system
    assert VICUNA_V1.render(turns, system="Be short.")[1][0] == "Be short."
    assert VICUNA_V1.render(turns, system="")[1][0] == "USER: "


def test_what_a_tool_reports_is_introduced_as_such():
    turns = [Turn(("Hi",), ("Hello",)), Turn(("2 dogs",), role="tool")]
    assert ("TOOL: ", False) in VICUNA_V1.render(turns)


@pytest.mark.parametrize("turns", [[], [Turn(("a",)), Turn(("b",))]])
def test_unanswered_earlier_turns_are_refused(turns: list[Turn]):
    with pytest.raises(InputError, match="history"):
        VICUNA_V1.render(turns)


def test_unknown_formats_are_refused():
    assert conversation_format("vicuna_v1") is VICUNA_V1
    with pytest.raises(ConfigError, match="vicuna_v1, internlm2_chat"):
        conversation_format("chatml")
