"""How probable given answers are: many prompts that begin alike, each with its answer, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from visionllm_sdk.errors import LimitError
from visionllm_sdk.model.core import VisionLLMCore
from visionllm_sdk.model.prompt import Prompt, SequenceLayout, collate
from visionllm_sdk.model.tree import PromptTree

_TOKENS_A_PASS = 2048


@dataclass(slots=True, eq=False)
class _Answers:
    """A tree of prompts, and the nodes of each prompt's answer."""

    tree: PromptTree = field(default_factory=PromptTree)
    nodes: list[list[int]] = field(default_factory=list)

    def add(self, prompt: Prompt, layout: SequenceLayout) -> None:
        path = self.tree.add(prompt, layout)
        self.nodes.append([node for node, mark in zip(path, prompt.marks, strict=True) if mark])


@torch.no_grad()
def score_answers(core: VisionLLMCore, prompts: Sequence[Prompt], *, pad_id: int) -> list[float]:
    """Log-probability of the supervised tokens of each prompt.

    Args:
        core: the model.
        prompts: with their answers, which hold no routing token. Prompts that share an image or a region
            share the very object.
        pad_id: of the tokenizer.

    Raises:
        LimitError: a prompt that is longer than the language model can read.
    """
    limit = int(core.llm.config.max_position_embeddings)
    longest = max((len(prompt.ids) for prompt in prompts), default=0)
    if longest > limit:
        raise LimitError(
            "question and answer are longer than the language model can read",
            value=f"{longest} tokens",
            limit=limit,
            remedy="Use shorter texts.",
        )
    scores: list[float] = []
    for answers in _trees(prompts, core.layout):
        scores += _score(core, answers, pad_id)
    return scores


def _trees(prompts: Sequence[Prompt], layout: SequenceLayout) -> Iterator[_Answers]:
    """The prompts in trees of bounded size, in order."""
    answers = _Answers()
    for prompt in prompts:
        if answers.nodes and len(answers.tree) + len(prompt.ids) > _TOKENS_A_PASS:
            yield answers
            answers = _Answers()
        answers.add(prompt, layout)
    if answers.nodes:
        yield answers


def _score(core: VisionLLMCore, answers: _Answers, pad_id: int) -> list[float]:
    tree = answers.tree
    kept = sorted({parent for parent in tree.parents if parent >= 0})  # what nothing follows need not run
    place = {node: number for number, node in enumerate(kept)}
    seen = tree.mask()[kept][:, kept]
    output = core.llm.model(
        inputs_embeds=core.embed(collate([tree.row(kept)], pad_id=pad_id)),
        attention_mask=seen[None, None].to(core.device),
        position_ids=tree.depths()[kept][None].to(core.device),
        use_cache=False,
    )
    wanted = sorted({node for answer in answers.nodes for node in answer})
    before = torch.tensor([place[tree.parents[node]] for node in wanted], device=core.device)
    tokens = torch.tensor([tree.ids[node] for node in wanted], device=core.device)
    logits = core.llm.lm_head(output.last_hidden_state[0, before]).float()  # (N, vocabulary)
    found = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    value = dict(zip(wanted, found.tolist(), strict=True))
    return [sum(value[node] for node in answer) for answer in answers.nodes]
