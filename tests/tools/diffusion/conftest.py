"""Decoders for the tests: the reference's, and small ones from scratch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.diffusion import reference
from tests.tools.diffusion.reference import Reference


@pytest.fixture(scope="session")
def generation_reference(goldens: Path) -> Reference:
    return reference.generation_reference(goldens)


@pytest.fixture(scope="session")
def editing_reference(goldens: Path) -> Reference:
    return reference.editing_reference(goldens)
