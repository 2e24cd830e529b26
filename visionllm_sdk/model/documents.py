"""The JSON files of a checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visionllm_sdk.errors import CheckpointError


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no such file.

    Raises:
        CheckpointError: the file is not JSON, or holds something else than an object.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read as JSON: {error}", value=str(path), remedy="Download it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} does not hold a JSON object", value=str(path), remedy="Download it again."
        )
    return content
