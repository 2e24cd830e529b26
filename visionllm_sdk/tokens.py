"""Routing tokens and the super-link queries behind them: what a routed tool adds to the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionllm_sdk.errors import ToolError


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTable:
    """A table of learned super-link queries; several routing tokens may share one.

    Attributes:
        name: the checkpoint key is ``emb_embeddings_{name}.weight``.
        count: number of queries E where the configuration does not say otherwise.
        count_field: field of the released configuration that holds E (``num_embs``), if any.
    """

    name: str
    count: int
    count_field: str | None = None

    def size(self, config: Mapping[str, Any]) -> int:
        """Number of queries under a released configuration dict.

        Raises:
            ToolError: it is not a positive integer.
        """
        value = config.get(self.count_field) if self.count_field else None
        size = self.count if value is None else value
        if not isinstance(size, int) or size < 1:
            raise ToolError(
                f"query table {self.name!r} has an impossible number of queries",
                value=size,
                limit="an integer of at least 1",
                remedy=f"Correct {self.count_field or 'QueryTable.count'}.",
            )
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedLayout:
    """How a question and its answer are laid out when the caller knows the labels (forced routing).

    Attributes:
        question: what the user asks; ``{labels}`` stands for the labels joined by ``separator``.
        answer: what the assistant answers; ``{items}`` stands for one item per label.
        item: one answer item, from ``{label}`` and ``{token}``; a checkpoint trained with label tags
            always uses ``<tag>{label}</tag>{token}`` instead.
        separator: between labels, and between items.

    Raises:
        ToolError: ``answer`` or ``item`` lacks its slot.
    """

    question: str
    answer: str = "{items}"
    item: str = "{label}{token}"
    separator: str = ", "

    def __post_init__(self) -> None:
        for name, text, slot in (("answer", self.answer, "{items}"), ("item", self.item, "{token}")):
            if slot not in text:
                raise ToolError(
                    f"the {name} of a forced layout lacks its slot", value=text, remedy=f"Put {slot} into it."
                )


_PLAIN_LAYOUT = ForcedLayout(question="{labels}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingToken:
    """A vocabulary entry that calls a decoder.

    Attributes:
        text: its spelling, ``[DET]``.
        label_tag: name of the tag pair that may wrap its label, ``det`` for ``<det>dog</det>[DET]``.
        layout: question and answer of forced routing.
        purpose: one sentence for documentation and tool schemas: when this token is the right one.
        grouped: neighbouring occurrences in a reply form one call with several labels; otherwise each is a
            call of its own.

    Raises:
        ToolError: ``text`` is not capitals and digits in square brackets, or begins with ``[EMB``.
    """

    text: str
    label_tag: str | None = None
    layout: ForcedLayout = _PLAIN_LAYOUT
    purpose: str = ""
    grouped: bool = True

    def __post_init__(self) -> None:
        inner = self.text[1:-1]
        in_brackets = self.text.startswith("[") and self.text.endswith("]")
        if not (in_brackets and inner.isalnum() and inner.isupper()):
            raise ToolError(
                "a routing token is misspelled",
                value=self.text,
                limit="capital letters and digits in square brackets",
                remedy="Spell it like '[DEPTH]'.",
            )
        if inner.startswith("EMB"):
            raise ToolError(
                "a routing token collides with the query placeholders [EMB]..[EMB8]",
                value=self.text,
                remedy="Choose another spelling.",
            )
