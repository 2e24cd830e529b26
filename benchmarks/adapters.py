"""What adapters reach, and what they cost: a new domain, a new look, a new kind of question, photographs.

    python benchmarks/adapters.py domain|blueprint|figure|question [--minutes 10] [--out adapters]
    python benchmarks/adapters.py photos annotations.json [--minutes 10]
    python benchmarks/adapters.py batch my-adapters/domain

`domain` teaches four shapes that no training showed (200 pictures, measured on 100 others), `blueprint` the
base's shapes in another look, `figure` a dog's keypoints, `question` which half of a picture is fuller;
`photos` learns annotated photographs by heart; `batch` measures what one more adapter in a mixed batch costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from visionllm_adapters import finetune
from visionllm_adapters.data.scenes import write_scenes
from visionllm_sdk import VisionLLM
from visionllm_sdk.scenes import SceneOptions, held_out_seeds, render, sample_scene, truth
from visionllm_sdk.scenes.facts import HELD_BACK_SHAPES

TRAINING = range(600_000_000, 600_000_200)
HELD_OUT_FROM = 50_000
SIZES: dict[str, Any] = {"sides": (128, 320), "max_aspect": 1.6}
OPTIONS = {
    "domain": SceneOptions(kinds=HELD_BACK_SHAPES, figures=0.0, **SIZES),
    "blueprint": SceneOptions(looks=("blueprint",), figures=0.0, **SIZES),
    "figure": SceneOptions(figures=1.0, figure_kinds=("dog",), objects=(1, 3), **SIZES),
}


def scenes(name: str, folder: Path, count: int) -> tuple[Path, Path]:
    """Training and validation annotations of a kind of scenes."""
    seeds = range(TRAINING.start, TRAINING.start + count)
    train = write_scenes(folder / "train", seeds, options=OPTIONS[name])
    watched = list(held_out_seeds(100, start=HELD_OUT_FROM))
    return train, write_scenes(folder / "val", watched, options=OPTIONS[name])


def questions(folder: Path) -> tuple[Path, Path]:
    """A question that the base was never asked: which half of the picture has more things in it."""
    paths = []
    parts = {"train": TRAINING, "val": list(held_out_seeds(100, start=HELD_OUT_FROM))}
    for word, seeds in parts.items():
        place = folder / word
        place.mkdir(parents=True, exist_ok=True)
        lines = []
        for seed in seeds:
            spec = sample_scene(seed, options=SceneOptions(**SIZES))
            drawn = render(spec)
            middles = [thing.centre[0] for thing in truth(spec, drawn).facts().objects]
            left = sum(x < spec.width / 2 for x in middles)
            drawn.image.save(place / f"{seed}.png")
            answer = "left" if 2 * left > len(middles) else "right" if 2 * left < len(middles) else "both"
            question = "Which half is more crowded?"
            lines.append(json.dumps({"image": f"{seed}.png", "question": question, "answer": answer}))
        paths.append(place / "questions.jsonl")
        paths[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths[0], paths[1]


def taught(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune on one kind of data; figures before and after."""
    folder: Path = arguments.out / f"{name}-data"
    train, val = questions(folder) if name == "question" else scenes(name, folder, arguments.pictures)
    skill = {"question": "vqa", "figure": "pose"}.get(name, "detect")
    report = finetune(train, val=val, skill=skill, output=arguments.out / name, minutes=arguments.minutes)
    return report.as_dict()


def photos(arguments: argparse.Namespace) -> dict[str, Any]:
    """Learn photographs by heart; measured on themselves."""
    report = finetune(
        arguments.data, output=arguments.out / "photos", minutes=arguments.minutes, replay=0.0, zoom=1.0,
        flip=False, base_scenes=0, preset="full", decoder_rate=8e-4, batch=4,
    )  # fmt: skip
    return report.as_dict()


def batch(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images a second with one adapter for all of a batch, and with a second one for half of it."""
    vlm = VisionLLM.from_pretrained()
    names = [vlm.load_adapter(arguments.data, name) for name in ("first", "second")]
    images = [render(sample_scene(seed)).image for seed in held_out_seeds(16)]
    choices: dict[str, Any] = {"one": names[0], "two": [names[n % 2] for n in range(len(images))]}
    rates = {}
    for word, choice in choices.items():
        times = []
        for _ in range(arguments.repeat):
            start = time.perf_counter()
            vlm.detect(images, ["circle", "star"], adapter=choice)
            times.append(time.perf_counter() - start)
        rates[word] = len(images) / statistics.median(times)
    return {**rates, "cost": 1 - rates["two"] / rates["one"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=[*OPTIONS, "question", "photos", "batch"])
    parser.add_argument("data", nargs="?", type=Path, help="annotations, or the folder of an adapter")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("adapters-benchmark"))
    arguments = parser.parse_args()
    if arguments.what in {"photos", "batch"}:
        found = photos(arguments) if arguments.what == "photos" else batch(arguments)
    else:
        found = taught(arguments.what, arguments)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
