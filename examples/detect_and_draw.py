"""Find things in an image and draw them.

    python examples/detect_and_draw.py [IMAGE] [LABEL ...]

Without an image the scene that ships with the package is used; the picture goes to found.png.
"""

from __future__ import annotations

import sys

from visionllm_sdk import VisionLLM, load_image
from visionllm_sdk.demo import demo_scene


def main(arguments: list[str]) -> None:
    image = load_image(arguments[0]) if arguments else demo_scene()
    labels = arguments[1:] or ["heart", "dog", "triangle"]
    found = VisionLLM.from_pretrained().detect(image, labels)
    for detection in found:
        area = detection.mask.area if detection.mask else 0
        corners = [round(value) for value in detection.box.xyxy]
        print(f"{detection.label:12} {detection.score:.2f}  {corners}  {area} pixels")
    found.draw(image).save("found.png")


if __name__ == "__main__":
    main(sys.argv[1:])
