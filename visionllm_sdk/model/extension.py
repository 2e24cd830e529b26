"""Teaching a checkpoint a further tool: its tokens, its query table, its decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from visionllm_sdk.errors import ToolError
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.core import TABLE_PREFIX
from visionllm_sdk.model.superlink import link_plan
from visionllm_sdk.tool import ToolClass


def with_tool(model: Model, tool: ToolClass, section: Mapping[str, Any] | None = None) -> Model:
    """Add a tool's routing tokens, label tags, query table and decoder to a loaded model, untrained.

    Args:
        model: is changed: its language model gets rows for new tokens, its core a new table.
        tool: the tool class.
        section: what the tool's ``from_config`` needs to see in config.json.

    Returns:
        The extended model; saving it writes a checkpoint that loads with the tool.

    Raises:
        ToolError: the model has the tool already, its table has another size here, or its ``from_config``
            finds nothing in ``section``.
    """
    if tool.name in model.tools:
        raise ToolError("the model has this tool already", value=tool.name, remedy="Leave it out.")
    released = {**model.config.to_released(), **(section or {})}
    config = _extended_config(dataclasses.replace(model.config, released=released), tool, released)
    tags = [f"<{mark}{one.label_tag}>" for one in tool.tokens if one.label_tag for mark in ("", "/")]
    tokenizer = model.tokenizer.with_controls([*tags, *(one.text for one in tool.tokens)])
    config = config.with_vocab_size(max(config.vocab_size, tokenizer.vocab_size))
    built = tool.from_config(config.to_released())
    if built is None:
        raise ToolError(
            f"tool {tool.name!r} finds no decoder in the configuration",
            value=sorted(section or {}),
            remedy="Pass its switch and its section.",
        )
    core = model.core
    if config.vocab_size > core.word_embedding.num_embeddings:
        core.llm.resize_token_embeddings(config.vocab_size, mean_resizing=False)
    if tool.table.name not in core.table_names:
        table = nn.Embedding(config.query_tables[tool.table.name], config.width)
        core.add_module(TABLE_PREFIX + tool.table.name, table.to(core.device, core.dtype))
        core.table_names = (*core.table_names, tool.table.name)
    core.plan = link_plan(config, tokenizer)
    return dataclasses.replace(
        model, config=config, tokenizer=tokenizer, tools={**model.tools, tool.name: built}
    )


def _extended_config(config: ModelConfig, tool: ToolClass, released: Mapping[str, Any]) -> ModelConfig:
    known = config.query_tables
    size = tool.table.size(released)
    if known.get(tool.table.name, size) != size:
        raise ToolError(
            f"query table {tool.table.name!r} has another size in this checkpoint",
            value=size,
            limit=known[tool.table.name],
            remedy="Give the tool a table of its own.",
        )
    tables = dict(config.sdk.query_tables)
    if tool.table.name not in known:
        tables[tool.table.name] = size
    routing = dict(config.sdk.routing)
    routing |= {one.text: tool.table.name for one in tool.tokens if one.text not in config.routing}
    return config.with_sdk(query_tables=tables, routing=routing)
