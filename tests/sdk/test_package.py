from __future__ import annotations

import importlib
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import visionllm_sdk
from visionllm_sdk.errors import MissingExtraError
from visionllm_sdk.extras import import_extra

ROOT = Path(__file__).parents[2]


def python(code: str) -> str:
    """Run code in a fresh interpreter with the three import roots on its path."""
    roots = [str(ROOT), str(ROOT / "tools"), str(ROOT / "adapters")]
    start = f"import sys; sys.path[:0] = {roots!r}\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light() -> None:
    heavy = ("torch", "transformers", "diffusers", "PIL", "numpy", "pydantic", "langchain_core")
    code = f"import visionllm_sdk; print([name for name in {heavy!r} if name in sys.modules])"
    assert python(code) == "[]"


def test_import_is_fast() -> None:
    code = (
        "import time; start = time.perf_counter(); import visionllm_sdk; print(time.perf_counter() - start)"
    )
    assert min(float(python(code)) for _ in range(3)) < 0.3


def test_results_and_images_need_no_torch() -> None:
    code = (
        "import visionllm_sdk.results, visionllm_sdk.images, visionllm_sdk.drawing, visionllm_sdk.handles\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert python(code) == "False False"


@pytest.mark.parametrize("name", visionllm_sdk.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(visionllm_sdk, name)
    assert value.__name__ == name
    assert name in dir(visionllm_sdk)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = visionllm_sdk.Nothing


def test_public_names_are_curated() -> None:
    """Each module's `__all__` names what the module has; nothing in it is private."""
    for module in ("errors", "extras", "fetch", "images", "masks", "geometry", "results", "coco", "handles"):
        loaded = importlib.import_module(f"visionllm_sdk.{module}")
        assert len(set(loaded.__all__)) == len(loaded.__all__)
        for name in loaded.__all__:
            assert hasattr(loaded, name), (module, name)
            assert not name.startswith("_")


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert visionllm_sdk.__version__ == project["version"]


def test_folders_are_not_packages() -> None:
    assert not (ROOT / "tools" / "__init__.py").exists()
    assert not (ROOT / "adapters" / "__init__.py").exists()
    for package in ("visionllm_sdk", "tools/visionllm_tools", "adapters/visionllm_adapters"):
        assert (ROOT / package / "py.typed").exists()


def test_core_does_not_import_tools_or_adapters() -> None:
    """The core knows the contract of a routed tool, and no particular tool."""
    for path in (ROOT / "visionllm_sdk").rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert not words[1].startswith(("visionllm_tools", "visionllm_adapters")), f"{path}: {line}"


def test_missing_extra_names_the_command() -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "visionllm-sdk\[serve\]"') as caught:
        import_extra("package_that_is_not_there.part", extra="serve")
    assert isinstance(caught.value, ImportError)
    assert caught.value.module == "package_that_is_not_there"


def test_import_error_inside_a_package_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("import another_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="another_package") as caught:
        import_extra("broken_package", extra="serve")
    assert not isinstance(caught.value, MissingExtraError)


def test_import_extra_returns_the_module() -> None:
    assert import_extra("time", extra="serve") is time
