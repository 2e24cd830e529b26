"""The asynchronous twins: same results, together where they wait together, errors to their own caller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, assert_type

import numpy as np
import pytest
import torch
from PIL import Image

from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import ImageError, InputError
from visionllm_sdk.generation import GenerationOptions
from visionllm_sdk.results import Answer, Detections, Reply
from visionllm_sdk.skills import ReplyDone
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.gathering import Gatherer

BRIEF = GenerationOptions(max_new_tokens=6)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [Image.effect_noise((64, 48), spread).convert("RGB") for spread in (30, 60, 90)]


async def test_twins_equal_the_methods(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    together = await asyncio.gather(
        *(random_vlm.adetect(image, ["star", "ring"], threshold=0.4) for image in images)
    )
    for found, image in zip(together, images, strict=True):
        assert_type(found, Detections)
        direct = random_vlm.detect(image, ["star", "ring"], threshold=0.4)
        np.testing.assert_allclose(found.boxes(), direct.boxes(), atol=0.05)
    assert (await random_vlm.asegment(images[0], "star")).labels == ("star",)
    assert (await random_vlm.aground(images[0], "the star")).expression == "the star"
    assert (await random_vlm.acount(images[0], "star")).label == "star"
    assert_type(await random_vlm.aask(images[0], "What?"), Answer)
    assert_type(await random_vlm.acaption(images[:2]), list[Answer])
    assert_type(await random_vlm.achat("Hello", options=BRIEF), Reply)
    assert len(await random_vlm.achat(["Hello", "Hi"], options=BRIEF)) == 2


async def test_a_fault_reaches_its_own_caller(random_vlm: VisionLLM, images: list[Image.Image]) -> None:
    calls = [random_vlm.acount(image, "star") for image in (images[0], "nowhere.png", images[1])]
    first, bad, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, ImageError)
    assert str(bad).startswith("the image file does not exist")
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)


async def test_streams(random_vlm: VisionLLM) -> None:
    events = [event async for event in random_vlm.astream("Hello", options=BRIEF)]
    assert isinstance(events[-1], ReplyDone)
    assert events[-1].reply.text == random_vlm.chat("Hello", options=BRIEF).text


async def test_waiting_calls_of_a_kind_share_a_batch() -> None:
    batches: list[list[int]] = []

    def double(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        return [2 * item for item in items]

    gatherer = Gatherer(limit=3)
    evens = [gatherer.submit("a", number, double) for number in range(5)]
    odd = gatherer.submit("b", 9, double)
    assert await asyncio.gather(*evens, odd) == [0, 2, 4, 6, 8, 18]
    assert sorted(batches) == [[0, 1, 2], [3, 4], [9]]
    assert await gatherer.submit("a", 7, double) == 14


async def test_a_failing_batch_is_tried_one_by_one() -> None:
    def halve(items: Sequence[int]) -> list[int]:
        if any(item % 2 for item in items):
            raise InputError("odd", value=items[0])
        return [item // 2 for item in items]

    def crash(items: Sequence[int]) -> list[int]:
        raise ZeroDivisionError(str(items))

    gatherer = Gatherer()
    waiting = [gatherer.submit("a", number, halve) for number in (2, 3, 4)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[::2] == [1, 2]
    assert isinstance(results[1], InputError)
    with pytest.raises(ZeroDivisionError):
        await gatherer.submit("b", 1, crash)


async def test_one_bad_call_stops_nobody_else(random_vlm: VisionLLM) -> None:
    image, bad = Image.new("RGB", (40, 40)), np.array([0.5, 0.6])
    calls = [random_vlm.adetect(image, ["star"], threshold=bad) for _ in range(2)]  # type: ignore[arg-type]
    outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 60)
    assert all(isinstance(one, InputError) for one in outcomes)
    assert await asyncio.wait_for(random_vlm.adetect(image, ["star"]), 60) is not None


async def test_answers_that_are_missing_are_a_fault_of_the_batch() -> None:
    gatherer = Gatherer()
    waiting = [gatherer.submit("a", number, lambda items: list(items)[:1]) for number in range(2)]
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert all(isinstance(one, ValueError) for one in outcomes)
    assert await asyncio.wait_for(gatherer.submit("a", 3, list), 10) == 3
    with pytest.raises(TypeError, match="unhashable"):
        await gatherer.submit(["a"], 1, list)  # type: ignore[arg-type]


async def test_a_caller_may_give_up() -> None:
    gatherer = Gatherer()
    waiting = asyncio.ensure_future(gatherer.submit("a", 1, list))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await gatherer.submit("a", 2, list) == 2


async def test_a_list_of_adapters_for_one_call_is_its_own_fault(
    random_vlm: VisionLLM, images: list[Image.Image]
) -> None:
    calls = [random_vlm.acount(image, "star", adapter=[None, None]) for image in images[:2]]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, InputError)
        assert "one entry for every item" in str(outcome)


async def test_settings_of_any_type_stop_nobody_else(random_vlm: VisionLLM) -> None:
    image = Image.new("RGB", (40, 40))
    odd = [torch.tensor([0.5, 0.6]), torch.tensor([0.5, 0.6]), True]
    calls = [random_vlm.adetect(image, ["star"], threshold=one) for one in (*odd, 1)]  # type: ignore[arg-type]
    *bad, good = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 60)
    assert all(isinstance(one, InputError) for one in bad)
    assert isinstance(good, Detections)


async def test_what_nobody_waits_for_is_not_computed() -> None:
    seen: list[int] = []

    def note(items: Sequence[int]) -> list[int]:
        seen.extend(items)
        return list(items)

    gatherer = Gatherer()
    given_up = asyncio.ensure_future(gatherer.submit("a", 1, note))
    waiting = asyncio.ensure_future(gatherer.submit("a", 2, note))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await waiting == 2
    assert seen == [2]


async def test_a_stream_loads_beside_the_event_loop(
    random_vlm: VisionLLM, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    load = ImageRules.load

    def noted(self: ImageRules, source: Any) -> Any:
        threads.add(threading.get_ident())
        return load(self, source)

    monkeypatch.setattr(ImageRules, "load", noted)
    assert [event async for event in random_vlm.astream("Hello", images[0], options=BRIEF)]
    assert threading.get_ident() not in threads
    assert threads
