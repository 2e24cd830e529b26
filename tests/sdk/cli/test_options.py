"""Options that the commands read in the same way."""

from __future__ import annotations

import pytest

from visionllm_sdk.cli.options import split_keypoints, split_labels
from visionllm_sdk.errors import InputError
from visionllm_sdk.keypoints import keypoint_set


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("coco", "coco"),
        (" ap10k ", "ap10k"),
        ("nose", ["nose"]),
        ("lid,", ["lid"]),
        ("nose, tail", ["nose", "tail"]),
    ],
)
def test_a_set_by_name_or_names_with_commas(text: str, meant: str | list[str]) -> None:
    assert split_keypoints(text) == meant


@pytest.mark.parametrize("text", ["cocoo", "hands", ""])
def test_a_misspelt_set_is_refused_not_looked_for(text: str) -> None:
    with pytest.raises(InputError, match="no keypoint set of this name"):
        keypoint_set(split_keypoints(text))


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_a_list_without_names(text: str) -> None:
    with pytest.raises(InputError, match="no label is given"):
        split_labels(text)
