"""Check an installed wheel: its top-level names, and that each package and entry point works from there."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path

PACKAGES = {"visionllm_sdk", "visionllm_tools", "visionllm_adapters"}


def main(site: Path) -> None:
    """Raise SystemExit naming the first thing that is not as it should be."""
    names = {path.name for path in site.iterdir() if path.suffix != ".dist-info" and path.name != "bin"}
    expect(names == PACKAGES, f"top-level names are {sorted(names)}, expected {sorted(PACKAGES)}")
    sys.path.insert(0, str(site))
    # An editable install may answer imports through a hook of its own: only the wheel is to be seen.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
    for name in sorted(PACKAGES):
        module = importlib.import_module(name)
        home = Path(str(module.__file__)).resolve()
        expect(site.resolve() in home.parents, f"{name} was imported from {home}, not from the wheel")
        expect((home.parent / "py.typed").is_file(), f"{name} has no py.typed")
    expect("torch" not in sys.modules, "importing the packages imports torch")
    (distribution,) = importlib.metadata.distributions(name="visionllm-sdk", path=[str(site)])
    points = distribution.entry_points
    for point in points:
        loaded = point.load()
        home = Path(str(sys.modules[point.module].__file__)).resolve()
        expect(
            site.resolve() in home.parents and loaded is not None, f"{point} was not loaded from the wheel"
        )
    groups = {point.group for point in points}
    expect("visionllm_sdk.tools" in groups, f"no entry points of tools, only {sorted(groups)}")
    print(f"wheel: {distribution.version}, {len(points)} entry points, packages {sorted(names)}")


def expect(condition: bool, message: str) -> None:
    """Stop with a message unless the condition holds."""
    if not condition:
        raise SystemExit(f"wheel: {message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
