"""Loading of released weights: speed against a plain read of the same files, and the peak of memory.

A synthetic checkpoint of the 7B family at full width with few layers is written into a temporary folder; a
process of its own reads its files and loads it, in turns. Loading maps the files and may defer reading, so
the measured time includes touching every page of every weight.

python benchmarks/loading.py [--layers 3] [--dtype bfloat16] [--cold] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parents[1] / "tests" / "goldens"
SHARD_BYTES = 2**30
PAGE = 4096
ROUNDS = 3
MOST_MEMORY, LEAST_SPEED = 1.15, 0.6


def manifest() -> dict[str, Any]:
    """Keys, shapes and configuration of the released 7B checkpoint."""
    return json.loads(lzma.decompress((GOLDENS / "manifest_7b.json.xz").read_bytes()))


def write_checkpoint(folder: Path, layers: int) -> None:
    """The language side of the 7B checkpoint, full width, with the first layers of its language model."""
    import torch

    from visionllm_sdk.model.checksums import write_checksums
    from visionllm_sdk.model.writing import shard_name, write_index, write_tensors

    content = manifest()
    config = content["config"]
    config["llm_config"]["num_hidden_layers"] = layers
    config |= dict.fromkeys(("use_gdino", "use_unipose", "use_sd", "use_ip2p"), False)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "added_tokens.json").write_text(json.dumps(content["special_tokens"]))
    shutil.copy(GOLDENS / "tiny_core" / "tokenizer.model", folder)
    shards: list[dict[str, Any]] = [{}]
    size = 0
    block = torch.randn(2**20).mul_(0.02).bfloat16()
    for key, (_, shape) in content["keys"].items():
        if key.startswith(("gdino.", "unipose.", "sd.", "ip2p.")) or _left_out(key, layers):
            continue
        count = torch.Size(shape).numel()
        if size + 2 * count > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][key] = shape
        size += 2 * count
    weight_map, sums = {}, {}
    for number, shard in enumerate(shards, start=1):
        name = shard_name(number, len(shards))
        tensors = {
            key: block.repeat(torch.Size(shape).numel() // len(block) + 1)[: torch.Size(shape).numel()]
            .clone()
            .view(shape)
            for key, shape in shard.items()
        }
        sums[name] = write_tensors(folder / name, tensors)
        weight_map |= dict.fromkeys(shard, name)
    write_index(folder, weight_map, {}, size=sum(one.size for one in sums.values()))
    write_checksums(folder, sums)


def _left_out(key: str, layers: int) -> bool:
    start = "llm.model.layers."
    return key.startswith(start) and int(key.removeprefix(start).partition(".")[0]) >= layers


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def make_cold(folder: Path) -> None:
    """Ask the system to forget what it keeps of the files."""
    for path in weight_files(folder):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_read(folder: Path) -> dict[str, float]:
    """Seconds and bytes of reading all files from start to end into one buffer."""
    buffer = bytearray(2**24)
    begin, total = time.perf_counter(), 0
    for path in weight_files(folder):
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                total += count
    return {"seconds": time.perf_counter() - begin, "bytes": total}


def load(folder: Path, dtype: str) -> dict[str, float]:
    """Seconds of loading and of touching every page, and the peak of memory above what the program takes."""
    import torch

    from visionllm_sdk.model.assembly import load_model
    from visionllm_sdk.registry import ToolRegistry

    before = _reset_peak()
    begin = time.perf_counter()
    model = load_model(folder, registry=ToolRegistry(), dtype=getattr(torch, dtype), check=False)
    loaded = time.perf_counter() - begin
    total, touched = 0, 0
    for value in {id(one): one for one in (*model.core.parameters(), *model.core.buffers())}.values():
        total += value.nbytes
        if value.nbytes >= PAGE:
            touched += int(value.detach().reshape(-1).view(torch.uint8)[::PAGE].max())
    assert touched > 0
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "load_seconds": loaded, "bytes": total, "peak": _peak() - before}


def both(folder: Path, dtype: str, *, cold: bool) -> dict[str, float]:
    """Plain reading and loading in turns: the best of each, so that other work on the machine counts less."""
    runs = []
    for _ in range(ROUNDS):
        if cold:
            make_cold(folder)
        read = plain_read(folder)
        if cold:
            make_cold(folder)
        runs.append((read, load(folder, dtype)))
        gc.collect()
    best = min((loaded for _, loaded in runs), key=lambda one: one["seconds"])
    return {
        "bytes": runs[0][0]["bytes"],
        "read": min(read["seconds"] for read, _ in runs),
        "load": best["seconds"],
        "load_seconds": best["load_seconds"],
        "weights": best["bytes"],
        "peak": runs[0][1]["peak"],
    }


def verify(folder: Path) -> dict[str, float]:
    """Seconds of comparing all files with their checksums, as on the first load."""
    from visionllm_sdk.model import checksums

    begin = time.perf_counter()
    checksums.verify(folder, [path.name for path in weight_files(folder)])
    return {"seconds": time.perf_counter() - begin}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def child(task: str, folder: Path, dtype: str, *, cold: bool) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder), "--dtype", dtype]
    environment = {**os.environ, "VISIONLLM_CACHE": str(folder / "cache")}
    output = subprocess.run(
        [*command, "--cold"] if cold else command,
        check=True, capture_output=True, text=True, env=environment,
    ).stdout  # fmt: skip
    return json.loads(output.splitlines()[-1])


def measure(layers: int, dtype: str, *, cold: bool) -> dict[str, Any]:
    """Write a checkpoint, and measure its loading."""
    with tempfile.TemporaryDirectory(prefix="loading-") as name:
        folder = Path(name)
        write_checkpoint(folder, layers)
        runs = child("load", folder, dtype, cold=cold)
        verified = child("verify", folder, dtype, cold=cold)
    size = runs["bytes"] / 1e9
    return {
        "gigabytes": size,
        "read_gigabytes_per_second": size / runs["read"],
        "load_gigabytes_per_second": size / runs["load"],
        "verify_gigabytes_per_second": size / verified["seconds"],
        "speed_of_plain_read": runs["read"] / runs["load"],
        "seconds_until_loaded": runs["load_seconds"],
        "peak_of_weights": runs["peak"] / runs["weights"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layers", type=int, default=3, help="of the language model")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--cold", action="store_true", help="empty the system's cache of the files first")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", choices=("load", "verify"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        tasks = {
            "load": lambda: both(arguments.folder, arguments.dtype, cold=arguments.cold),
            "verify": lambda: verify(arguments.folder),
        }
        print(json.dumps(tasks[arguments.task]()))
        return
    report = measure(arguments.layers, arguments.dtype, cold=arguments.cold)
    if arguments.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name.replace('_', ' '):32s} {value:8.2f}")
    met = report["peak_of_weights"] <= MOST_MEMORY and report["speed_of_plain_read"] >= LEAST_SPEED
    print("met" if met else "missed", f"(peak <= {MOST_MEMORY}, speed >= {LEAST_SPEED})")


if __name__ == "__main__":
    main()
