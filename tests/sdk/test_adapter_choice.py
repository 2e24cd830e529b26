"""How requests choose an adapter: for all items, for each, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from visionllm_sdk.adapters import by_adapter, each_adapter
from visionllm_sdk.errors import AdapterError, ConfigError, InputError
from visionllm_sdk.extensions import has_extension, load_extension


class Switch:
    """Notes which adapter is active while items are answered."""

    adapter_names = ("a", "b")

    def __init__(self) -> None:
        self.active: str | None = None
        self.log: list[tuple[str | None, list[int]]] = []

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        self.active = name
        yield
        self.active = None

    def run(self, items: Sequence[int]) -> list[str]:
        self.log.append((self.active, list(items)))
        return [f"{item}{self.active}" for item in items]


def test_items_of_one_adapter_run_together_and_keep_their_places() -> None:
    switch: Any = Switch()
    answers = by_adapter(switch, ["a", None, "b", "a"], [1, 2, 3, 4], switch.run)
    assert answers == ["1a", "2None", "3b", "4a"]
    assert switch.log == [("a", [1, 4]), (None, [2]), ("b", [3])]


def test_an_unknown_name_stops_everything() -> None:
    switch: Any = Switch()
    with pytest.raises(AdapterError, match="no such adapter is loaded"):
        by_adapter(switch, ["a", "c"], [1, 2], switch.run)
    assert switch.log == []


def test_choices() -> None:
    assert each_adapter(None, 2, single=False) == [None, None]
    assert each_adapter("a", 2, single=False) == ["a", "a"]
    assert each_adapter(["a", None], 2, single=False) == ["a", None]
    for choice, single in ((["a"], False), (["a", "b", "a"], False), (["a"], True)):
        with pytest.raises(InputError, match="one entry for every item"):
            each_adapter(choice, 2, single=single)


@pytest.mark.parametrize("choice", [Path("a"), 5, b"ab", {"a": 1.0}, [Path("a"), None], [["a"], "b"]])
def test_what_names_no_adapter(choice: Any) -> None:
    with pytest.raises(InputError, match=r"chosen by its name.*load_adapter\(\) returned"):
        each_adapter(choice, 2, single=False)


def test_extensions() -> None:
    assert has_extension("adapters")
    assert load_extension("adapters").__name__ == "AdapterRack"
    assert not has_extension("nothing")
    with pytest.raises(ConfigError, match="no installed package offers"):
        load_extension("nothing")
