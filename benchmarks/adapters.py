"""What adapters reach, and what they cost; each prints its figures beside the bar, as JSON with --json.

    python benchmarks/adapters.py domain|blueprint|figure|question|style|poster [--minutes 10] [--steps N]
    python benchmarks/adapters.py photos annotations.json [--minutes 10]
    python benchmarks/adapters.py size|kills|processes
    python benchmarks/adapters.py batch my-adapters/domain

`domain` teaches four shapes that no training showed (200 pictures, measured on 100 others), `blueprint` the
base's shapes in another look, `figure` the keypoints of a robot, `question` whether anything is round,
`style` pictures of the night, and `poster` a frame around all that is asked for; `photos` learns photographs
by heart. `size` weighs a light adapter, `kills` kills a run ten times, `processes` trains with one and with
two processes, `batch` measures what one more adapter in a batch costs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import adapter_sets as sets

from visionllm_adapters import finetune
from visionllm_adapters.folder import LORA, MODULES
from visionllm_adapters.training.logs import read_log
from visionllm_sdk import VisionLLM
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene
from visionllm_sdk.skills.loading import checkpoint_folder

Found = dict[str, Any]
BASE_SCENES: Final = 100
"""Scenes on which the base is measured before and after. Maps want 300: they are judged over all pixels of a
kind, and with one large thing named otherwise 100 of them lose two points."""
TAUGHT: Final[Mapping[str, tuple[Callable[[Path, int], sets.Paths], str, int, str, float]]] = {
    "domain": (sets.scenes("domain"), "detect", 200, "ap50", 0.85),
    "blueprint": (sets.scenes("blueprint"), "detect", 200, "ap50", 0.85),
    "figure": (sets.robots, "pose", 300, "ap", 0.6),
    "question": (sets.questions, "vqa", 200, "accuracy", 0.9),
    "style": (sets.styles["style"], "generate", 200, "recognised", 0.8),
    "poster": (sets.styles["poster"], "generate", 200, "recognised", 0.8),
}
"""Writer of the data, skill, pictures, figure and bar."""
_RUN: Final = """
import json, sys
from visionllm_adapters import finetune
output, settings = sys.argv[1], json.loads(sys.argv[2])
finetune(output=output, **settings)
"""


def taught(name: str, arguments: argparse.Namespace) -> Found:
    """Fine-tune on one kind of data; figures before and after."""
    write, skill, pictures, figure, bar = TAUGHT[name]
    folder: Path = arguments.out / f"{name}-data"
    shutil.rmtree(folder, ignore_errors=True)
    train, val = write(folder, arguments.pictures or pictures)
    length = {"steps": arguments.steps} if arguments.steps else {"minutes": arguments.minutes}
    before, started = _answers(VisionLLM.from_pretrained()), time.process_time()
    report = finetune(
        train, val=val, skill=skill, output=arguments.out / name, base_scenes=arguments.base_scenes, **length
    ).as_dict()
    used = time.process_time() - started
    vlm = VisionLLM.from_pretrained()
    adapter = vlm.load_adapter(arguments.out / name)
    change = report["skills"][skill]
    found: Found = {"before": change["before"].get(figure), "after": change["after"].get(figure)}
    if name in sets.LOOKS:
        found = {"before": _recognised(vlm, name, None), "after": _recognised(vlm, name, adapter)}
    losses = [one["before"] - one["after"] for one in report["base"].values()]
    return {
        **found,
        "figure": figure,
        "bar": bar,
        "passed": found["after"] >= bar,
        "base": report["base"],
        "base_loss": max(losses, default=None),
        "same_without": _answers(vlm) == before,
        "minutes": round(report["progress"]["elapsed"] / 60, 1),
        "cpu_minutes": round(used / 60, 1),
        "steps": report["progress"]["step"],
        "memory_gb": report["peak_memory_gb"],
    }


def _answers(vlm: VisionLLM) -> list[str]:
    """What a model says about a few scenes, to the last digit."""
    images = [render(sample_scene(seed)).image for seed in held_out_seeds(4)]
    found = vlm.detect(images, ["circle", "star", "heart"])
    return [one.model_dump_json() for one in found] + [one.text for one in vlm.caption(images)]


def _recognised(vlm: VisionLLM, name: str, adapter: str | None) -> float:
    """Share of captions whose picture has the look, and what they ask for."""
    picture_of, has_look = sets.LOOKS[name]
    asked = [picture_of(seed)[0] for seed in held_out_seeds(sets.WATCHED, start=sets.HELD_OUT_FROM)]
    words = [sets.caption_text(one) for one in asked]
    drawn = vlm.generate(words, seed=1, adapter=adapter)
    return sum(has_look(one.image, want) for one, want in zip(drawn, asked, strict=True)) / len(asked)


def photos(arguments: argparse.Namespace) -> Found:
    """Learn photographs by heart; measured on themselves."""
    report = finetune(
        arguments.data, output=arguments.out / "photos", minutes=arguments.minutes, replay=0.0, zoom=1.0,
        flip=False, base_scenes=0, preset="full", decoder_rate=8e-4, batch=4, small=1.0,
    )  # fmt: skip
    reached = report.skills["detect"].after.value
    return {**report.as_dict(), "bar": 0.95, "passed": reached >= 0.95}


def batch(arguments: argparse.Namespace) -> Found:
    """Images a second with one adapter for all of a batch, and with a second one for half of it."""
    vlm = VisionLLM.from_pretrained()
    names = [vlm.load_adapter(arguments.data, name) for name in ("first", "second")]
    images = [render(sample_scene(seed)).image for seed in held_out_seeds(16)]
    choices: Found = {"one": names[0], "two": [names[n % 2] for n in range(len(images))]}
    times: dict[str, list[float]] = {word: [] for word in choices}
    for choice in choices.values():
        vlm.detect(images, ["circle", "star"], adapter=choice)
    for _ in range(arguments.repeat):
        for word, choice in choices.items():  # in turn, so that both meet the same load
            start = time.process_time()
            vlm.detect(images, ["circle", "star"], adapter=choice)
            times[word].append(time.process_time() - start)
    rates = {word: len(images) / statistics.median(own) for word, own in times.items()}
    cost = 1 - rates["two"] / rates["one"]
    return {"images_a_cpu_second": rates, "cost": cost, "bar": 0.15, "passed": cost <= 0.15}


def _small_run(arguments: argparse.Namespace, **more: Any) -> Found:
    """Settings of a run of a few steps on the domain."""
    folder = arguments.out / "small-data"
    shutil.rmtree(folder, ignore_errors=True)
    options = sets.OPTIONS["domain"]
    paths = [
        sets.write_scenes(folder / part, list(seeds)[: 8 if part == "train" else 4], options=options)
        for part, seeds in sets.seeds_of(8).items()
    ]
    return {
        "data": str(paths[0]), "val": str(paths[1]), "preset": "light", "batch": 4, "micro_batch": 2,
        "base_scenes": 0, "replay": 0.25, "quiet": True, **more,
    }  # fmt: skip


def size(arguments: argparse.Namespace) -> Found:
    """Bytes of a light adapter beside those of the embedded model."""
    output = arguments.out / "light"
    report = finetune(output=output, **_small_run(arguments, steps=1))
    own = sum((output / name).stat().st_size for name in (LORA, MODULES))
    base = sum(path.stat().st_size for path in checkpoint_folder(None).glob("*.safetensors"))
    memory = report.as_dict()["peak_memory_gb"]
    share = own / base
    return {
        "bytes": own,
        "base": base,
        "share": share,
        "memory_gb": memory,
        "bar": 0.05,
        "passed": share <= 0.05,
    }


def kills(arguments: argparse.Namespace) -> Found:
    """End a run by SIGKILL at random steps, go on, and compare with a run that was left alone."""
    settings = _small_run(arguments, steps=12, validate=3, save_seconds=1e-6)
    whole, broken = arguments.out / "whole", arguments.out / "killed"
    command = [sys.executable, "-c", _RUN]
    subprocess.run([*command, str(whole), json.dumps(settings)], check=True)
    chance, killed = random.Random(0), []
    for step in sorted(chance.choices(range(1, 11), k=arguments.kills)):
        process = subprocess.Popen([*command, str(broken), json.dumps(settings)])
        killed.append(_kill_at(process, broken, step))
    subprocess.run([*command, str(broken), json.dumps(settings)], check=True)
    metrics = [json.loads((one / "report.json").read_text())["skills"] for one in (whole, broken)]
    same = metrics[0] == metrics[1]
    return {"killed_at": killed, "metrics": metrics[1], "bar": "the same metrics", "passed": same}


def _kill_at(process: subprocess.Popen[bytes], output: Path, step: int) -> int:
    """Kill a run once its log has reached a step; where it was then."""
    log = output.with_name(f"{output.name}.training") / "log.csv"
    while process.poll() is None:
        time.sleep(0.05)
        lines = log.read_text().splitlines() if log.is_file() else []
        reached = [int(line.split(",")[0]) for line in lines[1:-1] if line.split(",")[0].isdigit()]
        if reached and reached[-1] >= step:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return reached[-1]
    raise SystemExit("the run was over before it could be killed")


def processes(arguments: argparse.Namespace) -> Found:
    """Losses of the same run on one process and on two (CPU, gloo)."""
    settings = _small_run(arguments, steps=4, validate=1, precision="fp32")
    script = arguments.out / "train.py"
    script.write_text(_RUN, encoding="utf-8")
    losses = []
    for count in (1, 2):
        output = arguments.out / f"processes-{count}"
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(count)]
        more = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        subprocess.run([*launch, *more, str(script), str(output), json.dumps(settings)], check=True)
        losses.append([row["value"] for row in read_log(output / "log.csv") if row["name"] == "total"])
    error = max(abs(one - two) / abs(one) for one, two in zip(*losses, strict=True))
    return {"losses": losses, "largest_error": error, "bar": 1e-4, "passed": error <= 1e-4}


OTHERS: Final[Mapping[str, Callable[[argparse.Namespace], Found]]] = {
    "photos": photos, "batch": batch, "size": size, "kills": kills, "processes": processes,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=[*TAUGHT, *OTHERS])
    parser.add_argument("data", nargs="?", type=Path, help="annotations, or the folder of an adapter")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, help="instead of minutes, where the machine is shared")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--base-scenes", type=int, default=BASE_SCENES, help="on which the base is measured")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("adapters-benchmark"))
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    what = arguments.what
    found = taught(what, arguments) if what in TAUGHT else OTHERS[what](arguments)
    found = {"what": what, **found, "minutes_in_all": round((time.monotonic() - start) / 60, 1)}
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
