"""How many tokens messages take, without computing anything of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import BaseMessage

from visionllm_sdk.agent.dialogue import images_of
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.model.tiling import tile_count
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.engine import Engine

__all__ = ["count_tokens"]

_SPEAKER: Final = 4
"""Tokens around a message that say who speaks."""


def count_tokens(
    messages: Sequence[BaseMessage], session: VisionSession, engine: Engine, rules: ImageRules
) -> int:
    """Tokens of messages: texts by the checkpoint's own vocabulary, images by their tiles, calls as JSON.

    Programs that shorten conversations count pieces of them, in any order: this is a sum over messages,
    within a few tokens of the prompt that they make together.

    Args:
        messages: any; images are registered in the session.
        session: of the conversation.
        engine: the model.
        rules: which images are accepted.

    Raises:
        ImageError: an image that cannot be used.
        HandleError: a `file_id` that is no handle of this session.
    """
    encode = engine.model.tokenizer.encode_user_text
    config, per_tile = engine.model.config, engine.model.core.tokens_per_tile
    total = 0
    with session.images.held():
        for message in messages:
            calls = [f"{one['name']} {json.dumps(one['args'])}" for one in getattr(message, "tool_calls", ())]
            total += _SPEAKER + sum(len(encode(text)) for text in (message.text, *calls) if text)
            for handle in images_of([message], session, rules):
                image = session.images.get(handle)
                total += per_tile * tile_count(
                    image.width, image.height, max_tiles=config.max_tiles, tile_size=config.image_size
                )
    return total
