from __future__ import annotations

import torch

from tests.sdk.generating import generator, picture, request, scattered, tiny
from visionllm_sdk.generation import (
    GenerationOptions,
    GenerationRequest,
    Session,
)
from visionllm_sdk.model.conversation import (
    Turn,
    image_parts,
    region_parts,
)
from visionllm_sdk.model.prompt import RegionPrompt, TiledImage


def follow_up(text: str, first: GenerationRequest, answer: str, *images: TiledImage, session: Session | None):
    turns = [Turn((*image_parts(len(images)), first.question), (answer,)), Turn((text,))]
    prompt = generator().builder.build(turns, images)
    return GenerationRequest(prompt=prompt, options=first.options, question=text, session=session)


def test_a_second_question_reuses_image_and_prefix_and_changes_nothing():
    session, image = Session(), picture(1, 3)
    seen = []
    hook = tiny().core.vis_encoder.register_forward_hook(lambda *call: seen.append(len(call[1][0])))
    first = request("What is it?", image, session=session)
    answer = generator().generate([first])[0]
    assert answer.reused_tokens == 0
    again = request("Where is it?", image, session=session)
    second = generator().generate([again])[0]
    third = generator().generate([follow_up("And now?", first, answer.text, image, session=session)])[0]
    hook.remove()
    assert sum(seen) == image.tiles
    assert second.reused_tokens > 16 * 3
    assert third.reused_tokens > 16 * 3
    assert second.ids == generator().generate([request("Where is it?", image)])[0].ids
    fresh = follow_up("And now?", first, answer.text, image, session=None)
    assert third.ids == generator().generate([fresh])[0].ids


def test_another_image_is_never_answered_from_memory():
    session = Session()
    generator().generate([request("What is it?", picture(1), session=session)])
    other = generator().generate([request("What is it?", picture(2), session=session)])[0]
    assert other.ids == generator().generate([request("What is it?", picture(2))])[0].ids
    unnamed = TiledImage(picture(1).pixels)
    reply = generator().generate([request("What is it?", unnamed, session=session)])[0]
    assert reply.reused_tokens < 70


def test_sessions_of_a_batch_are_independent_and_survive_routing():
    sessions = [Session(), Session()]
    images = [picture(1), picture(2)]
    for text in ("What is it?", "Detect it all.", "What is it?"):
        plain = [scattered(3, text, image) for image in images]
        kept = [
            GenerationRequest(prompt=one.prompt, options=one.options, question=text, session=session)
            for one, session in zip(plain, sessions, strict=True)
        ]
        found = [reply.ids for reply in generator().generate(kept)]
        assert found == [reply.ids for reply in generator().generate(plain)]
    assert all(session.reused_tokens > 0 for session in sessions)


def test_regions_work_with_sessions():
    session, image = Session(), picture(1)
    turns = [Turn((*image_parts(), "What is ", *region_parts("region1"), "?"))]
    replies = []
    for mask in (torch.ones(56, 56), torch.eye(56), torch.ones(56, 56)):
        prompt = generator().builder.build(turns, [image], [RegionPrompt(mask)])
        options = GenerationOptions(max_new_tokens=8)
        kept = generator().generate([GenerationRequest(prompt=prompt, options=options, session=session)])[0]
        plain = generator().generate([GenerationRequest(prompt=prompt, options=options)])[0]
        assert kept.ids == plain.ids
        replies.append(kept)
    assert replies[0].ids == replies[2].ids


# -- forced routing ----------------------------------------------------------------------------------------
