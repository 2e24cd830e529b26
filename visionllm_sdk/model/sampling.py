"""How the next token is chosen: per-request settings, the library's logits processors, routing control."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Final, cast

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from visionllm_sdk._numbers import as_real, as_whole
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
        before: routing tokens that have to stand before the required one, because its tool reads them.
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
    before: tuple[str, ...] = ()
    routing_bias: Mapping[str, float] = field(default_factory=dict)
    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        taken: dict[str, Any] = {name: _number(name, getattr(self, name)) for name in _NUMBERS}
        taken["stop"] = _stop_texts(self.stop)
        taken["tokens"] = None if self.tokens is None else _routing_tokens("tokens", self.tokens)
        taken["before"] = _routing_tokens("before", self.before)
        taken["routing_bias"] = _biases(self.routing_bias)
        taken["processors"] = _processors_of(self.processors)
        for name, value in taken.items():
            object.__setattr__(self, name, value)
        needed = () if self.require is None else _routing_tokens("require", (*self.before, self.require))
        absent = [token for token in needed if self.tokens is not None and token not in self.tokens]
        if absent:
            raise InputError(
                "the reply may not use a routing token that it has to use",
                value=absent[0],
                limit=", ".join(self.tokens or ()) or "no routing token",
                remedy="Allow it, or do not require it.",
            )


_NUMBERS: Final[Mapping[str, tuple[str, Callable[[Any], float | None], Callable[[float], bool]]]] = {
    "max_new_tokens": ("a whole number, at least 1", as_whole, lambda value: value >= 1),
    "max_calls": ("a whole number, at least 0", as_whole, lambda value: value >= 0),
    "temperature": ("a number, 0 or more", as_real, lambda value: value >= 0),
    "top_k": ("a whole number, 0 or more", as_whole, lambda value: value >= 0),
    "top_p": ("a number above 0, at most 1", as_real, lambda value: 0 < value <= 1),
    "repetition_penalty": ("a number above 0", as_real, lambda value: value > 0),
    "seed": ("a whole number of 64 bits, or None", as_whole, lambda value: -(2**63) <= value < 2**64),
}
"""The numbers among the options: what each has to be in words, how it becomes Python's, what is in range."""


def _number(name: str, given: object) -> float | None:
    if name == "seed" and given is None:
        return None
    allowed, take, fits = _NUMBERS[name]
    value = take(given)
    if value is None or not fits(value):
        raise InputError(f"{name} is out of range", value=given, limit=allowed, remedy=f"Correct {name}.")
    return value


def _routing_tokens(name: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(token, str) for token in given):
        raise InputError(
            f"{name} does not hold routing tokens",
            value=given,
            limit="texts such as '[DET]'",
            remedy=f"Correct {name}.",
        )
    return tuple(given)


def _biases(given: object) -> dict[str, float]:
    biases: dict[str, float] = {}
    for token, bias in given.items() if isinstance(given, Mapping) else [("", given)]:
        forbids = isinstance(bias, Real) and bias == -math.inf
        value = -math.inf if forbids else as_real(bias)
        if value is None or not isinstance(token, str):
            raise InputError(
                "routing_bias does not hold a bias of each routing token",
                value=given,
                limit="finite numbers by routing token, or minus infinity",
                remedy="Correct routing_bias, such as routing_bias={'[DET]': 1.0}.",
            )
        biases[token] = value
    return biases


def _processors_of(given: object) -> tuple[Processor, ...]:
    if not isinstance(given, list | tuple) or not all(callable(one) for one in given):
        raise InputError(
            "processors does not hold logits processors",
            value=given,
            limit="functions of ids and scores that return scores",
            remedy="Correct processors.",
        )
    return tuple(given)


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
        self._required: int | None = None
        if options.require is not None:
            self._required = plan.by_text(options.require).token_id
            self._before = {plan.by_text(token).token_id for token in options.before}
            closed = (*plan.by_id, *stop_ids)
            self._early_bias = _without(self.bias, closed, self._before)
            self._strict_bias = _without(self.bias, closed, {*self._before, self._required})
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
        if self._required is None or self._required in written:
            return self.bias
        return self._strict_bias if self._before.issubset(written) else self._early_bias

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


def _without(bias: Tensor, closed: Iterable[int], kept: Collection[int]) -> Tensor:
    """A bias that blocks the tokens of `closed`, but for those that are kept."""
    strict = bias.clone()
    strict[[index for index in closed if index not in kept]] = -torch.inf
    return strict


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
