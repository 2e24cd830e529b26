"""Pieces of work side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk.model.lanes import even_parts, shares, side_by_side

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_outcomes_keep_their_order_and_lanes_compute_with_one_thread() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def work(number: int) -> tuple[int, int, bool]:
        if number < 2:
            meeting.wait()  # passes only if two are at work at once
        return number, torch.get_num_threads(), torch.is_grad_enabled()

    with torch.no_grad():
        found = side_by_side(work, range(6), CPU)
    assert found == [(number, 1, False) for number in range(6)]
    assert torch.get_num_threads() == 2
    assert threads_of_another() == 2


def threads_of_another() -> int:
    """With how many threads one computes that begins now."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.usefixtures("two_threads")
def test_who_begins_to_compute_beside_lanes_has_all_threads() -> None:
    with torch.no_grad():
        assert side_by_side(lambda _: threads_of_another(), range(4), CPU) == [2] * 4


def test_lanes_in_lanes_leave_the_common_number_alone() -> None:
    def inner(_: int) -> tuple[int, int]:
        return torch.get_num_threads(), threads_of_another()

    def outer(number: int) -> tuple[list[tuple[int, int]], int, int]:
        if number:  # while further lanes start, their number is the common one for an instant
            alone.wait(20)
        found = side_by_side(inner, range(2), CPU), torch.get_num_threads(), threads_of_another()
        alone.set()
        return found

    before, alone = torch.get_num_threads(), threading.Event()
    torch.set_num_threads(8)
    try:
        with torch.no_grad():
            assert side_by_side(outer, range(2), CPU) == [([(2, 8)] * 2, 4, 8)] * 2
        assert torch.get_num_threads() == threads_of_another() == 8
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_number_that_is_set_beside_lanes_stays() -> None:
    def work(number: int) -> None:
        if not number:
            thread = threading.Thread(target=torch.set_num_threads, args=(3,))
            thread.start()
            thread.join()

    with torch.no_grad():
        side_by_side(work, range(2), CPU)
        assert threads_of_another() == 3
        side_by_side(lambda _: None, range(2), CPU)
    assert threads_of_another() == 3  # also after lanes of one who has had two all along
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_lanes_that_cannot_start_end(monkeypatch: pytest.MonkeyPatch) -> None:
    submit, asked = ThreadPoolExecutor.submit, list[int]()

    def fail(pool: ThreadPoolExecutor, *work: Any) -> Any:
        asked.append(1)
        if len(asked) == 3:  # the first asks for the common number, the second has started a lane
            raise RuntimeError("can't start new thread")
        return submit(pool, *work)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fail)
    with torch.no_grad(), pytest.raises(RuntimeError, match="new thread"):
        side_by_side(lambda _: None, range(2), CPU)
    monkeypatch.undo()
    assert torch.get_num_threads() == threads_of_another() == 2
    with torch.no_grad():
        assert side_by_side(lambda number: number, range(2), CPU) == [0, 1]


@pytest.mark.usefixtures("two_threads")
def test_lanes_take_over_inference_mode_and_give_the_same_numbers() -> None:
    layer = torch.nn.Linear(8, 8)
    inputs = [torch.randn(4, 8) for _ in range(5)]
    with torch.inference_mode():
        found = side_by_side(layer, inputs, CPU)
        assert all(torch.equal(one, layer(x)) for one, x in zip(found, inputs, strict=True))
    assert all(one.is_inference() for one in found)


@pytest.mark.usefixtures("two_threads")
def test_with_gradients_nothing_leaves_the_caller() -> None:
    here = threading.get_ident()
    assert side_by_side(lambda _: threading.get_ident(), [1, 2, 3], CPU) == [here] * 3
    with torch.no_grad():
        assert side_by_side(lambda _: threading.get_ident(), [1, 2], torch.device("meta")) == [here] * 2
        assert side_by_side(lambda _: threading.get_ident(), [1], CPU) == [here]


@pytest.mark.usefixtures("two_threads")
def test_the_first_error_is_raised() -> None:
    def work(number: int) -> int:
        if number:
            raise ValueError(f"item {number}")
        return number

    with torch.no_grad(), pytest.raises(ValueError, match="item 1"):
        side_by_side(work, [0, 1, 2], CPU)
    assert torch.get_num_threads() == 2


@given(keys=st.lists(st.integers(0, 5), max_size=20), lanes=st.integers(1, 6))
def test_shares_hold_every_item_once_and_equal_ones_together(keys: list[int], lanes: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(lanes)
    try:
        parts = shares(keys, CPU)
        assert shares(keys, torch.device("meta")) == ([sorted_by_key(keys)] if keys else [])
    finally:
        torch.set_num_threads(before)
    assert sorted(place for part in parts for place in part) == list(range(len(keys)))
    assert len(parts) == min(lanes, len(set(keys)), 4)
    homes = [{keys[place] for place in part} for part in parts]
    assert sum(map(len, homes)) == len(set(keys))


def sorted_by_key(keys: list[int]) -> list[int]:
    """Equal items together, in the order in which they first occur."""
    return sorted(range(len(keys)), key=lambda place: keys.index(keys[place]))


@given(count=st.integers(0, 50), most=st.integers(1, 9), threads=st.integers(1, 6))
def test_even_parts(count: int, most: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sizes = even_parts(count, most, CPU)
    finally:
        torch.set_num_threads(before)
    assert sum(sizes) == count
    assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1 and min(sizes) > 0)
    assert len(sizes) >= min(count, threads, 4)
    assert even_parts(count, 50, torch.device("meta")) == ([count] if count else [])


def test_many_threads_are_shared_out() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        with torch.no_grad():
            assert side_by_side(lambda _: torch.get_num_threads(), [1, 2], CPU) == [3, 3]
    finally:
        torch.set_num_threads(before)
