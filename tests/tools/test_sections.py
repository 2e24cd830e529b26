"""Sections of decoders in `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from visionllm_sdk.errors import ConfigError
from visionllm_tools.sections import section_of


@dataclass(frozen=True)
class Numbers:
    l_hidden_size: int


def parse(config: Mapping[str, Any]) -> Numbers:
    return Numbers(config["l_hidden_size"])


def section(**config: Any) -> Numbers | None:
    whole = {"llm_config": {"hidden_size": 4096}, **config}
    return section_of(whole, switch="use_it", name="its_config", parse=parse)


def test_a_switch_that_is_off_has_no_numbers() -> None:
    assert section() is None
    assert section(use_it=False, its_config={}) is None


def test_the_numbers_of_a_section() -> None:
    numbers = section(use_it=True, its_config={"l_hidden_size": 4096})
    assert numbers is not None
    assert numbers.l_hidden_size == 4096


@pytest.mark.parametrize(
    ("config", "words"),
    [({}, "its_config is missing"), ({"its_config": {"l_hidden_size": 64}}, "got 64; allowed: 4096")],
)
def test_what_does_not_fit(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        section(use_it=True, **config)
