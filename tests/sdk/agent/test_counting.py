from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, trim_messages

from tests.sdk.agent.conftest import asking, drawn
from visionllm_sdk import VisionLLM


def test_texts_are_counted_in_the_checkpoint_s_own_tokens(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model()
    text = "Find the red circle, then <s> the [DET] star."
    assert model.get_num_tokens(text) == len(random_vlm.engine.model.tokenizer.encode_user_text(text))


def test_the_sum_is_close_to_the_prompt(vlm: VisionLLM) -> None:
    model = vlm.as_chat_model(max_tokens=4)
    for image in (drawn(1), drawn(2, width=400, height=60)):
        messages = [asking("How many stars are there in this picture?", image)]
        read = model.bind_tools([], tool_choice="none").invoke(messages).usage_metadata
        assert read is not None
        system = model.get_num_tokens(vlm.engine.model.config.sdk.system_prompt or "")
        assert abs(model.get_num_tokens_from_messages(messages) + system - read["input_tokens"]) <= 8


def test_conversations_can_be_shortened(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model()
    call = {"name": "detect", "args": {"labels": ["star"]}, "id": "1", "type": "tool_call"}
    turn = [
        asking("find it", drawn(1)),
        AIMessage("", tool_calls=[call]),
        ToolMessage("1 star.", tool_call_id="1"),
    ]
    last = HumanMessage("thank you")
    most = model.get_num_tokens_from_messages([*turn, last]) - 1
    kept = trim_messages([*turn, last], max_tokens=most, token_counter=model, start_on="human")
    assert kept == [last]
    assert model.profile is not None
    assert model.profile["max_input_tokens"] > most
