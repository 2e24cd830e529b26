"""Compiled programs: decoders, and the decode step: one position of one row over a cache of fixed size.

With a cache whose shapes stay the same, a step is the same program every time; on a GPU it is recorded once
and replayed, so that launching hundreds of small kernels no longer takes longer than running them. Batches
and the steps that carry super-link queries run as before, over the same cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from visionllm_sdk.model.cache import RowCache


class CompiledStep:
    """Runs single positions through a language model; compiles on first use, once per cache size.

    Args:
        language: the library's Llama.
        backend: of torch's compiler.
    """

    def __init__(self, language: LlamaForCausalLM, *, backend: str = "inductor") -> None:
        self._language = language
        self._backend = backend
        self._forward: Callable[..., Any] | None = None

    def _compiled(self) -> Callable[..., Any]:
        """The compiled forward pass; the compiler itself is large, and imported on first use."""
        if self._forward is None:
            mode: dict[str, Any] = {"mode": "reduce-overhead"} if self._backend == "inductor" else {}
            forward = self._language.model.forward
            self._forward = torch.compile(forward, dynamic=False, backend=self._backend, **mode)
        return self._forward

    def fits(self, embeddings: Tensor, cache: RowCache) -> bool:
        """Whether a step is one position of one row over a cache of fixed size. embeddings: (B, T, C)"""
        return cache.fixed and embeddings.shape[:2] == (1, 1)

    def __call__(self, embeddings: Tensor, positions: Tensor, seen: Tensor, cache: RowCache) -> Tensor:
        """Hidden states after the final norm.

        Args:
            embeddings: (1, 1, C)
            positions: (1, 1)
            seen: slots that the position sees. (1, 1, 1, slots)
            cache: of fixed size.

        Returns:
            (1, 1, C); valid until the next call.
        """
        forward = self._compiled()
        if embeddings.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        output = forward(
            inputs_embeds=embeddings,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden


def compile_in_place(parts: Iterable[nn.Module], *, backend: str = "inductor") -> None:
    """Have modules compiled when they are first called, and again for new shapes; weights keep their names.

    Args:
        parts: each becomes a program of its own.
        backend: of torch's compiler.
    """
    for part in parts:
        part.compile(backend=backend)
