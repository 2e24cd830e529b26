from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.sdk.model.reference import reference_model
from visionllm_sdk.model import alike
from visionllm_sdk.model.alike import LinkState, link_states
from visionllm_sdk.model.conversation import Turn, image_parts, region_parts
from visionllm_sdk.model.prompt import Prompt, RegionPrompt, TiledImage
from visionllm_sdk.model.session import Session, image_key

MODEL = reference_model("tiny_core")
CORE = MODEL.core
IMAGE_TOKENS = 16


def picture(seed: int, *, key: bool = True) -> TiledImage:
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(seed))
    return TiledImage(pixels, key=image_key(pixels) if key else "")


def asked(label: str, *images: TiledImage, answer: str = "", regions: Sequence[RegionPrompt] = ()) -> Prompt:
    parts = (*image_parts(len(images)), *(region_parts("it") if regions else ()), f"Find {label}")
    turn = Turn(parts, tuple(MODEL.tokenizer.parse_template(answer or f"{label}[DET].")))
    return MODEL.prompt_builder().build([turn], images, regions)


def states(prompts: Sequence[Prompt], session: Session | None = None) -> list[list[LinkState]]:
    return link_states(CORE, prompts, [session] * len(prompts), pad_id=0)


@contextmanager
def counted() -> Iterator[list[tuple[int, int]]]:
    """Shapes of what the language model runs."""
    shapes: list[tuple[int, int]] = []

    def note(module: object, args: object, kwargs: dict[str, Any]) -> None:
        shapes.append(tuple(kwargs["inputs_embeds"].shape[:2]))

    hook = CORE.llm.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        hook.remove()


def same(found: Sequence[LinkState], wanted: Sequence[LinkState]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.spec == other.spec
        torch.testing.assert_close(one.states, other.states, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(one.before, other.before, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("key", [True, False])
def test_what_prompts_have_in_common_runs_once(key: bool) -> None:
    image, other = picture(1, key=key), picture(2, key=key)
    prompts = [asked("a dog", image), asked("a cat", other), asked("a red hat", image), asked("it")]
    with counted() as shapes:
        together = states(prompts)
    assert len(shapes) == 1
    assert shapes[0][0] == 3
    assert shapes[0][1] < len(prompts[0].ids) + len(prompts[2].ids) - IMAGE_TOKENS
    for found, prompt in zip(together, prompts, strict=True):
        same(found, states([prompt])[0])


def test_a_session_knows_the_beginning_the_next_time() -> None:
    session, image = Session(), picture(1)
    states([asked("a dog", image)], session)
    with counted() as shapes:
        [again] = states([asked("a cat", picture(1))], session)
    assert shapes[0][1] < len(asked("a cat", image).ids) - IMAGE_TOKENS
    same(again, states([asked("a cat", image)])[0])
    with counted() as shapes:
        [strange] = states([asked("a cat", picture(2))], session)
    assert shapes[0][1] > IMAGE_TOKENS
    same(strange, states([asked("a cat", picture(2))])[0])


def test_known_and_new_beginnings_share_a_pass() -> None:
    session = Session()
    states([asked("a dog", picture(1))], session)
    prompts = [asked("x", picture(2)), asked("a cat", picture(1)), asked("no image")]
    with counted() as shapes:
        found = states(prompts, session)
    assert len(shapes) == 1
    for one, prompt in zip(found, prompts, strict=True):
        same(one, states([prompt])[0])


def test_an_image_without_a_name_is_kept_by_no_session() -> None:
    session = Session()
    states([asked("a dog", picture(1, key=False))], session)
    assert session._prefixes == []


def test_what_does_not_fit_into_one_pass_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_BRANCHES_A_ROW", 40)
    image = picture(1)
    prompts = [asked(f"thing number {number}", image) for number in range(7)]
    with counted() as shapes:
        found = states(prompts)
    assert len(shapes) > 1
    assert all(width < 60 for _, width in shapes[1:])  # the image is known by then
    for one, prompt in zip(found, prompts, strict=True):
        same(one, states([prompt])[0])


def test_passes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_TOKENS_A_PASS", 200)
    prompts = [asked("a dog", picture(seed)) for seed in range(6)]
    with counted() as shapes:
        states(prompts)
    assert len(shapes) > 1
    assert all(rows * width <= 200 for rows, width in shapes)


def test_regions_that_are_not_encoded_see_their_image() -> None:
    mask = torch.zeros(56, 56)
    mask[10:20, 10:20] = 1
    session, image = Session(), picture(1)
    prompts = [asked("it", image, regions=[RegionPrompt(mask)]), asked("a dog", image)]
    wanted = [states([prompt])[0] for prompt in prompts]
    for _ in range(2):
        for found, one in zip(states(prompts, session), wanted, strict=True):
            same(found, one)


def test_an_image_runs_through_the_encoder_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_TOKENS_A_PASS", 1)
    example, looked = picture(3), []
    hook = CORE.vis_encoder.register_forward_hook(lambda module, args, out: looked.append(len(args[0])))
    states([asked("it", example, picture(seed)) for seed in (1, 2)])
    hook.remove()
    assert sum(looked) == 3
