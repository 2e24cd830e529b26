from __future__ import annotations

import pytest
import torch

from tests.sdk.generating import DET, POSE, generator, picture, tiny
from tests.sdk.model.reference import (
    TOLERANCE,
    error,
    golden,
)
from visionllm_sdk.errors import InputError
from visionllm_sdk.generation import (
    ForcedRequest,
    Generator,
)
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.conversation import (
    ForcedCall,
    Turn,
    image_parts,
    region_parts,
)
from visionllm_sdk.model.prompt import RegionPrompt, TiledImage, collate


def forced(labels: tuple[str, ...], *images: TiledImage) -> ForcedRequest:
    return ForcedRequest(calls=(ForcedCall(token=DET, labels=labels),), images=images)


def test_forced_routing_is_one_pass_for_a_batch():
    passes = []
    hook = tiny().core.llm.model.norm.register_forward_hook(lambda *call: passes.append(1))
    requests = [forced(("a", "b"), picture(1)), forced(("dog",), picture(2, 3)), forced(("x", "y", "z"))]
    batch = generator().forced(requests)
    hook.remove()
    assert len(passes) == 1
    for one, [call] in zip(requests, batch, strict=True):
        [[alone]] = generator().forced([one])
        assert call.labels == one.calls[0].labels
        assert call.token == "[DET]"
        for found, wanted in zip(call.links, alone.links, strict=True):
            assert error(found.super_link.states, wanted.super_link.states) < TOLERANCE
            assert found.probability == pytest.approx(wanted.probability, rel=1e-3)
            assert 0 < found.probability < 1


def test_forced_routing_equals_a_laid_out_pass():
    values = golden("golden_mm_det")
    image = TiledImage(values["images"])
    calls = generator().forced([forced(("person", "dog", "cat"), image)])[0]
    words = tiny().tokenizer
    template = "Yes, here are the results for person[DET], dog[DET], cat[DET] in the image."
    question = "Can you analyze the image and identify the person, dog, cat present?"
    turn = Turn((*image_parts(), question), tuple(words.parse_template(template)))
    output = tiny().core(collate([generator().builder.build([turn], [image])], pad_id=0))
    for link, wanted in zip(calls[0].links, output.states, strict=True):
        assert error(link.super_link.states, wanted.detach()) < TOLERANCE


def grouping(limit: int, *, label_tags: bool = False) -> Generator:
    model = tiny()
    config = model.config.with_sdk(max_forced_labels=limit, label_tags=label_tags)
    return Generator(Model(config=config, tokenizer=model.tokenizer, core=model.core, tools={}))


def test_long_label_lists_are_split_and_keep_their_order():
    labels = tuple(f"label {number}" for number in range(11))
    [[call]] = grouping(4).forced([forced(labels, picture(1))])
    assert call.labels == labels
    for start in (0, 4, 8):
        [[part]] = grouping(4).forced([forced(labels[start : start + 4], picture(1))])
        for found, wanted in zip(call.links[start : start + 4], part.links, strict=True):
            assert error(found.super_link.states, wanted.super_link.states) < TOLERANCE


def test_split_lists_of_several_calls_keep_their_context():
    names = tuple(f"point {number}" for number in range(5))
    asked = ForcedRequest(
        calls=(ForcedCall(token=DET, labels=("person",)), ForcedCall(token=POSE, labels=names)),
        images=(picture(1),),
    )
    [objects, points] = grouping(2).forced([asked])[0]
    assert (objects.labels, points.labels) == (("person",), names)
    assert [link.label for link in points.context] == ["person"]


def test_label_tags_are_laid_out_where_the_checkpoint_has_them():
    plain = grouping(9).forced([forced(("dog",), picture(1))])[0][0]
    tagged = grouping(9, label_tags=True).forced([forced(("dog",), picture(1))])[0][0]
    assert tagged.labels == plain.labels
    assert error(tagged.links[0].super_link.states, plain.links[0].super_link.states) > TOLERANCE


def test_forced_routing_after_earlier_turns_takes_its_own_links_only():
    words = tiny().tokenizer
    history = (
        Turn(
            (*image_parts(), "Find a cat."),
            tuple(words.parse_template("cat[DET].")),
        ),
    )
    asked = ForcedRequest(
        calls=(ForcedCall(token=DET, labels=("dog",)),), images=(picture(1),), history=history
    )
    [call] = generator().forced([asked])[0]
    assert call.labels == ("dog",)
    assert len(call.links) == 1


def test_forced_routing_with_regions():
    mask = torch.zeros(56, 56)
    mask[10:20, 10:20] = 1
    call = ForcedCall(token=DET, labels=("region1",), slot=region_parts("region1"))
    asked = ForcedRequest(calls=(call,), images=(picture(1),), regions=(RegionPrompt(mask),))
    [found] = generator().forced([asked, forced(("a",), picture(2))])[0]
    assert found.labels == ("region1",)
    many = ForcedCall(token=DET, labels=("a", "b", "c"), slot=region_parts("region1"))
    with pytest.raises(InputError, match="cannot be split"):
        grouping(2).forced(
            [ForcedRequest(calls=(many,), images=(picture(1),), regions=(RegionPrompt(mask),))]
        )


def test_forced_routing_needs_labels():
    with pytest.raises(InputError, match="at least one label"):
        forced(())
