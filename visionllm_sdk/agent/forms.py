"""Forms that are filled in: arguments of other people's tools, and answers of a schema."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import ToolCall, tool_call

from visionllm_sdk.agent.asking import Asker
from visionllm_sdk.agent.functions import Function, arguments_grammar, questions_of
from visionllm_sdk.agent.requests import Outcome, Requests
from visionllm_sdk.agent.sharing import Findings
from visionllm_sdk.agent.stages import Stages
from visionllm_sdk.generation import GeneratedReply

__all__ = ["Forms", "new_call"]


@dataclass(frozen=True, kw_only=True)
class Forms(Requests):
    """Fills in forms for one dialogue.

    Attributes:
        answers: what the model said to the questions of a schema, by their places in it.
    """

    answers: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def call_function(self, function: Function, stages: Stages | None = None, found: str = "") -> Outcome:
        """A call of somebody else's tool; in the second stage of a request with what the first one found."""
        if stages is not None:
            told = Findings(text=found.removesuffix("."), asked=stages.look)
            findings = told if stages.refers and found else None
            return self._write(function, _one_call(function), request=stages.then, findings=findings)
        # Whoever forces a call, as structured output does, hands out a form to fill in.
        self._ask_image(function, all_fields=self.binding.choice not in ("auto", "none"))
        return self._write(function, _one_call(function))

    def answer_form(self, function: Function) -> Outcome:
        self._ask_image(function, all_fields=True)
        return self._write(function, lambda arguments: (json.dumps(arguments, ensure_ascii=False), []))

    def _write(
        self,
        function: Function,
        use: Callable[[dict[str, Any]], tuple[str, list[ToolCall]]],
        *,
        request: str | None = None,
        findings: Findings | None = None,
    ) -> Outcome:
        """Arguments under the function's schema, from a part of the request where it has two stages."""
        *earlier, last = self.dialogue.turns
        turns = [*earlier, replace(last, question=(*last.question, f"\n{function.instruction()}"))]
        prompt = self.prompt(turns)
        grammar = arguments_grammar(
            function,
            self.dialogue.request if request is None else request,
            answers=self.answers,
            copy=self.binding.copy,
            findings=findings,
        )
        options = self.constrained(prompt, grammar)

        def written(reply: GeneratedReply) -> AIMessage:
            text, calls = use(json.loads(reply.text))
            return self.message(prompt, reply, text=text, calls=calls)

        return self.job(prompt, options, written)

    def _ask_image(self, function: Function, *, all_fields: bool) -> None:
        """Ask the model what the schema wants to know of the image."""
        if not self.dialogue.focus:
            return
        questions = questions_of(function.parameters, self.dialogue.request, all_fields=all_fields)
        if not questions:
            return
        focused = [self.session.images.get(handle) for handle in self.dialogue.focus]
        asker = Asker(
            engine=self.workspace.vlm.engine, images=focused, constrained=self.constrained, spent=self.spent
        )
        for question, value in zip(questions, asker.answer(questions), strict=True):
            self.answers[question.path] = value


def _one_call(function: Function) -> Callable[[dict[str, Any]], tuple[str, list[ToolCall]]]:
    return lambda arguments: ("", [new_call(function.name, arguments)])


def new_call(name: str, arguments: dict[str, Any]) -> ToolCall:
    """A call with an id of its own."""
    return tool_call(name=name, args=arguments, id=f"call_{uuid.uuid4().hex}")
