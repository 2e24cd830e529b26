from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk.errors import ConfigError, HandleError
from visionllm_sdk.handles import HandleLimits, HandleStore, ImageHandles
from visionllm_sdk.images import LoadedImage, load_image


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def image(value: int = 0, side: int = 4) -> LoadedImage:
    return load_image(np.full((side, side, 3), value, dtype=np.uint8))


def test_put_and_get() -> None:
    store: HandleStore[str] = HandleStore("link")
    handle = store.put("hidden states", nbytes=10, origin="turn 1")
    assert handle.startswith("link_1_")
    assert store.get(handle) == "hidden states"
    assert store.origin(handle) == "turn 1"
    assert handle in store
    assert "link_2_00" not in store
    assert list(store) == [handle]
    assert (len(store), store.nbytes) == (1, 10)


def test_images_are_registered_once() -> None:
    handles = ImageHandles()
    first = handles.add(image(1), origin="uploaded")
    assert handles.add(image(1), origin="again") == first
    second = handles.add(image(2))
    assert second != first
    assert list(handles) == [first, second]
    assert handles.origin(first) == "uploaded"
    assert handles.origin(second) == "array (4, 4, 3)"
    assert handles.nbytes == 2 * 4 * 4 * 3


def test_handles_of_another_session_are_refused() -> None:
    mine, other = ImageHandles(), ImageHandles()
    foreign = other.add(image(1))
    mine.add(image(2))
    with pytest.raises(HandleError, match="does not belong to this session"):
        mine.get(foreign)


def test_stores_of_one_session_may_share_their_secret() -> None:
    secret = b"s" * 32
    first, second = ImageHandles(secret=secret), ImageHandles(secret=secret)
    handle = first.add(image(1))
    with pytest.raises(HandleError, match="does not belong"):  # genuine, but nothing is kept there
        second.get(handle)
    second.add(image(2))
    assert second.add(image(1)).split("_")[2] == handle.split("_")[2]
    assert second.get(handle).to_numpy().max() == 1  # the tag decides, whatever the number


def test_things_without_a_key_differ() -> None:
    store: HandleStore[str] = HandleStore("link")
    first, second = (store.put("same", nbytes=1, origin="test") for _ in range(2))
    assert first.split("_")[2] != second.split("_")[2]


def test_handle_of_content() -> None:
    store: HandleStore[str] = HandleStore("link")
    assert store.handle_of("key") is None
    handle = store.put("thing", nbytes=1, origin="test", key="key")
    assert store.handle_of("key") == handle
    store.clear()
    assert store.handle_of("key") is None


def test_sessions_tag_the_same_picture_differently() -> None:
    tag = ImageHandles().add(image()).split("_")[2]
    assert len(tag) == 16
    tags = {ImageHandles().add(image()).split("_")[2] for _ in range(50)}
    assert len(tags) == 50


@pytest.mark.parametrize(
    "handle",
    ["", "img", "img_1", "img_x_00", "link_1_00", "img_-1_00", "img_1_00_00", "../img_1_00", "img_²_00"],
)
def test_what_is_no_handle(handle: str) -> None:
    handles = ImageHandles()
    handles.add(image())
    with pytest.raises(HandleError, match="not a img handle"):
        handles.get(handle)


@pytest.mark.parametrize("handle", [None, 5, ["img_1_00"], {"a": 1}])
def test_other_types_are_no_handles(handle: object) -> None:
    with pytest.raises(HandleError, match="not a img handle"):
        ImageHandles().get(handle)  # type: ignore[arg-type]


@given(st.text(max_size=40), st.integers(0, 10**30))
def test_inventing_handles_is_in_vain(text: str, number: int) -> None:
    handles = ImageHandles()
    handles.add(image())
    for invented in (text, f"img_{number}_{text}", f"img_1_{text}", f"img_1_{text}_"):
        with pytest.raises(HandleError):
            handles.get(invented)


def test_handle_errors_are_lookup_errors_with_a_remedy() -> None:
    with pytest.raises(LookupError) as caught:
        ImageHandles().get("img_1_00")
    assert isinstance(caught.value, HandleError)
    assert caught.value.remedy


def test_unused_things_expire() -> None:
    clock = Clock()
    handles = ImageHandles(limits=HandleLimits(ttl=60), clock=clock)
    old, used = handles.add(image(1)), handles.add(image(2))
    clock.now += 50
    handles.get(used)
    clock.now += 20
    assert handles.get(used).to_numpy().max() == 2
    with pytest.raises(HandleError, match="expired"):
        handles.get(old)
    assert list(handles) == [used]
    assert old not in handles
    assert handles.add(image(1)) == old  # the same picture again: its handle means it once more
    assert handles.add(image(3)) not in (old, used)  # and never anything else


def test_items_are_bounded_by_last_use() -> None:
    handles = ImageHandles(limits=HandleLimits(max_items=2))
    first, second = handles.add(image(1)), handles.add(image(2))
    handles.get(first)
    third = handles.add(image(3))
    assert set(handles) == {first, third}
    with pytest.raises(HandleError, match="expired"):
        handles.get(second)


@given(st.lists(st.integers(1, 60), max_size=40))
def test_bytes_are_bounded(sizes: list[int]) -> None:
    store: HandleStore[int] = HandleStore("x", limits=HandleLimits(max_bytes=100, max_items=5))
    for number, size in enumerate(sizes):
        newest = store.put(number, nbytes=size, origin="test")
        assert store.get(newest) == number
        assert store.nbytes <= 100
        assert len(store) <= 5


def test_a_thing_larger_than_the_store_is_kept_alone() -> None:
    handles = ImageHandles(limits=HandleLimits(max_bytes=100))
    handles.add(image(1))
    large = handles.add(image(2, side=6))
    assert list(handles) == [large]
    assert handles.get(large).width == 6
    small = handles.add(image(3))
    assert list(handles) == [small]


def test_what_one_request_needs_stays_together() -> None:
    handles = ImageHandles(limits=HandleLimits(max_bytes=100, max_items=3))
    with handles.held():
        with handles.held():
            several = [handles.add(image(value)) for value in range(5)]
        assert list(handles) == several
        handles.get(several[0])
    assert list(handles) == [several[0], several[4]]


def test_discard_and_clear() -> None:
    handles = ImageHandles()
    first, second = handles.add(image(1)), handles.add(image(2))
    handles.discard(first)
    handles.discard(first)
    assert list(handles) == [second]
    handles.clear()
    assert (len(handles), handles.nbytes) == (0, 0)
    with pytest.raises(HandleError, match="expired"):
        handles.get(second)


@pytest.mark.parametrize("kind", ["", "a_b", "1", "é"])
def test_kind_is_a_word(kind: str) -> None:
    with pytest.raises(ConfigError):
        HandleStore(kind)


def test_many_threads() -> None:
    handles = ImageHandles(limits=HandleLimits(max_items=10))

    def work(number: int) -> int:
        loaded = image(number % 20)
        for _ in range(20):
            with suppress(HandleError):  # another thread may have pushed it out in between
                assert handles.get(handles.add(loaded)).to_numpy().max() == number % 20
        return number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(40))) == list(range(40))
    assert len(handles) <= 10
    assert handles.nbytes == len(handles) * 4 * 4 * 3
