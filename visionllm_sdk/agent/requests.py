"""What a reply is made with: prompts, requests to the generator, messages with their metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCall

from visionllm_sdk.agent.binding import Binding
from visionllm_sdk.agent.constrain import Constraint
from visionllm_sdk.agent.dialogue import Dialogue
from visionllm_sdk.agent.grammar import Grammar
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.agent.workspace import Workspace
from visionllm_sdk.errors import GenerationCancelled, LimitError
from visionllm_sdk.generation import CancelToken, GeneratedReply, GenerationOptions, GenerationRequest
from visionllm_sdk.model.conversation import Turn
from visionllm_sdk.model.prompt import Prompt
from visionllm_sdk.skills.marking import encode_marks

__all__ = ["PROVIDER", "Job", "Outcome", "Requests"]

PROVIDER: Final = "visionllm"
"""Marks the messages of this model."""

_ARGUMENT_TOKENS: Final = 512
_SPARE: Final = 16


@dataclass(frozen=True, kw_only=True)
class Job:
    """One generation and what becomes of it.

    Attributes:
        request: to the generator.
        finish: makes the message of the reply, or the next job.
        streams: whether the reply's text is the message's text.
    """

    request: GenerationRequest
    finish: Callable[[GeneratedReply], Outcome]
    streams: bool = False


Outcome: TypeAlias = AIMessage | Job


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Makes requests and messages for one dialogue.

    Attributes:
        workspace: the model.
        session: of the conversation.
        dialogue: what has been said.
        binding: what may be called.
        options: limits and sampling.
        cancel: stops the generation.
        name: of the model, for the message's metadata.
        spent: the prompts that were read for the message, and what was written after them.
    """

    workspace: Workspace
    session: VisionSession
    dialogue: Dialogue
    binding: Binding
    options: GenerationOptions
    cancel: CancelToken
    name: str
    spent: list[tuple[Prompt, GeneratedReply]] = field(default_factory=list)

    def prompt(self, turns: Sequence[Turn]) -> Prompt:
        engine = self.workspace.vlm.engine
        builder = engine.generator.builder
        if self.dialogue.system is not None:
            builder = replace(builder, system=self.dialogue.system)
        with engine.turn():
            images = engine.see(self.dialogue.images) if self.dialogue.images else []
            return builder.build(
                turns, images, encode_marks(engine, self.dialogue.images, self.dialogue.marks)
            )

    def constrained(self, prompt: Prompt, grammar: Grammar) -> GenerationOptions:
        """Options under which the reply is a text of the grammar; it always comes to its end."""
        positions = int(self.workspace.vlm.engine.model.core.llm.config.max_position_embeddings)
        room = positions - len(prompt.ids) - 1
        if grammar.shortest + _SPARE > room:
            raise LimitError(
                "the conversation leaves no room for the reply",
                value=room,
                limit=f"{grammar.shortest + _SPARE} tokens",
                remedy="Shorten the conversation or the schema.",
            )
        wanted = max(self.options.max_new_tokens, _ARGUMENT_TOKENS, grammar.shortest + _SPARE)
        budget = min(wanted, room)
        constraint = Constraint(grammar, self.workspace.vocabulary, start=len(prompt.ids), budget=budget)
        return replace(self.options, tokens=(), stop=(), max_new_tokens=budget, processors=(constraint,))

    def job(
        self,
        prompt: Prompt,
        options: GenerationOptions,
        finish: Callable[[GeneratedReply], Outcome],
        *,
        streams: bool = False,
    ) -> Job:
        request = GenerationRequest(
            prompt=prompt,
            options=options,
            question=self.dialogue.request,
            session=self.workspace.vlm.engine.session,
            cancel=self.cancel,
        )

        def checked(reply: GeneratedReply) -> Outcome:
            if reply.finish == "cancelled":
                raise GenerationCancelled("the reply was cancelled", remedy="Raise `timeout`, or ask again.")
            self.spent.append((prompt, reply))
            return finish(reply)

        return Job(request=request, finish=checked, streams=streams)

    def message(
        self, prompt: Prompt | None, reply: GeneratedReply | None, *, text: str, calls: list[ToolCall]
    ) -> AIMessage:
        """A message with all that was spent for it.

        Args:
            prompt: of a message for which nothing was generated, if it answers one.
            reply: what was generated last for the message; None for one that follows without.
            text: what it says.
            calls: what it calls.
        """
        model = self.workspace.vlm.engine.model
        prompts = [one for one, _ in self.spent] or ([prompt] if prompt else [])
        read = sum(len(one.ids) for one in prompts)
        written = sum(len(one.ids) for _, one in self.spent)
        written += 0 if reply else len(model.tokenizer.encode_user_text(text))
        tiles = sum(image.tiles for one in prompts for image in one.images)
        patches = tiles * model.core.tokens_per_tile
        known = sum(one.reused_tokens for _, one in self.spent)
        finish = "tool_calls" if calls else reply.finish if reply else "stop"
        finish = "stop" if finish == "stop_string" else finish  # agents know one word for both
        details: dict[str, int] = {"image": patches, "cache_read": known}
        return AIMessage(
            content=text,
            tool_calls=calls,
            usage_metadata=UsageMetadata(
                input_tokens=read,
                output_tokens=written,
                total_tokens=read + written,
                input_token_details=InputTokenDetails(**details),  # type: ignore[typeddict-item]
            ),
            response_metadata={
                "model_name": self.name,
                "model_provider": PROVIDER,
                "finish_reason": finish,
                "probability": reply.probability if reply else None,
            },
        )
