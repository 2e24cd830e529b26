"""The decode loop: a batch of rows that advance together, each by its own number of positions.

A row that emits a routing token takes one step of 1 + E positions, the token and its queries, while the
others take one; the hidden states at the queries are its super-link, and the next token follows from the last
query. A routing token always gets its queries, also when the reply ends there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visionllm_sdk.errors import LimitError
from visionllm_sdk.model.cache import RowCache
from visionllm_sdk.model.core import VisionLLMCore
from visionllm_sdk.model.prompt import Prompt, collate
from visionllm_sdk.model.reply import Link, ReplyBuilder
from visionllm_sdk.model.sampling import GenerationOptions, TokenChooser, certainty, choose_batch
from visionllm_sdk.model.session import Session, content_ids, cut_prompt, rest_of
from visionllm_sdk.model.superlink import LinkSpec
from visionllm_sdk.model.tokenizer import TextTokenizer

_ROOM = 64  # cache slots beyond the prompt at the start


class CancelToken:
    """Lets another thread stop a request."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Stop the request before its next token."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the request is to stop."""
        return self._event.is_set()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenerationRequest:
    """One prompt to answer.

    Attributes:
        prompt: ends where the reply begins.
        options: settings.
        question: the user's text of this turn, for labels without tags.
        session: reuses and keeps image features and the prefix of the conversation.
        cancel: stops the request.
    """

    prompt: Prompt
    options: GenerationOptions = field(default_factory=GenerationOptions)
    question: str = ""
    session: Session | None = None
    cancel: CancelToken | None = None


@dataclass(slots=True, eq=False)
class DecodedRow:
    """A row of the running batch.

    Attributes:
        index: of the request.
        request: what was asked.
        reply: text and links so far.
        chooser: picks its tokens.
        content: comparable numbers of everything in its cache, prompt included.
        pending: the routing token that waits for its queries, with its certainty.
        finish: why the reply ended; empty while it goes on.
        reused: prompt tokens that the session already knew.
        logprob: sum of the log-probabilities of its tokens, before any bias.
    """

    index: int
    request: GenerationRequest
    reply: ReplyBuilder
    chooser: TokenChooser
    content: list[int]
    pending: tuple[LinkSpec, float, tuple[tuple[str, float], ...]] | None = None
    finish: str = ""
    reused: int = 0
    logprob: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class StepResult:
    """What happened to a row in one step.

    Attributes:
        row: its state after the step.
        link: the super-link that was completed, if any.
    """

    row: DecodedRow
    link: Link | None


class Decoder:
    """Runs the loop for one checkpoint.

    Args:
        core: the model.
        tokenizer: of the checkpoint.
        stop_ids: ids that end a reply.
    """

    def __init__(self, core: VisionLLMCore, tokenizer: TextTokenizer, *, stop_ids: Sequence[int]) -> None:
        self._core = core
        self._tokenizer = tokenizer
        self._stop_ids = frozenset(stop_ids)
        self._max_positions = int(core.llm.config.max_position_embeddings)

    @torch.no_grad()
    def run(self, requests: Sequence[GenerationRequest]) -> Iterator[list[StepResult]]:
        """Answer requests; yields the rows that moved after every step, until all are finished.

        Raises:
            LimitError: a prompt longer than the language model's positions.
            InputError: a request asks for an unknown routing token.
        """
        rows = [self._start_row(index, request) for index, request in enumerate(requests)]
        if not rows:
            return
        cache, last = self._prefill(rows)
        while rows:
            logits = self._core.llm.lm_head(last).float()  # (B, vocabulary)
            moved = self._choose(rows, logits)
            feeding = [position for position, row in enumerate(rows) if not row.finish or row.pending]
            self._leave(rows, cache, feeding)
            rows = [rows[position] for position in feeding]
            links: dict[int, Link] = {}
            if rows:
                if len(feeding) < len(last):
                    cache.keep(feeding)
                last, links = self._step(rows, cache)
            yield [StepResult(row, links.get(row.index)) for row in moved]
            going = [position for position, row in enumerate(rows) if not row.finish]
            if len(going) < len(rows):  # these ended with a routing token and have their queries now
                self._leave(rows, cache, going)
                rows = [rows[position] for position in going]
                if rows:
                    cache.keep(going)
                    last = last[going]

    # -- starting ------------------------------------------------------------------------------------------

    def _start_row(self, index: int, request: GenerationRequest) -> DecodedRow:
        if len(request.prompt.ids) >= self._max_positions:
            raise LimitError(
                f"request {index}: the prompt is longer than the language model can read",
                value=len(request.prompt.ids),
                limit=self._max_positions - 1,
                remedy="Shorten the text or the history, or use fewer images.",
            )
        chooser = TokenChooser(
            request.options,
            tokenizer=self._tokenizer,
            plan=self._core.plan,
            stop_ids=sorted(self._stop_ids),
            vocab_size=self._core.llm.config.vocab_size,
        )
        reply = ReplyBuilder(self._tokenizer, self._core.plan, question=request.question)
        return DecodedRow(index, request, reply, chooser, content=[])

    def _prefill(self, rows: Sequence[DecodedRow]) -> tuple[RowCache, Tensor]:
        """Run all prompts, each from where its session's prefix ends. Last hidden states are (B, C)."""
        longest = max(len(row.request.prompt.ids) for row in rows)
        config, core = self._core.llm.config, self._core
        cache = RowCache(
            config,
            rows=len(rows),
            capacity=longest + _ROOM,
            device=core.device,
            dtype=core.dtype,
            fixed=core.step is not None and len(rows) == 1,
        )
        rests = [self._use_prefix(position, row, cache) for position, row in enumerate(rows)]
        sizes = torch.tensor([len(rest.ids) for rest in rests])
        batch = collate(rests, pad_id=self._tokenizer.pad_id)
        hidden = self._forward(core.embed(batch), sizes, cache)
        return cache, hidden[torch.arange(len(rows)), sizes - 1]

    def _use_prefix(self, position: int, row: DecodedRow, cache: RowCache) -> Prompt:
        """Load what the row's session knows; return the rest of the prompt, with known features filled in."""
        prompt, session, layout = row.request.prompt, row.request.session, self._core.layout
        if session is None:
            return prompt
        content = content_ids(prompt, layout)
        row.content = content.tolist()
        known, prefix = session.longest_prefix(content)
        cut = cut_prompt(prompt, known, layout)
        session.reused_tokens = row.reused = cut
        if cut:
            cache.preload(position, [(keys[:, :cut], values[:, :cut]) for keys, values in prefix])
        rest = rest_of(prompt, cut, layout)
        return self._see(rest, session)

    def _see(self, prompt: Prompt, session: Session) -> Prompt:
        levels = any(region.embedding is None for region in prompt.regions)
        images = []
        for image in prompt.images:
            known = session.recall(image)
            features = self._core.see([known], levels=levels)
            session.remember(known, features)
            images.append(type(known)(known.pixels, features, known.key))
        return Prompt(ids=prompt.ids, marks=prompt.marks, images=tuple(images), regions=prompt.regions)

    # -- one step ------------------------------------------------------------------------------------------

    def _choose(self, rows: Sequence[DecodedRow], logits: Tensor) -> list[DecodedRow]:
        """Choose every row's next token, and see whether its reply ends."""
        chosen = choose_batch(
            logits,
            [row.chooser for row in rows],
            [row.reply.ids for row in rows],
            [row.request.prompt.ids for row in rows],
        )
        logprobs = logits.log_softmax(-1)[torch.arange(len(rows)), chosen].tolist()
        for position, (row, index) in enumerate(zip(rows, chosen, strict=True)):
            row.finish = self._end_before(row, index)
            if row.finish:
                continue
            row.reply.push(index)
            row.logprob += logprobs[position]
            if spec := self._core.plan.by_id.get(index):
                row.pending = (spec, *certainty(logits[position], index, self._tokenizer))
            row.finish = _end_after(row)
        return list(rows)

    def _end_before(self, row: DecodedRow, index: int) -> str:
        """Why the reply ends without this token; empty if it does not."""
        if row.request.cancel is not None and row.request.cancel.cancelled:
            return "cancelled"
        if index in self._stop_ids:
            return "stop"
        spec = self._core.plan.by_id.get(index)
        if spec is not None and len(row.reply.links) >= row.request.options.max_calls:
            return "calls"
        used = len(row.request.prompt.ids) + len(row.reply.ids)
        used += sum(link.super_link.states.shape[0] for link in row.reply.links)
        needed = 1 + (spec.count if spec is not None else 0)
        return "length" if used + needed > self._max_positions else ""

    def _step(self, rows: Sequence[DecodedRow], cache: RowCache) -> tuple[Tensor, dict[int, Link]]:
        """Feed every row its last token, and its queries if it is a routing token.

        Returns:
            Last hidden states (B, C), and completed links by request index.
        """
        specs = [row.pending[0] if row.pending else None for row in rows]
        sizes = torch.tensor([1 + (spec.count if spec else 0) for spec in specs])
        ids = torch.tensor([row.reply.ids[-1] for row in rows], device=self._core.device)
        words = self._core.word_embedding(ids)  # (B, C)
        embeddings = words.new_zeros((len(rows), int(sizes.max()), words.shape[-1]))
        embeddings[:, 0] = words
        tables = self._core.tables()
        for position, spec in enumerate(specs):
            if spec:
                embeddings[position, 1 : 1 + spec.count] = tables[spec.table]
        hidden = self._forward(embeddings, sizes, cache)
        links = {}
        for position, row in enumerate(rows):
            row.content.append(row.reply.ids[-1])
            if row.pending:
                links[row.index] = self._complete(row, hidden[position])
        return hidden[torch.arange(len(rows)), sizes - 1], links

    def _complete(self, row: DecodedRow, hidden: Tensor) -> Link:
        assert row.pending is not None
        spec, probability, alternatives = row.pending
        row.pending = None
        row.content += spec.placeholders
        states = hidden[1 : 1 + spec.count].clone()  # (E, C)
        return row.reply.link(spec.token, states, probability, alternatives)

    def _forward(self, embeddings: Tensor, sizes: Tensor, cache: RowCache) -> Tensor:
        positions, seen = cache.begin(sizes)
        step = self._core.step
        if step is not None and step.fits(embeddings, cache):
            return step(embeddings, positions, seen, cache)
        output = self._core.llm.model(
            inputs_embeds=embeddings,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    # -- ending --------------------------------------------------------------------------------------------

    def _leave(self, rows: Sequence[DecodedRow], cache: RowCache, staying: Sequence[int]) -> None:
        """Let the sessions of the rows that leave keep their prefix."""
        for position, row in enumerate(rows):
            session = row.request.session
            if position in staying or session is None:
                continue
            length = int(cache.lengths[position])
            session.keep_prefix(torch.tensor(row.content[:length]), cache.row(position))


def _end_after(row: DecodedRow) -> str:
    """Why the reply ends with the token just written; empty if it does not."""
    options = row.request.options
    if options.stop and any(text in row.reply.text for text in options.stop):
        return "stop_string"
    return "length" if len(row.reply.ids) >= options.max_new_tokens else ""
