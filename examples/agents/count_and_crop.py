"""Count what somebody asks for, and save every piece on a transparent background: pieces/*.png.

python examples/agents/count_and_crop.py [IMAGE] [REQUEST] [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from visionllm_sdk import Detections, VisionAgent, load_image
from visionllm_sdk.demo import demo_scene


def main(arguments: list[str]) -> None:
    image = load_image(arguments[0]) if arguments else demo_scene()
    request = arguments[1] if len(arguments) > 1 else "Detect the hearts."
    folder = Path(arguments[2] if len(arguments) > 2 else "pieces")
    folder.mkdir(parents=True, exist_ok=True)
    reply = VisionAgent().invoke(request, images=[image])
    things = [thing for found in reply.results if isinstance(found, Detections) for thing in found]
    for number, thing in enumerate(things, start=1):
        piece = image.image.convert("RGBA")
        if thing.mask is not None:
            piece.putalpha(Image.fromarray(thing.mask.to_numpy()).convert("L"))
        box = tuple(round(edge) for edge in thing.box.xyxy)
        piece.crop(box).save(folder / f"{number:02d}_{thing.label.replace(' ', '_')}.png")
    print(f"{reply.text} {len(things)} pieces in {folder}/")


if __name__ == "__main__":
    main(sys.argv[1:])
