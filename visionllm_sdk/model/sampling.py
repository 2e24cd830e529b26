"""How the next token is chosen: per-request settings, the library's logits processors, routing control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from visionllm_sdk.errors import InputError
from visionllm_sdk.model.superlink import LinkPlan
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, TextTokenizer

Processor = Callable[[Tensor, Tensor], Tensor]
"""The library's form: ids (1, n) and scores (1, vocabulary) to scores."""

# Control tokens that the model may write itself while it may route: tags around labels.
_WRITABLE = frozenset({"<det>", "</det>", "<grd>", "</grd>"})
_SHOWN_ALTERNATIVES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """Settings of one request.

    Attributes:
        max_new_tokens: most tokens of the reply, queries not counted.
        max_calls: most routing tokens of the reply.
        temperature: 0 takes the most probable token.
        top_k: sample among the k most probable tokens; 0 among all.
        top_p: sample among the most probable tokens that hold this share; 1 among all.
        repetition_penalty: above 1 makes tokens that stood before less likely.
        seed: of sampling; None draws one.
        stop: the reply ends before any of these texts; one text may stand for itself.
        tokens: routing tokens the reply may use; None all of the checkpoint.
        require: routing token without which the reply may not end.
        routing_bias: added to the scores of routing tokens.
        processors: further logits processors, before sampling.
    """

    max_new_tokens: int = 256
    max_calls: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: Sequence[str] = ()
    tokens: tuple[str, ...] | None = None
    require: str | None = None
    routing_bias: Mapping[str, float] = field(default_factory=dict)
    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        for name, value, allowed, fits in (
            ("max_new_tokens", self.max_new_tokens, "at least 1", self.max_new_tokens >= 1),
            ("max_calls", self.max_calls, "at least 0", self.max_calls >= 0),
            ("temperature", self.temperature, "0 or more", self.temperature >= 0),
            ("top_k", self.top_k, "0 or more", self.top_k >= 0),
            ("top_p", self.top_p, "above 0, at most 1", 0 < self.top_p <= 1),
            ("repetition_penalty", self.repetition_penalty, "above 0", self.repetition_penalty > 0),
        ):
            if not fits:
                raise InputError(
                    f"{name} is out of range", value=value, limit=allowed, remedy=f"Correct {name}."
                )
        object.__setattr__(self, "stop", _stop_texts(self.stop))


def _stop_texts(given: object) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and text for text in texts):
        raise InputError(
            "stop does not hold texts",
            value=given,
            limit="a string, or several, none of them empty",
            remedy="Correct stop, such as stop=('END',).",
        )
    return tuple(texts)


class TokenChooser:
    """Chooses tokens of one row.

    Args:
        options: of the request.
        tokenizer: of the checkpoint.
        plan: routing tokens of the checkpoint.
        stop_ids: ids that end a reply.
        vocab_size: width of the scores.

    Raises:
        InputError: an unknown routing token in the options.
    """

    def __init__(
        self,
        options: GenerationOptions,
        *,
        tokenizer: TextTokenizer,
        plan: LinkPlan,
        stop_ids: Sequence[int],
        vocab_size: int,
    ) -> None:
        self._options = options
        self.bias = _bias(options, tokenizer, plan, vocab_size)  # (vocabulary,)
        self._strict_bias: Tensor | None = None
        self._required: int | None = None
        if options.require is not None:
            self._required = plan.by_text(options.require).token_id
            self._strict_bias = self.bias.clone()
            blocked = [index for index in (*plan.by_id, *stop_ids) if index != self._required]
            self._strict_bias[blocked] = -torch.inf
        self._processors = _processors(options)
        self.is_greedy = options.temperature == 0 and not self._processors
        self._random: torch.Generator | None = None
        if options.temperature > 0:
            self._random = torch.Generator()
            if options.seed is None:
                self._random.seed()
            else:
                self._random.manual_seed(options.seed)

    def current_bias(self, written: Sequence[int]) -> Tensor:
        """What to add to the scores now; a required routing token blocks the end until it is written."""
        if self._strict_bias is None or self._required in written:
            return self.bias
        return self._strict_bias

    def choose(self, scores: Tensor, ids: Sequence[int]) -> int:
        """The next token.

        Args:
            scores: biased logits. (vocabulary,)
            ids: prompt and reply so far.
        """
        written = cast("torch.LongTensor", torch.tensor([ids], dtype=torch.long, device=scores.device))
        rows = cast("torch.FloatTensor", scores[None])
        for processor in self._processors:  # as the list's own call, which inspects every one every time
            rows = processor(written, rows)
        row = rows[0]
        if self._random is None:
            return int(row.argmax())
        probabilities = row.float().softmax(-1).cpu()
        return int(torch.multinomial(probabilities, 1, generator=self._random))


