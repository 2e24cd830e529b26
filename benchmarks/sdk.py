"""What a user of the embedded model waits for: import, load, one call of each kind, a batch, memory.

    python benchmarks/sdk.py [--json] [--repeat 7] [--model FOLDER]

Every figure is a median over fresh images of 640 x 480, so that no cache helps; where a figure compares two
ways, they take turns. Skills that the checkpoint does not have are left out. Peak memory is that of
this process. Of the batch there are processor seconds, too, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

BATCH = 16
SIZE = (640, 480)
LABELS = ["red circle", "star", "dog"]


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds that the processor spends on one call, all threads together."""
    start = time.process_time()
    work()
    return time.process_time() - start


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_of(work: Callable[[], object], repeat: int) -> float:
    """Median seconds of several calls."""
    return statistics.median(seconds(work) for _ in range(repeat))


def import_seconds(statement: str, repeat: int) -> float:
    """Seconds that an import takes in a new interpreter, without the interpreter's own start."""

    def start(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    return median_of(start(statement), repeat) - median_of(start("pass"), repeat)


def fresh_images() -> Iterator[Image.Image]:
    """Drawn scenes of one size, each a new one."""
    from visionllm_sdk.scenes import SceneOptions, held_out_seeds, render, sample_scene

    options = SceneOptions(canvas=SIZE)
    for seed in held_out_seeds(10_000):
        yield render(sample_scene(seed, options=options)).image


Clock = Callable[[Callable[[], object]], float]


def batch_figures(
    vlm: VisionLLM, images: Iterator[Image.Image], clock: Clock, repeat: int
) -> dict[str, float]:
    """Detection in many images by one call, and how many times faster that is than by single calls."""
    alone, together = [], []
    for _ in range(max(2, repeat // 2)):
        batch = [next(images) for _ in range(BATCH)]
        alone.append(clock(lambda batch=batch: [vlm.detect(image, LABELS) for image in batch]))
        batch = [next(images) for _ in range(BATCH)]
        together.append(clock(lambda batch=batch: vlm.detect(batch, LABELS)))
    at_once = statistics.median(together)
    return {"batch_of_16_s": at_once, "batch_speedup": statistics.median(alone) / at_once}


def second_figures(vlm: VisionLLM, images: Iterator[Image.Image], repeat: int) -> dict[str, float]:
    """What a second call about a picture takes of the first."""
    pairs: dict[str, tuple[Callable[[Image.Image], object], Callable[[Image.Image], object]]] = {
        "question": (
            lambda image: vlm.ask(image, "How many circles are there?"),
            lambda image: vlm.ask(image, "How many stars are there?"),
        ),
        "detect": (lambda image: vlm.detect(image, LABELS), lambda image: vlm.detect(image, ["heart"])),
    }
    figures = {}
    for name, (first, second) in pairs.items():
        shares = []
        for _ in range(repeat):
            image = next(images)
            before = seconds(lambda ask=first, seen=image: ask(seen))
            shares.append(seconds(lambda ask=second, seen=image: ask(seen)) / before)
        figures[f"second_{name}_share"] = statistics.median(shares)
    return figures


def pose_figures(vlm: VisionLLM, images: Iterator[Image.Image], repeat: int) -> dict[str, float]:
    """One call for the keypoints of persons."""
    vlm.pose(next(images), "person")  # builds the decoder
    return {"pose_s": median_of(lambda: vlm.pose(next(images), "person"), repeat)}


def region_figures(vlm: VisionLLM, images: Iterator[Image.Image], repeat: int) -> dict[str, float]:
    """Twenty boxes in one call by one box in one call on the same picture, for each way to ask.

    A region that stays in doubt is looked at again, which doubles what one takes: pictures must not differ.
    """
    from visionllm_sdk.regions import Box

    places = [(20 + 110 * column, 15 + 115 * row) for row in range(4) for column in range(5)]
    boxes = [Box(x, y, x + 100, y + 100) for x, y in places]
    asks = {
        "regions": vlm.segment_regions,
        "descriptions": vlm.describe,
        "names": lambda image, own: vlm.classify(image, own, LABELS),
    }
    figures = {}
    for name, ask in asks.items():
        ratios = []
        for _ in range(repeat):
            picture = next(images)
            twin = unseen(picture)
            one = seconds(lambda ask=ask, seen=picture: ask(seen, boxes[:1]))
            many = seconds(lambda ask=ask, seen=twin: ask(seen, boxes))
            ratios.append(many / one)
        figures[f"{name}_20_by_1"] = statistics.median(ratios)
    return figures


def unseen(picture: Image.Image) -> Image.Image:
    """The same but for one pixel, so that no cache knows it."""
    copy = picture.copy()
    red, green, blue = copy.getpixel((0, 0))  # type: ignore[misc]
    copy.putpixel((0, 0), (red ^ 1, green, blue))
    return copy


def picture_figures(vlm: VisionLLM, images: Iterator[Image.Image], repeat: int) -> dict[str, float]:
    """One picture at the default steps, and how many times faster eight of them are by one call."""
    del images
    prompt = "a red circle left of a blue star"
    vlm.generate(prompt, seed=0)  # builds the decoder
    alone, together = [], []
    for seed in range(max(2, repeat // 2)):
        alone.append(seconds(lambda seed=seed: vlm.generate(prompt, seed=seed)))
        together.append(seconds(lambda seed=seed: vlm.generate(prompt, n=8, seed=seed)))
    one = statistics.median(alone)
    return {"picture_s": one, "pictures_speedup": 8 * one / statistics.median(together)}


def measure(model: str | None, repeat: int) -> dict[str, float]:
    """All figures."""
    figures = {"import_s": import_seconds("import visionllm_sdk", repeat)}
    figures["import_model_s"] = seconds(lambda: __import__("visionllm_sdk.skills"))
    from visionllm_sdk import VisionLLM

    figures["load_s"] = median_of(lambda: VisionLLM.from_pretrained(model), 3)
    vlm = VisionLLM.from_pretrained(model)
    images = fresh_images()
    vlm.detect(next(images), LABELS)  # builds the decoder
    figures["detect_s"] = median_of(lambda: vlm.detect(next(images), LABELS), repeat)
    figures |= batch_figures(vlm, images, seconds, repeat)
    spent = batch_figures(vlm, images, processor_seconds, repeat)
    figures |= {"processor_" + name: value for name, value in spent.items()}
    figures |= second_figures(vlm, images, repeat)
    for name, skill in (
        ("pose", pose_figures),
        ("segment_regions", region_figures),
        ("generate", picture_figures),
    ):
        if name in vlm.skills:
            figures |= skill(vlm, images, repeat)
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--model", help="checkpoint folder; the embedded model if not given")
    given = parser.parse_args()
    figures = measure(given.model, given.repeat)
    if given.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
        return
    for name, value in figures.items():
        print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main()
