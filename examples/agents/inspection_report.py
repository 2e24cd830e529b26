"""An agent inspects a picture and writes a report with crops: report/report.md.

python examples/agents/inspection_report.py [IMAGE] [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from visionllm_sdk import Detections, VisionAgent, load_image
from visionllm_sdk.demo import demo_scene

CHECKS = (
    "Detect all hearts.",
    "Where is the dog?",
    "Is there a star?",
    "What color is the triangle?",
)


def main(arguments: list[str]) -> None:
    image = load_image(arguments[0]) if arguments else demo_scene()
    folder = Path(arguments[1] if len(arguments) > 1 else "report")
    folder.mkdir(parents=True, exist_ok=True)
    agent = VisionAgent()
    lines = ["# Inspection report", ""]
    overview = image.image
    for check in CHECKS:
        reply = agent.invoke(check, images=[image])
        lines += [f"## {check}", "", reply.text, ""]
        for found in reply.results:
            if not isinstance(found, Detections):
                continue
            overview = found.draw(overview)
            for thing in found:
                name = f"crop_{len(list(folder.glob('crop_*.png')))}.png"
                image.image.crop(tuple(round(edge) for edge in thing.box.xyxy)).save(folder / name)
                lines += [f"![{thing.label}]({name}) {thing.label}, {thing.score:.0%} sure", ""]
    overview.save(folder / "overview.png")
    (folder / "report.md").write_text("\n".join([*lines, "![overview](overview.png)", ""]), encoding="utf-8")
    print(folder / "report.md")


if __name__ == "__main__":
    main(sys.argv[1:])
