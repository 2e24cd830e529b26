"""A conversation of several turns about one image, streamed: words, tool calls, results.

python examples/conversation.py
"""

from __future__ import annotations

from visionllm_sdk import VisionLLM
from visionllm_sdk.demo import demo_scene
from visionllm_sdk.skills import CallDone, PastTurn, ReplyDone, TextDelta

QUESTIONS = ("Detect the hearts.", "And the dog?", "Describe the image.")


def main() -> None:
    vlm = VisionLLM.from_pretrained()
    image = demo_scene()
    history: list[PastTurn] = []
    for question in QUESTIONS:
        print(f"\n> {question}")
        for event in vlm.stream(question, images=image, history=history):
            if isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
            elif isinstance(event, CallDone):
                call = event.call
                print(f"[{call.tool} {', '.join(call.labels)}: {call.probability:.0%} sure]")
            elif isinstance(event, ReplyDone):
                history.append(PastTurn(question, event.reply))
        print()


if __name__ == "__main__":
    main()
