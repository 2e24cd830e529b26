"""What a user of the embedded model waits for: import, load, one detection, a batch, memory.

    python benchmarks/sdk.py [--json] [--repeat 7] [--model FOLDER]

Every figure is a median over fresh images of 640 x 480, so that no cache helps; where a figure compares two
ways, they take turns. Peak memory is that of this process.
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

from PIL import Image

BATCH = 16
SIZE = (640, 480)
LABELS = ["red circle", "star", "dog"]


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
    alone, together, again = [], [], []
    for _ in range(max(2, repeat // 2)):
        batch = [next(images) for _ in range(BATCH)]
        alone.append(seconds(lambda batch=batch: [vlm.detect(image, LABELS) for image in batch]))
        batch = [next(images) for _ in range(BATCH)]
        together.append(seconds(lambda batch=batch: vlm.detect(batch, LABELS)))
        image = next(images)
        first = seconds(lambda image=image: vlm.ask(image, "How many circles are there?"))
        second = seconds(lambda image=image: vlm.ask(image, "How many stars are there?"))
        again.append(second / first)
    figures["batch_of_16_s"] = statistics.median(together)
    figures["batch_speedup"] = statistics.median(alone) / statistics.median(together)
    figures["second_question_share"] = statistics.median(again)
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
