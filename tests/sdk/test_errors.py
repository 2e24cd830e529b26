from __future__ import annotations

import json
import pickle

import pytest

from visionllm_sdk import errors
from visionllm_sdk.errors import (
    AdapterError,
    ArtifactError,
    CheckpointError,
    ConfigError,
    GenerationCancelled,
    GenerationError,
    HandleError,
    ImageError,
    InputError,
    LimitError,
    MissingExtraError,
    RegionError,
    ToolError,
    VisionLLMError,
)

KINDS = [getattr(errors, name) for name in errors.__all__ if name != "MissingExtraError"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_hierarchy(kind: type[VisionLLMError]) -> None:
    assert issubclass(kind, VisionLLMError)
    assert kind.__doc__


@pytest.mark.parametrize(
    "kind", [ImageError, LimitError, RegionError, ArtifactError, InputError, ConfigError]
)
def test_input_errors_are_value_errors(kind: type[VisionLLMError]) -> None:
    with pytest.raises(ValueError, match="too many labels"):
        raise kind("too many labels")


def test_builtin_bases() -> None:
    assert issubclass(HandleError, LookupError)
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(GenerationCancelled, GenerationError)
    assert not issubclass(CheckpointError, ValueError)
    assert not issubclass(ToolError, AdapterError)


def test_message_has_value_limit_and_remedy() -> None:
    error = LimitError("too many labels", value=1200, limit=1000, remedy="Ask in two calls.")
    assert str(error) == "too many labels (got 1200; allowed: 1000). Ask in two calls."
    assert (error.problem, error.value, error.limit, error.remedy) == (
        "too many labels",
        1200,
        1000,
        "Ask in two calls.",
    )


def test_parts_may_be_absent() -> None:
    error = ToolError("the tool has no decoder")
    assert str(error) == "the tool has no decoder."
    assert error.value is None
    assert error.limit is None
    assert error.remedy is None


def test_none_is_a_value() -> None:
    assert str(InputError("an image is needed", value=None)) == "an image is needed (got None)."


def test_long_values_are_shortened() -> None:
    text = str(InputError("strange", value="x" * 10_000, limit=list(range(1000))))
    assert len(text) < 250
    assert "..." in text


def test_as_dict_is_json_safe() -> None:
    data = ImageError("damaged", value=object(), limit=(1, 2), remedy="Save it again.").as_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["type"] == "ImageError"
    assert data["limit"] == "(1, 2)"
    assert ImageError("damaged").as_dict()["value"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_errors_cross_process_borders(kind: type[VisionLLMError]) -> None:
    error = kind("wrong", value=3, remedy="Change it.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert copy.as_dict() == error.as_dict()


def test_missing_extra_crosses_process_borders() -> None:
    copy = pickle.loads(pickle.dumps(MissingExtraError("mcp", extra="serve")))  # noqa: S301
    assert copy.extra == "serve"
    assert 'pip install "visionllm-sdk[serve]"' in str(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_can_name_a_place_and_keeps_its_parts(kind: type[VisionLLMError]) -> None:
    error = kind("wrong", value=None, limit=3, remedy="Change it.").at("image 2")
    assert type(error) is kind
    assert str(error) == "image 2: wrong (got None; allowed: 3). Change it."
    assert "got" not in str(kind("wrong").at("image 2"))
