"""What a reply is made with: prompts, requests to the generator, messages with their metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    """

    workspace: Workspace
    session: VisionSession
    dialogue: Dialogue
    binding: Binding
    options: GenerationOptions
    cancel: CancelToken
    name: str

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
            return finish(reply)

        return Job(request=request, finish=checked, streams=streams)

    def message(
        self, prompt: Prompt | None, reply: GeneratedReply | None, *, text: str, calls: list[ToolCall]
    ) -> AIMessage:
        core = self.workspace.vlm.engine.model.core
        read = len(prompt.ids) if prompt else 0
        written = (
            len(reply.ids) if reply else len(self.workspace.vlm.engine.model.tokenizer.encode_user_text(text))
        )
        patches = sum(image.tiles for image in prompt.images) * core.tokens_per_tile if prompt else 0
        known = reply.reused_tokens if reply else 0
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
