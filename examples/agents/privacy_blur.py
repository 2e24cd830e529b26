"""Make people (or anything else) unrecognisable, and nothing but them: blurred.png.

python examples/agents/privacy_blur.py [IMAGE] [WHAT]
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageFilter

from visionllm_sdk import Detections, VisionAgent, load_image
from visionllm_sdk.demo import demo_scene


def main(arguments: list[str]) -> None:
    image = load_image(arguments[0]) if arguments else demo_scene()
    what = arguments[1] if len(arguments) > 1 else "dog"
    reply = VisionAgent(force="detect").invoke(f"Detect every {what}.", images=[image])
    hidden = np.zeros((image.height, image.width), dtype=bool)
    for found in reply.results:
        if isinstance(found, Detections):
            for thing in found:
                hidden |= thing.mask.to_numpy() if thing.mask is not None else False
    side = max(image.width, image.height)
    grown = ImageFilter.MaxFilter(2 * (side // 40) + 1)  # the outline must not tell, either
    mask = Image.fromarray(hidden).convert("L").filter(grown)
    blurred = image.image.filter(ImageFilter.GaussianBlur(side / 16))
    Image.composite(blurred, image.image, mask).save("blurred.png")
    print(f"{reply.text} {np.asarray(mask).mean() / 255:.1%} of the picture is blurred: blurred.png")


if __name__ == "__main__":
    main(sys.argv[1:])
