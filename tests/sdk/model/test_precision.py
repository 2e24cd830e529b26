"""bfloat16 inside of modules, where nobody asked for another format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from visionllm_sdk.model import precision
from visionllm_sdk.model.vision import build_resnet

SECTION = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1],
    "layer_type": "basic", "out_indices": [1, 2, 3, 4], "image_size": 64,
}  # fmt: skip


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bfloat16", lambda: True)


@pytest.mark.usefixtures("native")
def test_features_are_close_and_in_the_format_of_the_pixels() -> None:
    torch.manual_seed(0)
    encoder = build_resnet(SECTION, -1).eval()
    pixels = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        exact = encoder(pixels, levels=True)
        precision.hurry(encoder, products=False)
        quick = encoder(pixels, levels=True)
        single = encoder(pixels[1:2])
    assert quick.tokens.dtype == torch.float32
    error = (quick.tokens - exact.tokens).norm() / exact.tokens.norm()
    assert 0 < error < 0.02
    alone, together = single.tokens[0], quick.tokens[1]
    assert (alone - together).norm() < 1e-3 * alone.norm()  # whatever else is in the batch
    assert all(level.dtype == torch.float32 for level in quick.levels)
    trained = encoder(pixels).tokens  # with gradients: exactly
    torch.testing.assert_close(trained, exact.tokens, rtol=1e-4, atol=1e-4)


def test_the_processor_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def known(**flags: bool) -> bool:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
        precision.native_bfloat16.cache_clear()
        return precision.native_bfloat16()

    assert known(avx512_bf16=True)
    assert known(amx_bf16=True)
    assert not known(avx2=True)
    precision.native_bfloat16.cache_clear()


class Product(precision.Quick):
    """One matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.products(x):
            found: torch.Tensor = self.layer(x)
        return found


@pytest.mark.usefixtures("native")
def test_products_hurry_only_where_the_checkpoint_says_so_and_nothing_is_learnt() -> None:
    module, x = Product(), torch.randn(4, 16)
    precision.hurry(module, products=False)
    with torch.no_grad():
        assert module(x).dtype == torch.float32
        precision.hurry(module, products=True)
        assert module(x).dtype == torch.bfloat16
        torch.testing.assert_close(module(x).float(), module.layer(x), rtol=0.05, atol=0.05)
        assert module.double()(x.double()).dtype == torch.float64  # another format than it was checked in
    assert module.float()(x).dtype == torch.float32  # with gradients


@pytest.mark.usefixtures("native")
def test_who_names_a_format_gets_it() -> None:
    from visionllm_sdk import VisionLLM

    def quick(**settings: Any) -> set[bool]:
        vlm = VisionLLM.from_pretrained(tools=["detect"], **settings)
        tool = vlm.engine.model.tools["detect"]
        parts = [*vlm.engine.model.core.modules(), *tool.decoder.modules()]
        return {part.quick for part in parts if isinstance(part, precision.Quick)}

    assert quick() == {True}
    assert quick(dtype="float32") == {False}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """With another number of threads, products are summed in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("native", "one_thread")
def test_scores_do_not_depend_on_what_else_is_in_the_batch() -> None:
    from visionllm_sdk import VisionLLM
    from visionllm_sdk.scenes import held_out_seeds, render, sample_scene

    vlm = VisionLLM.from_pretrained(tools=["detect"])
    images = [render(sample_scene(seed)).image for seed in held_out_seeds(5)]
    together = vlm.detect([images[0], *images], ["circle", "star", "square"], threshold=0.1)
    other = VisionLLM.from_pretrained(tools=["detect"])  # which remembers none of them
    alone = [other.detect(image, ["circle", "star", "square"], threshold=0.1) for image in images]
    found = [one.score for result in together[1:] for one in result]
    assert found
    assert found == pytest.approx([one.score for result in alone for one in result], abs=2e-3)
    assert together[0] == together[1]
