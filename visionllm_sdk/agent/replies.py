"""From a dialogue to an AI message: what kind of reply is due, its request to the generator, its reading."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCall, tool_call

from visionllm_sdk.agent.asking import Asker
from visionllm_sdk.agent.closing import closing_grammar, merged_report, texts_of
from visionllm_sdk.agent.constrain import Constraint
from visionllm_sdk.agent.dialogue import Dialogue
from visionllm_sdk.agent.functions import (
    Function,
    arguments_grammar,
    choose_function,
    questions_of,
)
from visionllm_sdk.agent.grammar import Grammar, Literal
from visionllm_sdk.agent.labels import LabelSpelling
from visionllm_sdk.agent.recipes import RECIPE, Recipe
from visionllm_sdk.agent.routing import MustRoute, SaySomething
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.agent.skills import Skill, question_of
from visionllm_sdk.agent.workspace import Workspace
from visionllm_sdk.errors import GenerationCancelled, LimitError
from visionllm_sdk.generation import (
    CancelToken,
    GeneratedReply,
    GenerationOptions,
    GenerationRequest,
    RoutedCall,
)
from visionllm_sdk.keypoints import AP10K, COCO
from visionllm_sdk.model.conversation import Turn
from visionllm_sdk.model.prompt import Prompt
from visionllm_sdk.skills.marking import encode_marks

__all__ = ["PROVIDER", "Binding", "Job", "Replier"]

PROVIDER: Final = "visionllm"
"""Marks the messages of this model."""

_ARGUMENT_TOKENS: Final = 512
_ROUTED_TOKENS: Final = 128  # room for at least one label and its routing token
_SPARE: Final = 16
_REMEMBERED: Final = 4  # messages whose words a label may use


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What a reply may call.

    Attributes:
        skills: the model's own, by name.
        functions: tools of others.
        choice: "auto", "none", "any", or the name of the tool that must be called.
        tokens: routing tokens that may be used.
        answer: the reply is JSON of this schema where it is not a call.
        copy: arguments are taken from the request.
        grounded: the closing turn says only what the tools reported.
        linked: the tools understand super-link handles of this model.
    """

    skills: Mapping[str, Skill]
    functions: Sequence[Function] = ()
    choice: str = "auto"
    tokens: tuple[str, ...] = ()
    answer: Function | None = None
    copy: bool = True
    grounded: bool = True
    linked: bool = True

    def skill_of(self, token: str) -> Skill:
        """The skill that a routing token calls; the one that must be called goes first."""
        fitting = [skill for skill in self.skills.values() if skill.token == token]
        return next((skill for skill in fitting if skill.name == self.choice), fitting[0])


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
class Replier:
    """Answers one dialogue.

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
    answers: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def start(self) -> Outcome:
        """The first job, or the message if there is nothing to generate."""
        binding, dialogue = self.binding, self.dialogue
        needed = binding.choice not in ("auto", "none")
        if dialogue.reports:
            function = self._function(needed=needed)
            if needed and function is not None:
                return self._call(function)
            return self._answer(binding.answer) if binding.answer else self._close()
        if binding.choice in binding.skills and binding.skills[binding.choice].token is None:
            return self._asks(binding.skills[binding.choice])
        alone = not binding.tokens and not binding.skills
        function = self._function(needed=needed and (alone or binding.choice not in ("any", *binding.skills)))
        if function is not None and binding.choice != "none":
            return self._call(function)
        if binding.answer is not None and not binding.tokens:
            return self._answer(binding.answer)
        return self._talk()

    def _function(self, *, needed: bool) -> Function | None:
        functions = [
            one for one in self.binding.functions if self.binding.choice in ("auto", "any", one.name)
        ]
        rivals = bool(self.binding.tokens)
        return choose_function(self.dialogue.request, functions, rivals=rivals, needed=needed)

    # -- talking and routing -------------------------------------------------------------------------------

    def _talk(self) -> Job:
        """Free or forced routing; words where no routing token is written."""
        binding = self.binding
        prompt = self._prompt(self.dialogue.turns)
        tokens = binding.tokens if binding.choice != "none" else ()
        must = binding.choice in binding.skills or (binding.choice == "any" and self._word_skill() is None)
        must = must and not binding.functions and binding.answer is None
        if binding.choice in binding.skills:
            tokens, must = (binding.skills[binding.choice].token or "",), True
        processors: tuple[Any, ...] = (SaySomething(self.workspace.vocabulary, start=len(prompt.ids)),)
        require, room = None, self.options.max_new_tokens
        if must and tokens:
            room = max(room, _ROUTED_TOKENS)
            engine = self.workspace.vlm.engine
            if MustRoute.suits(engine, tokens):
                processors = (MustRoute(engine, self.workspace.vocabulary, tokens, start=len(prompt.ids)),)
            else:
                require = tokens[0]
        processors += self._spelling(prompt, tokens)
        options = replace(
            self.options, tokens=tokens, require=require, processors=processors, max_new_tokens=room
        )
        return self._job(prompt, options, lambda reply: self._talked(prompt, reply), streams=True)

    def _spelling(self, prompt: Prompt, tokens: Sequence[str]) -> tuple[LabelSpelling, ...]:
        """Labels in the user's words, where the checkpoint says which words are labels."""
        engine = self.workspace.vlm.engine
        if not (self.binding.copy and tokens and engine.model.config.sdk.label_tags):
            return ()
        said = self.dialogue.said[-_REMEMBERED:]
        known = {*COCO.names, *AP10K.names} if "[POSE]" in tokens else ()
        start = len(prompt.ids)
        return (LabelSpelling(engine, self.workspace.vocabulary, said, start=start, known=known),)

    def _talked(self, prompt: Prompt, reply: GeneratedReply) -> Outcome:
        binding = self.binding
        if not reply.calls and not self.dialogue.reports:
            if binding.choice == "any":
                skill = self._word_skill()
                function = self._function(needed=True)
                if function is not None:
                    return self._call(function)
                if skill is not None:
                    return self._asks(skill)
            if binding.answer is not None:
                return self._answer(binding.answer)
        calls = self._tool_calls(prompt, reply)
        message = self._message(prompt, reply, text=reply.text.strip(), calls=calls)
        message.response_metadata["routing"] = [self._audit(call) for call in reply.calls]
        if reply.calls:
            message.response_metadata[RECIPE] = self._recipe(prompt, reply).dump()
        return message

    def _word_skill(self) -> Skill | None:
        """A bound skill that answers questions in words."""
        return next(
            (skill for skill in self.binding.skills.values() if skill.token is None and skill.subject), None
        )

    def _asks(self, skill: Skill) -> AIMessage:
        """A call of a skill that answers in words: the request itself is its question."""
        arguments = {**question_of(skill, self.dialogue.request), **self._place(-1)}
        return self._message(None, None, text="", calls=[_tool_call(skill.name, arguments)])

    def _recipe(self, prompt: Prompt, reply: GeneratedReply) -> Recipe:
        made = Recipe.make(
            prompt, self.dialogue.handles, reply.ids, self.dialogue.request, self.workspace.vlm.engine
        )
        return replace(made, marks=tuple(self.dialogue.marks))

    def _tool_calls(self, prompt: Prompt, reply: GeneratedReply) -> list[ToolCall]:
        """Routed calls as tool calls, one for each image that is looked at."""
        if not reply.calls:
            return []
        recipe = self._recipe(prompt, reply)
        digests = [image.digest for image in self.dialogue.images]
        made = []
        for number, call in enumerate(reply.calls):
            skill = self.binding.skill_of(call.token)
            arguments = skill.phrased(call.labels)
            if self.binding.linked:
                arguments["superlink"] = self.session.keep(call, key=recipe.key(digests, number))
            places = range(len(self.dialogue.focus)) or (-1,)
            made += [_tool_call(skill.name, {**arguments, **self._place(place)}) for place in places]
        return made

    def _place(self, number: int) -> dict[str, str]:
        return {"image": self.dialogue.focus[number]} if self.dialogue.focus else {}

    def _audit(self, call: RoutedCall) -> dict[str, Any]:
        """What was routed, how sure the model was, and what else was close."""
        registry = self.workspace.vlm.engine.registry
        shares: dict[str, float] = {}
        for text, probability in call.alternatives:
            token = text if text in registry.token_texts else ""
            shares[token] = min(shares.get(token, 0.0) + probability, 1.0)
        return {
            "token": call.token,
            "tool": self.binding.skill_of(call.token).name,
            "labels": list(call.labels),
            "probability": min(call.probability, 1.0),
            "logprob": math.log(max(call.probability, 1e-45)),
            "alternatives": [{"token": token, "probability": share} for token, share in shares.items()],
        }

    # -- closing -------------------------------------------------------------------------------------------

    def _close(self) -> Outcome:
        """The turn after the tools: under a grammar of what they reported, unless there is more to see."""
        texts = texts_of(self.dialogue.reports)
        pictures = any(
            block["type"] == "image" for one in self.dialogue.reports for block in one.content_blocks
        )
        grammar = closing_grammar(texts) if self.binding.grounded and not pictures else None
        prompt = self._prompt(self.dialogue.turns)
        if isinstance(grammar, Literal):  # one way to say it: there is nothing to generate
            return self._message(prompt, None, text=merged_report(texts), calls=[])
        if grammar is None:
            start = len(prompt.ids)
            options = replace(
                self.options, tokens=(), processors=(SaySomething(self.workspace.vocabulary, start=start),)
            )
        else:
            options = self._constrained(prompt, grammar)
        return self._job(prompt, options, lambda reply: self._closed(prompt, reply), streams=True)

    def _closed(self, prompt: Prompt, reply: GeneratedReply) -> AIMessage:
        return self._message(prompt, reply, text=reply.text.strip(), calls=[])

    # -- tools of others -----------------------------------------------------------------------------------

    def _call(self, function: Function) -> Outcome:
        return self._write(function, lambda arguments: ("", [_tool_call(function.name, arguments)]))

    def _answer(self, function: Function) -> Outcome:
        return self._write(function, lambda arguments: (json.dumps(arguments, ensure_ascii=False), []))

    def _write(
        self, function: Function, use: Callable[[dict[str, Any]], tuple[str, list[ToolCall]]]
    ) -> Outcome:
        """Arguments under the function's schema."""
        self._answer_questions(function)
        *earlier, last = self.dialogue.turns
        turns = [*earlier, replace(last, question=(*last.question, f"\n{function.instruction()}"))]
        prompt = self._prompt(turns)
        grammar = arguments_grammar(
            function, self.dialogue.request, answers=self.answers, copy=self.binding.copy
        )
        options = self._constrained(prompt, grammar)

        def written(reply: GeneratedReply) -> AIMessage:
            text, calls = use(json.loads(reply.text))
            return self._message(prompt, reply, text=text, calls=calls)

        return self._job(prompt, options, written)

    def _answer_questions(self, function: Function) -> None:
        """Ask the model what the schema asks about the image."""
        questions = questions_of(function.parameters) if self.dialogue.focus else []
        if not questions:
            return
        focused = [
            image
            for image, handle in zip(self.dialogue.images, self.dialogue.handles, strict=True)
            if handle in self.dialogue.focus
        ]
        asker = Asker(engine=self.workspace.vlm.engine, images=focused, constrained=self._constrained)
        for question, value in zip(questions, asker.answer(questions), strict=True):
            self.answers[question.path] = value

    # -- requests and messages -----------------------------------------------------------------------------

    def _prompt(self, turns: Sequence[Turn]) -> Prompt:
        engine = self.workspace.vlm.engine
        builder = engine.generator.builder
        if self.dialogue.system is not None:
            builder = replace(builder, system=self.dialogue.system)
        with engine.turn():
            images = engine.see(self.dialogue.images) if self.dialogue.images else []
            return builder.build(
                turns, images, encode_marks(engine, self.dialogue.images, self.dialogue.marks)
            )

    def _constrained(self, prompt: Prompt, grammar: Grammar) -> GenerationOptions:
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

    def _job(
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

    def _message(
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


def _tool_call(name: str, arguments: dict[str, Any]) -> ToolCall:
    return tool_call(name=name, args=arguments, id=f"call_{uuid.uuid4().hex}")
