"""Draw a picture, look at what was drawn, and edit what is wrong.

python examples/drawing.py [drawn.png]
"""

from __future__ import annotations

import sys

from visionllm_sdk import VisionLLM
from visionllm_sdk.results import Picture

WANTED = (("red", "circle"), ("blue", "star"))
CAPTION = "a red circle left of a blue star on a white background"
ROUNDS = 3


def wrong_with(vlm: VisionLLM, picture: Picture) -> str | None:
    """An instruction for the first thing that is not as it should be; None when all is right."""
    for colour, shape in WANTED:
        found = vlm.detect(picture.image, [f"{colour} {shape}", shape])
        names = [detection.label for detection in found]
        if f"{colour} {shape}" in names:
            continue
        return f"make the {shape} {colour}" if shape in names else f"add a {colour} {shape}"
    return None


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else "drawn.png"
    vlm = VisionLLM.from_pretrained()
    picture: Picture = vlm.generate(CAPTION, seed=0)
    print(f"drawn: {picture.prompt} (seed {picture.seed}, {picture.handle})")
    for _ in range(ROUNDS):
        instruction = wrong_with(vlm, picture)
        if instruction is None:
            break
        picture = vlm.edit(picture.image, instruction, seed=0)
        print(f"edited: {instruction} ({picture.handle})")

    # The same by talking: every picture of a reply stands before what is said next.
    first = vlm.chat(f"Draw {CAPTION}.", force="generate", seed=1)
    second = vlm.chat("Make the background yellow.", history=[("Draw it.", first)], force="edit", seed=1)
    print("said:", first.text, second.text)

    print("saved:", picture.save(target))


if __name__ == "__main__":
    main()