def _processors(options: GenerationOptions) -> LogitsProcessorList:
    chain = LogitsProcessorList(options.processors)
    if options.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.temperature > 0:
        if options.temperature != 1:
            chain.append(TemperatureLogitsWarper(options.temperature))
        if options.top_k:
            chain.append(TopKLogitsWarper(options.top_k))
        if options.top_p < 1:
            chain.append(TopPLogitsWarper(options.top_p))
    return chain


def _bias(options: GenerationOptions, tokenizer: TextTokenizer, plan: LinkPlan, vocab_size: int) -> Tensor:
    """Minus infinity at tokens that a reply may never hold, the caller's bias at routing tokens."""
    bias = torch.zeros(vocab_size)
    allowed = set(options.tokens) if options.tokens is not None else None
    for token in (*(allowed or ()), *options.routing_bias):
        plan.by_text(token)  # refuses unknown ones
    writable = _WRITABLE if allowed is None or allowed else frozenset()
    never = [text for text in (*CONTROL_TOKENS, "<s>") if text not in writable]
    routing = {spec.token for spec in plan.by_id.values()}
    blocked = [text for text in never if text not in routing and tokenizer.has_control(text)]
    bias[[tokenizer.control_id(text) for text in blocked]] = -torch.inf
    bias[tokenizer.vocab_size :] = -torch.inf
    for index, spec in plan.by_id.items():
        if allowed is not None and spec.token not in allowed:
            bias[index] = -torch.inf
        else:
            bias[index] = options.routing_bias.get(spec.token, 0.0)
    return bias


def choose_batch(
    logits: Tensor,
    choosers: Sequence[TokenChooser],
    written: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
) -> list[int]:
    """The next token of every row; rows without sampling or processors are chosen at once.

    Args:
        logits: raw scores. (B, vocabulary)
        choosers: per row.
        written: reply so far, per row.
        prompts: prompt ids, per row.
    """
    bias = torch.stack([one.current_bias(ids) for one, ids in zip(choosers, written, strict=True)])
    scores = logits + bias.to(logits.device)
    chosen: list[int] = scores.argmax(-1).tolist()
    for row, chooser in enumerate(choosers):
        if not chooser.is_greedy:
            chosen[row] = chooser.choose(scores[row], [*prompts[row], *written[row]])
    return chosen


def certainty(
    logits: Tensor, token_id: int, tokenizer: TextTokenizer
) -> tuple[float, tuple[tuple[str, float], ...]]:
    """Probability of a token and the most probable others.

    Args:
        logits: raw scores where the token was chosen. (vocabulary,)
        token_id: the token.
        tokenizer: spells the others.
    """
    probabilities = logits.float().softmax(-1)
    values, indices = probabilities.topk(min(_SHOWN_ALTERNATIVES + 1, len(probabilities)))
    others = [
        (tokenizer.control_text(index) or tokenizer.decode_segment([index]), value)
        for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        if index != token_id
    ]
    return float(probabilities[token_id]), tuple(others[:_SHOWN_ALTERNATIVES])
