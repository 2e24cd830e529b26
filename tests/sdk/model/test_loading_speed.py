"""A checkpoint of more than 2 GB at full width is loaded at the speed of reading it, and without a copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "loading.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_peak_memory_and_speed() -> None:
    done = subprocess.run([sys.executable, BENCHMARK, "--json"], check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["gigabytes"] >= 2
    assert report["peak_of_weights"] <= 1.15
    assert report["speed_of_plain_read"] >= 0.6
