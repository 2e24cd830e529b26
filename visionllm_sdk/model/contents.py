"""What tensors hold, told without reading them: where they lie and how often they were written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor

_Places = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """The state of some tensors; equal only if nothing was written in between.

    Attributes:
        places: address and number of writings of each tensor.
        kept: what lay there, so that nothing else can come to lie at these places.
    """

    places: _Places
    kept: tuple[Tensor, ...] = field(compare=False, repr=False)

    @classmethod
    def of(cls, tensors: Iterable[Tensor], before: Self | None = None) -> Self | None:
        """The state now.

        Args:
            tensors: weights and statistics, always in one order.
            before: an earlier state, which is returned if it is still that.

        Returns:
            None if a tensor cannot tell: one made in inference mode does not count writings.
        """
        held = list(tensors)
        if any(tensor.is_inference() for tensor in held):
            return None
        places = tuple((tensor.data_ptr(), tensor._version) for tensor in held)
        if before is not None and before.places == places:
            return before
        return cls(places, tuple(tensor.detach() for tensor in held))
