"""Captions as token ids of the released text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from visionllm_sdk.errors import CheckpointError
from visionllm_tools.diffusion.config import DiffusionConfig


def caption_ids(config: DiffusionConfig, captions: Sequence[str]) -> Tensor:
    """Token ids (B, Q) of captions, cut and padded to the text encoder's length.

    The tokenizer is read from the folder `sd_model_id` (released: the diffusion folder beside the weights),
    or its subfolder `tokenizer`; nothing is downloaded.

    Raises:
        CheckpointError: there is no tokenizer.
    """
    from transformers import CLIPTokenizer

    root = Path(config.sd_model_id)
    found = [folder for folder in (root / "tokenizer", root) if (folder / "vocab.json").is_file()]
    if not config.sd_model_id or not found:
        raise CheckpointError(
            "the text encoder's tokenizer is not at hand",
            value=config.sd_model_id,
            limit="a folder with vocab.json and merges.txt, or with a subfolder `tokenizer`",
            remedy="Set sd_model_id in config.json to the diffusion folder, or pass token ids.",
        )
    tokenizer = CLIPTokenizer.from_pretrained(str(found[0]), local_files_only=True)
    encoded = tokenizer(list(captions), padding="max_length", truncation=True, max_length=config.num_queries)
    return torch.tensor(encoded["input_ids"])
