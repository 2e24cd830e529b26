"""Released layouts of region prompts give the very tokens that were recorded."""

from __future__ import annotations

import torch

from tests.sdk.model.reference import golden, golden_batch, reference_model
from visionllm_sdk.model.conversation import (
    INTERACTIVE_LAYOUT,
    ForcedCall,
    Turn,
    forced_turn,
    region_list,
)
from visionllm_sdk.model.prompt import Prompt, RegionPrompt
from visionllm_sdk.skills.regional import in_context_call
from visionllm_sdk.tool import RoutingToken

DET = RoutingToken(text="[DET]")


def built(turn: Turn, name: str) -> tuple[Prompt, list[int]]:
    """A row of a recording laid out by us, and its recorded ids."""
    values = golden(name)
    batch = golden_batch(name, values)
    prompt = reference_model("tiny_core").prompt_builder().build([turn], batch.images[0], batch.regions[0])
    size = int(batch.mask[0].sum())
    return prompt, batch.ids[0, :size].tolist()


def test_in_context_segmentation() -> None:
    call = in_context_call(DET, {})
    prompt, ids = built(forced_turn([call], images=0), "golden_mm_incontext")
    assert prompt.ids == ids
    assert [image.tiles for image in prompt.images] == [3, 1]
    assert prompt.regions[0].image == 0


def test_interactive_segmentation() -> None:
    names = ("region1", "region2")
    call = ForcedCall(token=DET, labels=names, layout=INTERACTIVE_LAYOUT, slot=region_list(names))
    prompt, ids = built(forced_turn([call]), "golden_mm_interactive_anyres")
    assert prompt.ids == ids


def test_known_embeddings_stand_for_regions() -> None:
    """Embeddings that are known beforehand are used as they are, also where their image was cut away."""
    name = "golden_mm_interactive_anyres"
    model, values = reference_model("tiny_core"), golden(name)
    batch = golden_batch(name, values)
    features = values["region_features"]
    with torch.no_grad():
        fresh = model.core.embed(batch)
        rows, used = [], 0
        for row in batch.regions:
            rows.append(tuple(RegionPrompt(one.mask, 0, features[used + at]) for at, one in enumerate(row)))
            used += len(row)
        known = type(batch)(
            ids=batch.ids, mask=batch.mask, labels=batch.labels, images=batch.images, regions=tuple(rows)
        )
        torch.testing.assert_close(model.core.embed(known), fresh, atol=1e-4, rtol=1e-4)
        ids = torch.tensor([[1, model.core.region_id, 5]])
        gone = RegionPrompt(torch.ones(56, 56), -1, features[0])
        cut = type(batch)(
            ids=ids, mask=torch.ones_like(ids).bool(), labels=ids, images=((),), regions=((gone,),)
        )
        torch.testing.assert_close(model.core.embed(cut)[0, 1], features[0])
