"""Super-link queries: where they stand in a sequence, how they get in, and how their states come out.

All functions are pure and work on positions, never on guesses from ids: every position follows from the
routing token before it. They hold for any batch, any number and mix of routing tokens, and several turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from visionllm_sdk.errors import InputError
from visionllm_sdk.model.config import ModelConfig

_NUMBERED = ("[EMB]", "[EMB2]", "[EMB3]", "[EMB4]", "[EMB5]", "[EMB6]", "[EMB7]", "[EMB8]")


class Vocabulary(Protocol):
    """What a link plan needs of a tokenizer."""

    def control_id(self, text: str) -> int:
        """Id of a control token."""

    def has_control(self, text: str) -> bool:
        """Whether the vocabulary has it."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """A routing token of a vocabulary.

    Attributes:
        token: its text, ``[DET]``.
        token_id: its id.
        table: name of the query table.
        placeholders: ids that stand at the E query positions; their embeddings are always replaced.
    """

    token: str
    token_id: int
    table: str
    placeholders: tuple[int, ...]

    @property
    def count(self) -> int:
        """E, number of queries."""
        return len(self.placeholders)


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """All routing tokens of a vocabulary, by id, and the ids that may stand at query positions."""

    by_id: Mapping[int, LinkSpec]
    placeholder_ids: frozenset[int]

    def by_text(self, token: str) -> LinkSpec:
        """The routing token of that spelling.

        Raises:
            InputError: the checkpoint has no such routing token.
        """
        for spec in self.by_id.values():
            if spec.token == token:
                return spec
        raise InputError(
            "this checkpoint has no such routing token",
            value=token,
            limit=", ".join(spec.token for spec in self.by_id.values()),
            remedy="Use a checkpoint that was trained with it.",
        )


def link_plan(config: ModelConfig, vocabulary: Vocabulary) -> LinkPlan:
    """Routing tokens, tables and placeholders of a checkpoint.

    Perception tables use ``[EMB][EMB2]...`` and image tables ``[EMB]`` repeated, as in the released training
    text.
    """
    numbered = [vocabulary.control_id(text) for text in _NUMBERED]
    specs = {}
    for token, table in config.routing.items():
        if not vocabulary.has_control(token):
            continue
        count = config.query_tables[table]
        repeated = table in config.image_tables or count > len(numbered)
        ids = (numbered[0],) * count if repeated else tuple(numbered[:count])
        token_id = vocabulary.control_id(token)
        specs[token_id] = LinkSpec(token, token_id, table, ids)
    return LinkPlan(specs, frozenset(numbered))


def insert_queries(ids: Sequence[int], marks: Sequence[bool], plan: LinkPlan) -> tuple[list[int], list[bool]]:
    """Put the query placeholders after every routing token.

    Args:
        ids: token ids without placeholders.
        marks: whether the language loss supervises a token; placeholders never are.
        plan: routing tokens of the vocabulary.

    Raises:
        InputError: the ids already hold placeholders.
    """
    new_ids: list[int] = []
    new_marks: list[bool] = []
    for index, mark in zip(ids, marks, strict=True):
        if index in plan.placeholder_ids:
            raise InputError(
                "the token ids already hold query placeholders",
                value=index,
                remedy="Pass the prompt without [EMB] tokens: they are inserted here.",
            )
        new_ids.append(index)
        new_marks.append(mark)
        if index in plan.by_id:
            placeholders = plan.by_id[index].placeholders
            new_ids += placeholders
            new_marks += [False] * len(placeholders)
    return new_ids, new_marks


@dataclass(frozen=True, slots=True)
class LinkPosition:
    """One routing token in a batch: its row, its column, and what it is. Its queries follow at once."""

    row: int
    column: int
    spec: LinkSpec

    @property
    def queries(self) -> range:
        """Columns of the queries."""
        return range(self.column + 1, self.column + 1 + self.spec.count)


def find_links(ids: Tensor, plan: LinkPlan) -> list[LinkPosition]:
    """All routing tokens of a batch, row by row from left to right.

    Args:
        ids: token ids with placeholders. (B, L)
        plan: routing tokens of the vocabulary.

    Raises:
        InputError: a routing token without its placeholders, or placeholders without a routing token.
    """
    found = [
        LinkPosition(row, column, plan.by_id[index])
        for row, tokens in enumerate(ids.tolist())
        for column, index in enumerate(tokens)
        if index in plan.by_id
    ]
    rows = ids.tolist()
    for link in found:
        columns = link.queries
        there = tuple(rows[link.row][columns.start : columns.stop])
        if there != link.spec.placeholders:
            raise InputError(
                f"row {link.row}, position {link.column}: {link.spec.token} is not followed by its "
                f"{link.spec.count} query placeholders",
                value=there,
                limit=link.spec.placeholders,
                remedy="Build the ids with insert_queries.",
            )
    expected = sum(link.spec.count for link in found)
    present = sum(index in plan.placeholder_ids for tokens in rows for index in tokens)
    if present != expected:
        raise InputError(
            "query placeholders stand where no routing token precedes them",
            value=present - expected,
            limit="0",
            remedy="Build the ids with insert_queries.",
        )
    return found


def place_queries(embeddings: Tensor, links: Sequence[LinkPosition], tables: Mapping[str, Tensor]) -> Tensor:
    """Replace the embeddings at all query positions by the learned queries.

    Args:
        embeddings: input embeddings. (B, L, C)
        links: the routing tokens of the batch.
        tables: learned queries by table name. Each (E, C)

    Returns:
        A new tensor; gradients flow into the tables. (B, L, C)
    """
    if not links:
        return embeddings
    rows, columns = _indices(links, embeddings.device)
    queries = torch.cat([tables[link.spec.table] for link in links])  # (sum of E, C)
    return embeddings.index_put((rows, columns), queries.to(embeddings.dtype))


def extract_links(hidden: Tensor, links: Sequence[LinkPosition]) -> list[Tensor]:
    """Hidden states at the queries of every routing token.

    Args:
        hidden: hidden states after the final norm. (B, L, C)
        links: the routing tokens of the batch.

    Returns:
        One (E, C) per link, in the order of ``links``; gradients flow back.
    """
    if not links:
        return []
    rows, columns = _indices(links, hidden.device)
    states = hidden[rows, columns]  # (sum of E, C)
    return list(states.split([link.spec.count for link in links]))


def query_mask(ids: Tensor, links: Sequence[LinkPosition]) -> Tensor:
    """True at query positions: the language loss leaves them out. (B, L)"""
    mask = torch.zeros_like(ids, dtype=torch.bool)
    if links:
        mask[_indices(links, ids.device)] = True
    return mask


def _indices(links: Sequence[LinkPosition], device: torch.device) -> tuple[Tensor, Tensor]:
    rows = [link.row for link in links for _ in link.queries]
    columns = [column for link in links for column in link.queries]
    return torch.tensor(rows, device=device), torch.tensor(columns, device=device)
