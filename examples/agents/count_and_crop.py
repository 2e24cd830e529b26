"""Count what somebody asks for, and save every piece on a transparent background: pieces/*.png, sheet.png.

python examples/agents/count_and_crop.py [IMAGE] [REQUEST] [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from visionllm_sdk import Detections, VisionAgent, load_image
from visionllm_sdk.demo import demo_scene
from visionllm_sdk.drawing import contact_sheet


def main(arguments: list[str]) -> None:
    image = load_image(arguments[0]) if arguments else demo_scene()
    request = arguments[1] if len(arguments) > 1 else "Detect the hearts."
    folder = Path(arguments[2] if len(arguments) > 2 else "pieces")
    folder.mkdir(parents=True, exist_ok=True)
    reply = VisionAgent().invoke(request, images=[image])
    things = [thing for found in reply.results if isinstance(found, Detections) for thing in found]
    cut: list[Image.Image] = []
    for number, thing in enumerate(things, start=1):
        piece = image.image.convert("RGBA")
        if thing.mask is not None:
            piece.putalpha(Image.fromarray(thing.mask.to_numpy()).convert("L"))
        box = tuple(round(edge) for edge in thing.box.xyxy)
        piece = piece.crop(box)
        piece.save(folder / f"{number:02d}_{thing.label.replace(' ', '_')}.png")
        cut.append(Image.alpha_composite(Image.new("RGBA", piece.size, "white"), piece))
    if cut:
        titles = [f"{thing.label}, {thing.score:.0%}" for thing in things]
        contact_sheet(cut, titles, cell=160).save(folder / "sheet.png")
    print(f"{reply.text} {len(things)} pieces in {folder}/")


if __name__ == "__main__":
    main(sys.argv[1:])
