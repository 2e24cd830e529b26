"""A key/value cache whose rows grow by different lengths.

When one row of a batch emits a routing token, its queries enter the cache while the other rows take one
step. Each row therefore writes to its own slots, and its keys always fill slots 0, 1, 2, ... without gaps: a
query at position p sees exactly the slots up to p. No left padding is needed, rows leave the batch freely,
and a stored prefix can be put in front of any row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.cache_utils import Cache, CacheLayerMixin

_GROWTH = 64
_FIXED_SLOTS = 512  # least size of a fixed cache

KeyValues = tuple[Tensor, Tensor]
"""Keys and values of one row in one layer. Each (heads, n, D)"""


@dataclass(slots=True, eq=False)
class _Step:
    """Where the tokens of the running step go.

    Attributes:
        slots: slot of every token; padding goes to the spill slot. (B, T)
        length: slots in use by any row after this step.
    """

    slots: Tensor
    length: int


class RowLayer(CacheLayerMixin):
    """One layer of a :class:`RowCache`. The last slot takes the padding and is never read."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys: Tensor = keys  # (B, heads, capacity + 1, D)
        self.values: Tensor = values
        self.is_initialized = True
        self.step = _Step(torch.zeros(0, 0, dtype=torch.long), 0)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the memory was taken at construction."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the step's keys and values, return the slots in use. (B, heads, T, D)"""
        rows = torch.arange(key_states.shape[0], device=key_states.device)[:, None]
        self.keys[rows, :, self.step.slots] = key_states.transpose(1, 2)
        self.values[rows, :, self.step.slots] = value_states.transpose(1, 2)
        return self.keys[:, :, : self.step.length], self.values[:, :, : self.step.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys."""
        del query_length
        return self.step.length, 0

    def get_seq_length(self) -> int:
        """Slots in use by any row."""
        return self.step.length

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


class RowCache(Cache):
    """Key/value cache with rows of different length.

    Args:
        config: of the language model.
        rows: B.
        capacity: slots at the start; grows on demand.
        device: where it lives.
        dtype: number format.
        fixed: every step sees all slots, under a mask, and sizes are powers of two: few different shapes, for
            compiled steps.
    """

    def __init__(
        self,
        config: LlamaConfig,
        *,
        rows: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
        fixed: bool = False,
    ) -> None:
        self.fixed = fixed
        capacity = _power_of_two(capacity) if fixed else capacity
        heads, size = _heads(config)
        shape = (rows, heads, capacity + 1, size)
        layers = [
            RowLayer(
                torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype)
            )
            for _ in range(config.num_hidden_layers)
        ]
        super().__init__(layers=list(layers))
        self.row_layers = layers
        self._pin()
        self.lengths = torch.zeros(rows, dtype=torch.long)  # on the CPU: it steers the loop

    @property
    def capacity(self) -> int:
        """Slots per row."""
        return self.row_layers[0].keys.shape[2] - 1

    def begin(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Prepare a step in which row b takes its first ``sizes[b]`` tokens; the rest is padding.

        Args:
            sizes: on the CPU. (B,)

        Returns:
            Position ids (0 at padding) (B, T), and which slots each token sees (B, 1, T, slots in use).
        """
        width = int(sizes.max())
        offset = torch.arange(width)
        real = offset < sizes[:, None]  # (B, T)
        positions = torch.where(real, self.lengths[:, None] + offset, 0)
        after = self.lengths + sizes
        length = int(after.max())
        if length > self.capacity:
            self._grow(max(length + _GROWTH, 2 * self.capacity))
        if self.fixed:
            length = self.capacity
        device = self.row_layers[0].keys.device
        slots = torch.where(real, positions, self.capacity).to(device)
        step = _Step(slots, length)
        for layer in self.row_layers:
            layer.step = step
        self.lengths = after
        positions = positions.to(device)
        seen = torch.arange(length, device=device) <= positions[:, :, None]  # (B, T, K)
        return positions, seen[:, None]

    def preload(self, row: int, prefix: Sequence[KeyValues]) -> None:
        """Put stored keys and values in front of an empty row."""
        length = prefix[0][0].shape[1]
        if length > self.capacity:
            self._grow(length + _GROWTH)
        for layer, (keys, values) in zip(self.row_layers, prefix, strict=True):
            layer.keys[row, :, :length] = keys
            layer.values[row, :, :length] = values
        self.lengths[row] = length

    def row(self, row: int, length: int | None = None) -> list[KeyValues]:
        """Copies of a row's keys and values, to be stored.

        Args:
            row: which.
            length: of how many slots; None: of all in use.
        """
        length = int(self.lengths[row]) if length is None else length
        return [
            (layer.keys[row, :, :length].clone(), layer.values[row, :, :length].clone())
            for layer in self.row_layers
        ]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        index = torch.tensor(rows, dtype=torch.long)
        for layer in self.row_layers:
            layer.keys = layer.keys[index.to(layer.keys.device)]
            layer.values = layer.values[index.to(layer.values.device)]
        self.lengths = self.lengths[index]
        self._pin()

    def _grow(self, capacity: int) -> None:
        used = self.capacity
        capacity = _power_of_two(capacity) if self.fixed else capacity
        for layer in self.row_layers:
            layer.keys = _longer(layer.keys, used, capacity)
            layer.values = _longer(layer.values, used, capacity)
        self._pin()

    def _pin(self) -> None:
        """Tell the compiler that recorded steps may write to this memory where it is."""
        if self.fixed:
            for layer in self.row_layers:
                for memory in (layer.keys, layer.values):
                    torch._dynamo.mark_static_address(memory)


def token_bytes(config: LlamaConfig, dtype: torch.dtype) -> int:
    """Memory that the keys and values of one token take."""
    heads, size = _heads(config)
    return 2 * config.num_hidden_layers * heads * size * dtype.itemsize


def _heads(config: LlamaConfig) -> tuple[int, int]:
    """Number and width of the heads of keys."""
    size = config.head_dim or config.hidden_size // config.num_attention_heads
    return config.num_key_value_heads or config.num_attention_heads, size


def _power_of_two(slots: int) -> int:
    return max(_FIXED_SLOTS, 1 << (slots - 1).bit_length())


def _longer(tensor: Tensor, used: int, capacity: int) -> Tensor:
    rows, heads, _, size = tensor.shape
    grown = tensor.new_zeros((rows, heads, capacity + 1, size))
    grown[:, :, :used] = tensor[:, :, :used]
    return grown
