"""Questions about images whose answers have a type: the model looks up what it needs, and answers in kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visionllm_sdk.agent.functions import Question
from visionllm_sdk.agent.grammar import Grammar
from visionllm_sdk.generation import GeneratedReply, GenerationOptions, GenerationRequest, ToolJob
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.conversation import Turn, image_parts
from visionllm_sdk.model.prompt import Prompt
from visionllm_sdk.results import RoutedCall
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.history import parts_of
from visionllm_sdk.skills.talk import short
from visionllm_sdk.skills.wording import report

__all__ = ["Asker"]

_WORDS = 64


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Answers questions about the same images, all of them together.

    Attributes:
        engine: the model.
        images: what is asked about; tools look at the last one.
        constrained: options under which a prompt is answered by a text of a grammar.
        spent: grows by every prompt that was read, and what was written after it.
    """

    engine: Engine
    images: Sequence[LoadedImage]
    constrained: Callable[[Prompt, Grammar], GenerationOptions]
    spent: list[tuple[Prompt, GeneratedReply]]

    def answer(self, questions: Sequence[Question]) -> list[Any]:
        """One value for every question, of the question's type. What is asked twice is looked up once."""
        asked = list(dict.fromkeys(question.text for question in questions))
        with self.engine.turn():
            turns = [self._turn(text) for text in asked]
            tokens = self.engine.routing_tokens if self.engine.model.config.sdk.tool_turns else ()
            drafts = self._generate(
                [[turn] for turn in turns], GenerationOptions(max_new_tokens=_WORDS, tokens=tokens)
            )
            told = {
                text: (self._look_up(turn, draft), draft)
                for text, turn, draft in zip(asked, turns, drafts, strict=True)
            }
            return [self._final(question, *told[question.text]) for question in questions]

    def _turn(self, text: str) -> Turn:
        asks = text.endswith("?")  # and is no request to describe the image
        return Turn((*image_parts(len(self.images)), short(text) if asks else text))

    def _look_up(self, turn: Turn, draft: GeneratedReply) -> list[Turn]:
        """The turns with what the tools found, if the model called any."""
        jobs = [ToolJob.about(self.images[-1], call) for call in draft.calls]
        results = self.engine.run(jobs) if jobs else []
        calls = [
            RoutedCall(token=job.call.token, tool="", labels=job.call.labels, probability=1.0, result=result)
            for job, result in zip(jobs, results, strict=True)
        ]
        found = report(calls)
        if found is None:
            return [turn]
        said = replace(turn, answer=parts_of(draft.ids, self.engine.model.tokenizer))
        return [said, Turn((found,), role="tool")]

    def _final(self, question: Question, turns: list[Turn], draft: GeneratedReply) -> Any:
        grammar = question.grammar()
        if grammar is None and len(turns) == 1:
            return question.value(draft.text.strip())
        plain = GenerationOptions(max_new_tokens=_WORDS, tokens=())
        (reply,) = self._generate([turns], plain, grammar)
        return question.value(reply.text.strip())

    def _generate(
        self, dialogues: Sequence[list[Turn]], options: GenerationOptions, grammar: Grammar | None = None
    ) -> list[GeneratedReply]:
        seen = self.engine.see(self.images)
        prompts = [self.engine.generator.builder.build(turns, seen) for turns in dialogues]
        replies = self.engine.generator.generate(
            [
                GenerationRequest(
                    prompt=prompt,
                    options=options if grammar is None else self.constrained(prompt, grammar),
                    session=self.engine.session,
                )
                for prompt in prompts
            ]
        )
        self.spent.extend(zip(prompts, replies, strict=True))
        return replies
