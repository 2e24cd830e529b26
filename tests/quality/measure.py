"""What the embedded model reaches on the scenes of the quality tests (`python -m tests.quality.measure`).

`--foreign 150` prints the figures of so many foreign scenes instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from tests.foreign_scenes import foreign_scene
from tests.quality.plain import plain_figures
from tests.quality.strangers import answered_right, figures_found, posed_right, routed_right, seen_right
from tests.stranger_pictures import stranger_figures
from visionllm_sdk.evaluation import BARS, EvaluationReport, SkillReport, held_out_samples, run
from visionllm_sdk.evaluation.samples import Triple
from visionllm_sdk.evaluation.skills import SKILLS

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

REACHED = Path(__file__).parent / "reached.json"
SCENES = {
    "detection": 60,
    "segmentation": 40,
    "grounding": 50,
    "counting": 50,
    "vqa": 40,
    "caption": 40,
    "routing": 30,
    "pose": 60,
    "pointed_routing": 20,
    "region_recognition": 40,
    "region_description": 40,
    "interactive_segmentation": 40,
    "in_context_segmentation": 40,
    "generation": 80,
    "editing": 60,
}
"""Scenes for each skill: together about two minutes on one core."""
TOKENS = ("none", "[DET]", "[GRD]", "[SEG]")
FOREIGN_SCENES = 30
EVERY_WORDING, WORDING_SCENES = 3, 12
STRANGERS_OF_A_STYLE, STRANGER_FIGURES = 4, 24
PLAIN_PICTURES = 4
FOREIGN_BARS = [
    bar for bar in BARS if bar.skill == "detection" or (bar.skill, bar.figure) == ("vqa", "accuracy")
]


def skill_report(vlm: VisionLLM, skill: str) -> SkillReport:
    """One skill on the first held-out scenes."""
    count = SCENES[skill]
    found = run(vlm, scenes=count, skills=[skill], source=held_out_samples(count), progress=False)
    return found.skills[skill]


def right_tokens(report: SkillReport) -> dict[str, float]:
    """Of the sentences that want a routing token, or none, the share that got just that."""
    rows = report.tables["tokens"]
    return {token: rows[token].get(token, 0) / sum(rows[token].values()) for token in TOKENS}


def foreign_report(
    vlm: VisionLLM, scenes: int = FOREIGN_SCENES, skills: Sequence[str] = ("detection", "vqa")
) -> EvaluationReport:
    """Skills on scenes of another drawing code."""
    return run(vlm, skills=skills, source=foreign_scenes(scenes), progress=False)


def wording_figures(vlm: VisionLLM) -> dict[str, float]:
    """Requests and questions in words that training never saw, of all kinds together."""
    routed = routed_right(vlm, every=EVERY_WORDING)
    answered = answered_right(vlm, scenes=WORDING_SCENES)
    return {"routed": mean(routed.values()), "answered": mean(answered.values())}


def stranger_report(vlm: VisionLLM) -> dict[str, float]:
    """What is found in pictures by a stranger: of all kinds, and persons and dogs."""
    seen = seen_right(vlm, each=STRANGERS_OF_A_STYLE, skills=["detection"])
    scenes = stranger_figures(STRANGER_FIGURES)
    figures = figures_found(vlm, scenes) | posed_right(vlm, scenes)
    return {name: seen[f"detection.{name}"] for name in ("box_ap50", "mask_ap50")} | figures


def foreign_scenes(count: int) -> Iterator[Triple]:
    """Scenes of another drawing code, saved as JPEG."""
    for seed in range(count):
        scene = foreign_scene(seed, width=192, height=160)
        yield scene.image, scene.facts, scene.masks


def main() -> None:
    """Measure and write `reached.json`, or print what was asked for."""
    from visionllm_sdk import VisionLLM

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--foreign", type=int, metavar="N", help="only print figures of N foreign scenes")
    arguments = parser.parse_args()
    vlm = VisionLLM.from_pretrained()
    if arguments.foreign is not None:
        report = foreign_report(vlm, arguments.foreign, ("detection", "counting", "vqa"))
        figures_of = {name: skill.figures for name, skill in report.skills.items()}
        sys.stdout.write(json.dumps(figures_of, indent=2) + "\n")
        return
    own = {skill: skill_report(vlm, skill) for skill in SCENES if SKILLS[skill].needs in (None, *vlm.skills)}
    bars = [bar for bar in BARS if bar.skill in own]
    foreign = foreign_report(vlm).skills
    figures = {
        "held_out": {f"{bar.skill}.{bar.figure}": bar.judge(own[bar.skill]).value for bar in bars},
        "tokens": right_tokens(own["routing"]),
        "wordings": wording_figures(vlm),
        "strangers": stranger_report(vlm),
        "plain": plain_figures(vlm, pictures=PLAIN_PICTURES),
        "foreign": {f"{bar.skill}.{bar.figure}": bar.judge(foreign[bar.skill]).value for bar in FOREIGN_BARS},
    }
    REACHED.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
