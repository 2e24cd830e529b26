from __future__ import annotations

import numpy as np
import pytest

from visionllm_sdk import Box, load_image
from visionllm_sdk.agent.sessions import Sessions, VisionSession
from visionllm_sdk.agent.workspace import thread_of
from visionllm_sdk.errors import HandleError, ImageError
from visionllm_sdk.handles import HandleLimits
from visionllm_sdk.images import LoadedImage


def picture(value: int = 0) -> LoadedImage:
    return load_image(np.full((20, 30, 3), value, dtype=np.uint8))


def test_threads_do_not_share_handles() -> None:
    sessions = Sessions()
    first, second = sessions.of("a"), sessions.of("b")
    handle = first.images.add(picture())
    assert second.images.add(picture()) != handle
    with pytest.raises(HandleError, match="does not belong"):
        second.images.get(handle)


def test_a_thread_continues_in_another_process() -> None:
    here, there = Sessions(secret=b"key").of("a"), Sessions(secret=b"key").of("a")
    assert here.images.add(picture()) == there.images.add(picture())
    assert Sessions(secret=b"other").of("a").images.add(picture()) not in here.images


def test_outside_of_threads_handles_cannot_be_foretold() -> None:
    first, second = Sessions().of(None), Sessions().of(None)
    assert first.images.add(picture()) != second.images.add(picture())


def test_sessions_are_bounded() -> None:
    sessions = Sessions(max_sessions=2)
    first = sessions.of("a")
    sessions.of("b")
    assert sessions.of("a") is first
    sessions.of("c")
    assert sessions.of("a") is first
    handle = first.images.add(picture())
    sessions.of("d"), sessions.of("e")
    fresh = sessions.of("a")
    assert fresh is not first
    assert fresh.images.add(picture()) == handle  # the same thread, the same handle


def test_sessions_of_running_threads_stay() -> None:
    sessions = Sessions(max_sessions=2, limits=HandleLimits(max_items=1))
    with sessions.running("a"), sessions.running("a"):
        with sessions.running("a"):
            first = sessions.of("a")
            handles = [first.images.add(picture(value)) for value in range(3)]
        for name in "bcde":
            sessions.of(name)
        assert sessions.of("a") is first
        assert list(first.images) == handles
    assert list(first.images) == handles[-1:]
    sessions.of("f"), sessions.of("g")
    assert sessions.of("a") is not first


def test_a_session_serves_though_running_ones_take_all_places() -> None:
    sessions = Sessions(max_sessions=1)
    with sessions.running("a"), sessions.running("b"):
        assert sessions.of("c") is sessions.of("c")


def test_crops() -> None:
    session = VisionSession()
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[5:10, 6:16] = 200
    whole = session.images.add(load_image(pixels))
    piece = session.crop(whole, Box(5.6, 5.2, 16.4, 9.9))
    cropped = session.images.get(piece)
    assert (cropped.width, cropped.height) == (10, 5)
    assert cropped.to_numpy().min() == 200
    assert session.images.origin(piece).startswith(f"crop of {whole}")
    assert session.crop(whole, Box(-5, -5, 100, 100)) == whole  # all of it
    with pytest.raises(ImageError, match="outside"):
        session.crop(whole, Box(40, 40, 50, 50))
    with pytest.raises(HandleError):
        session.crop("img_9_0011223344556677", Box(0, 0, 5, 5))


def test_sources_are_forgotten_one_by_one() -> None:
    session = VisionSession(limits=HandleLimits(max_items=1))
    loads = []

    def load(value: int) -> LoadedImage:
        loads.append(value)
        return picture(value)

    first, _ = session.image("one", lambda: load(1), origin="test")
    session.image("two", lambda: load(2), origin="test")
    again, _ = session.image("one", lambda: load(1), origin="test")
    assert again == first
    assert loads == [1, 2, 1]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (None, None),
        ({}, None),
        ({"configurable": None}, None),
        ({"configurable": {"thread_id": 7}}, "7"),
        ({"configurable": {"thread_id": "x"}}, "x"),
    ],
)
def test_thread_of_a_configuration(config: object, name: str | None) -> None:
    assert thread_of(config) == name
