"""CPU time of the release-size detector against the library's Grounding DINO, in one process, interleaved.

Both have a Swin-T backbone, 900 queries, 6 + 6 layers, random weights, one 800 x 1088 image and one thread.
The library runs its text backbone on a prompt of as many tokens as the detector gets labels; the detector
makes the label features from super-link states, and masks for 100 detections, which the library has not.

    python benchmarks/detector_vs_library.py [--json] [--rounds 3] [--labels 32]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.postprocess import binary_masks, select

LIMIT = 0.6
HEIGHT, WIDTH = 800, 1088
SWIN_T: dict[str, Any] = {
    "model_type": "swin",
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
}


def build_detector(labels: int) -> Callable[[], object]:
    config = DetectorConfig(backbone_config={**SWIN_T, "out_indices": [1, 2, 3, 4]})
    detector = Detector(config).eval()
    pixels, mask = torch.randn(1, 3, HEIGHT, WIDTH), torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    states, present = torch.randn(1, labels, 4, config.l_hidden_size), torch.ones(1, labels, dtype=torch.bool)

    def run() -> object:
        output = detector(pixels, mask, detector.encode_labels(states), present)
        kept = select(output.logits[0], output.boxes[0], (HEIGHT, WIDTH), limit=100)
        embeddings = detector.mask_embed[0](output.layers[-1].queries[0, kept.queries])
        return binary_masks(embeddings, output.mask_features[0], (HEIGHT, WIDTH), (HEIGHT, WIDTH))

    return run


def build_library(labels: int) -> Callable[[], object]:
    config = GroundingDinoConfig(backbone_config={**SWIN_T, "out_indices": [2, 3, 4]}, auxiliary_loss=False)
    model = GroundingDinoForObjectDetection(config).eval()
    pixels = torch.randn(1, 3, HEIGHT, WIDTH)
    words = torch.randint(2000, 5000, (1, labels))
    words[:, 3::4] = 1012  # full stops between the classes

    def run() -> object:
        return model(pixel_values=pixels, input_ids=words).logits

    return run


def measure(rounds: int, labels: int) -> dict[str, Any]:
    """Medians of CPU seconds over interleaved rounds, after one round to warm up."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    runs = {"detector": build_detector(labels), "library": build_library(labels)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, run in runs.items():
                start = time.process_time()
                run()
                seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    ratio = medians["detector"] / medians["library"]
    return {
        "benchmark": "detector_vs_library",
        "image": [HEIGHT, WIDTH],
        "labels": labels,
        "rounds": rounds,
        "detector_cpu_s": round(medians["detector"], 3),
        "library_cpu_s": round(medians["library"], 3),
        "ratio": round(ratio, 3),
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds (median)")
    parser.add_argument("--labels", type=int, default=32, help="labels, and tokens of the library's prompt")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.labels)
    if arguments.json:
        print(json.dumps(result))
    else:
        print(
            f"detector {result['detector_cpu_s']} s, library {result['library_cpu_s']} s of CPU time: "
            f"ratio {result['ratio']} (at most {LIMIT})"
        )
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
