"""Classes of diffusers, by name."""

from __future__ import annotations

import logging
from typing import Any, Final

from visionllm_sdk.extras import import_extra

EXTRA: Final = "generation"
_LOGGER: Final = "transformers.utils.import_utils"


def diffusers_class(name: str) -> Any:
    """A class of the library, which imports what the class needs.

    Its pipelines import image processors that none of ours uses, and the library's loader would tell every
    user to install torchvision for them.

    Raises:
        MissingExtraError: `diffusers` is not installed.
    """
    library, logger = import_extra("diffusers", extra=EXTRA), logging.getLogger(_LOGGER)
    logger.addFilter(_is_of_use)
    try:
        return getattr(library, name)
    finally:
        logger.removeFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return "requires torchvision" not in record.getMessage()
