"""Scenes per second: sampling, drawing and ground truth on one thread.

    python benchmarks/scenes.py [--count 400] [--side 128]

Prints one JSON object; times are CPU milliseconds a scene of this process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable

from visionllm_sdk.scenes import SceneOptions, render, sample_scene, truth


def measure(seeds: Iterable[int], options: SceneOptions) -> dict[str, float]:
    """Mean CPU milliseconds of sampling, of drawing with truth, and the rate of both together."""
    sampling = drawing = 0.0
    objects = count = 0
    for seed in seeds:
        start = time.process_time()
        spec = sample_scene(seed, options=options)
        middle = time.process_time()
        truth(spec, render(spec)).facts()
        drawing += time.process_time() - middle
        sampling += middle - start
        objects += len(spec.objects)
        count += 1
    return {
        "sample_ms": round(sampling / count * 1e3, 3),
        "draw_ms": round(drawing / count * 1e3, 3),
        "scenes_per_second": round(count / (sampling + drawing), 1),
        "objects_per_scene": round(objects / count, 2),
    }


def main() -> None:
    """Measures after a short warm-up and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--side", type=int, default=128, help="square canvas in pixels")
    given = parser.parse_args()
    options = SceneOptions(canvas=(given.side, given.side))
    measure(range(20), options)
    print(json.dumps({"side": given.side, **measure(range(given.count), options)}))


if __name__ == "__main__":
    main()
