from __future__ import annotations

import pytest
import torch

from tests.sdk.model.reference import (
    MM_CASES,
    TOLERANCE,
    error,
    fresh_model,
    golden,
    golden_batch,
    reference_model,
    released_config,
)
from visionllm_sdk.errors import InputError
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.conversation import Turn, image_parts, region_parts
from visionllm_sdk.model.core import build_core
from visionllm_sdk.model.prompt import IGNORED, RegionPrompt, TiledImage, collate
from visionllm_sdk.model.tokenizer import Control


@pytest.mark.parametrize(("checkpoint", "name"), MM_CASES)
def test_sequence_states_logits_loss_and_links_equal_the_recorded_ones(checkpoint: str, name: str):
    core, values = reference_model(checkpoint).core, golden(name)
    batch = golden_batch(name, values)
    real = batch.mask[:, ::3]
    with torch.no_grad():
        embeddings, output = core.embed(batch), core(batch)
        logits = core.llm.lm_head(output.hidden)[:, 10::40]
    assert error(embeddings[:, ::3][real], values["llm.inputs_embeds"][real]) < TOLERANCE
    assert error(output.hidden[:, ::3][real], values["llm.hidden.last"][real]) < TOLERANCE
    assert error(logits[batch.mask[:, 10::40]], values["logits"][batch.mask[:, 10::40]]) < TOLERANCE
    assert output.loss is not None
    assert error(output.loss, values["loss"]) < TOLERANCE
    for row in range(len(batch.ids)):
        states = [states for _, states in output.of_row(row)]
        if states or f"superlink.{row}" in values:
            assert error(torch.cat(states), values[f"superlink.{row}"]) < TOLERANCE


def test_known_features_change_nothing():
    core, values = reference_model("tiny_core").core, golden("golden_mm_interactive_anyres")
    batch = golden_batch("golden_mm_interactive_anyres", values)
    with torch.no_grad():
        fresh = core.embed(batch)
        known = [
            tuple(TiledImage(image.pixels, core.see([image], levels=True)) for image in row)
            for row in batch.images
        ]
        reused = core.embed(type(batch)(**{**_fields(batch), "images": tuple(known)}))
    torch.testing.assert_close(reused, fresh)


def _fields(batch: object) -> dict:
    return {name: getattr(batch, name) for name in ("ids", "mask", "labels", "images", "regions")}


def test_a_training_step_reaches_everything_but_the_vision_encoder():
    model = fresh_model()
    core = model.core.train()
    batch = golden_batch("golden_mm_incontext", golden("golden_mm_incontext"))
    output = core(batch)
    (output.loss + output.states[0].pow(2).sum()).backward()
    missing = {name for name, value in core.named_parameters() if value.grad is None}
    frozen = {name for name in missing if name.startswith("vis_encoder.")}
    unused = {f"emb_embeddings_{name}.weight" for name in ("pose", "gen", "edit")}
    assert frozen == {name for name, _ in core.named_parameters() if name.startswith("vis_encoder.")}
    assert missing - frozen == unused
    assert not core.vis_encoder.training
    assert core.llm.training


def test_labels_are_not_changed_in_place():
    core, values = reference_model("tiny_core").core, golden("golden_mm_det")
    batch = golden_batch("golden_mm_det", values)
    before = batch.labels.clone()
    core(batch)
    assert torch.equal(batch.labels, before)


def test_a_batch_without_supervision_has_no_loss():
    model = reference_model("tiny_core")
    batch = collate([model.prompt_builder().build([Turn(("Hi",))])], pad_id=0)
    assert (batch.labels == IGNORED).all()
    assert float(model.core(batch).loss.detach()) == 0


def test_rows_of_a_mixed_batch_equal_single_rows():
    """Rows with and without image, with routing tokens of several tools, in several turns."""
    model = reference_model("tiny_core")
    builder, parse = model.prompt_builder(), model.tokenizer.parse_template
    image = TiledImage(torch.randn(3, 3, 56, 56))
    prompts = [
        builder.build([Turn(("Hi",), ("Hello",))]),
        builder.build([Turn(image_parts(), tuple(parse("a[DET], b[SEG] and here it is [GEN].")))], [image]),
        builder.build([Turn(("x",), (Control("[POSE]"),)), Turn(("y",), (Control("[EDIT]"), "z"))]),
    ]
    together = model.core(collate(prompts, pad_id=0))
    for row, prompt in enumerate(prompts):
        alone = model.core(collate([prompt], pad_id=0))
        length = len(prompt.ids)
        torch.testing.assert_close(together.hidden[row, :length], alone.hidden[0], atol=1e-5, rtol=1e-4)
        assert len(together.of_row(row)) == len(alone.links)


BUILDER = reference_model("tiny_core").prompt_builder()
IMAGE = TiledImage(torch.zeros(1, 3, 56, 56))


@pytest.mark.parametrize("images", [0, 1, 3])
def test_the_wrong_number_of_images_is_an_error(images: int):
    with pytest.raises(InputError, match=rf"2 <image> token\(s\) but {images} image"):
        BUILDER.build([Turn((*image_parts(2), "Compare."))], [IMAGE] * images)


def test_the_wrong_number_of_regions_is_an_error():
    with pytest.raises(InputError, match=r"1 <region> token\(s\) but 0 region"):
        BUILDER.build([Turn((*image_parts(), *region_parts("it")))], [IMAGE])


def test_a_region_of_a_missing_image_is_an_error():
    region = RegionPrompt(torch.ones(56, 56), image=1)
    with pytest.raises(InputError, match="an image that is not there"):
        BUILDER.build([Turn((*image_parts(), *region_parts("it")))], [IMAGE], [region])


def test_a_row_that_lost_patches_is_an_error():
    core, values = reference_model("tiny_core").core, golden("golden_mm_det")
    batch = golden_batch("golden_mm_det", values)
    batch.ids[0, batch.ids[0] == core.patch_id] = 5
    with pytest.raises(InputError, match=r"row 0 has 0 <im_patch> token\(s\), but its inputs make 16"):
        core.embed(batch)


def test_regions_need_a_region_encoder():
    words = reference_model("tiny_core").tokenizer
    config = ModelConfig.from_released(released_config() | {"use_region_encoder": False})
    core = build_core(config, words)
    batch = golden_batch("golden_mm_incontext", golden("golden_mm_incontext"))
    with pytest.raises(InputError, match="no region encoder"):
        core.embed(batch)
