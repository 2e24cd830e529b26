"""From a dialogue to an AI message: what kind of reply is due, and what becomes of what is generated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from visionllm_sdk.agent.closing import Report, closing_grammar, merged_report, passed_on, report_of
from visionllm_sdk.agent.dialogue import OVERLAY, PRODUCED, laid_out, marks_block
from visionllm_sdk.agent.forms import Forms, new_call
from visionllm_sdk.agent.functions import Function, choose_function
from visionllm_sdk.agent.grammar import Literal
from visionllm_sdk.agent.labels import LabelSpelling
from visionllm_sdk.agent.recipes import RECIPE, Recipe
from visionllm_sdk.agent.requests import Job, Outcome
from visionllm_sdk.agent.routing import MustRoute, Prescribed, SaySomething, SoonRoute
from visionllm_sdk.agent.skills import Skill
from visionllm_sdk.agent.stages import Stages, stages_of
from visionllm_sdk.errors import InputError
from visionllm_sdk.generation import GeneratedReply, RoutedCall
from visionllm_sdk.keypoints import AP10K, COCO
from visionllm_sdk.model.conversation import ForcedCall
from visionllm_sdk.model.prompt import Prompt
from visionllm_sdk.regions import Box, Point, Region, region_name
from visionllm_sdk.skills.engine import SKILL_TOKENS

__all__ = ["Replier"]

_ROUTED_TOKENS: Final = 128  # room for at least one label and its routing token
_POSED_TOKENS: Final = 384  # room for the names of a whole body
_REMEMBERED: Final = 4  # messages whose words a label may use


@dataclass(frozen=True, kw_only=True)
class Replier(Forms):
    """Answers one dialogue.

    Attributes:
        later: the tool of somebody else that is called with what is found now, and the part of the request
            that speaks of it.
    """

    later: tuple[Function, Stages] | None = None

    def start(self) -> Outcome:
        """The first job, or the message if there is nothing to generate."""
        binding, dialogue = self.binding, self.dialogue
        needed = binding.choice not in ("auto", "none")
        if dialogue.reports:
            function = self._function(needed=needed)
            if needed and function is not None:
                return self.call_function(function)
            if (stages := self._stages(function)) and function is not None and not self._failed():
                return self.call_function(function, stages, merged_report(self._reports()))
            return self.answer_form(binding.answer) if binding.answer else self._close()
        if binding.choice in binding.skills and binding.skills[binding.choice].token is None:
            return self._asks(binding.skills[binding.choice])
        alone = not binding.tokens and not binding.skills
        function = self._function(needed=needed and (alone or binding.choice not in ("any", *binding.skills)))
        if function is not None and binding.choice != "none":
            stages = self._stages(function) if binding.tokens and dialogue.focus else None
            return self._look_first(function, stages) if stages else self.call_function(function)
        if binding.answer is not None and not binding.tokens:
            return self.answer_form(binding.answer)
        return self._talk()

    def _function(self, *, needed: bool) -> Function | None:
        """The function that is due, if any.

        Where any tool must be called turn after turn, those called already come after the others: agents
        bind the tool that ends their work last.
        """
        choice = self.binding.choice
        functions = [one for one in self.binding.functions if choice in ("auto", "any", one.name)]
        fresh = [one for one in functions if choice != "any" or one.name not in self.dialogue.called]
        rivals = bool(self.binding.tokens) and not needed
        spoken_of = choose_function(self.dialogue.request, fresh, rivals=rivals)
        return spoken_of or (functions[-1] if needed and functions else None)

    def _stages(self, function: Function | None) -> Stages | None:
        """The two stages of a request that wants something found before it is handed to a tool."""
        fitting = self.binding.choice == "auto" and self.binding.copy and function is not None
        if not fitting or function is None or function.name in self.dialogue.called:
            return None
        return stages_of(self.dialogue.request, function)

    def _look_first(self, function: Function, stages: Stages) -> Job:
        """The reply to the first part of a request, which the model reads alone."""
        *earlier, last = self.dialogue.turns
        whole = self.dialogue.request
        question = [
            part.replace(whole, stages.look) if isinstance(part, str) else part for part in last.question
        ]
        looking = replace(
            self.dialogue,
            turns=[*earlier, replace(last, question=tuple(question))],
            request=stages.look,
            said=[*self.dialogue.said[:-1], stages.look],
        )
        return replace(self, dialogue=looking, later=(function, stages))._talk()

    # -- talking and routing -------------------------------------------------------------------------------

    def _talk(self) -> Job:
        """Free or forced routing; words where no routing token is written."""
        binding = self.binding
        forced = binding.skills.get(binding.choice)
        tokens = binding.tokens if binding.choice != "none" else ()
        must = binding.choice == "any" and self._word_skill() is None
        must = must and not binding.functions and binding.answer is None
        if forced is not None:
            return self._routed((forced.token or "",), forced.before)
        if must and tokens and MustRoute.suits(self.workspace.vlm.engine, tokens):
            return self._routed(tokens)
        prompt = self.prompt(self.dialogue.turns)
        options = replace(
            self.options,
            tokens=tokens,
            processors=(
                SaySomething(self.workspace.vocabulary, start=len(prompt.ids)),
                *self._spelling(prompt, tokens),
            ),
        )

        def talked(reply: GeneratedReply) -> Outcome:
            again = must and tokens and not reply.calls
            return self._routed(tokens[:1]) if again else self._talked(prompt, reply)

        # Words that a call or an answer may take the place of are not shown.
        streams = binding.choice != "any" and binding.answer is None and self.later is None
        return self.job(prompt, options, talked, streams=streams)

    def _routed(self, tokens: Sequence[str], before: Sequence[str] = ()) -> Job:
        """A reply that uses one of the tokens, after those that open its answer."""
        engine, vocabulary = self.workspace.vlm.engine, self.workspace.vocabulary
        prompt = self.prompt(self.dialogue.turns)
        everything = (*before, *tokens)
        start, require = len(prompt.ids), None
        processors: tuple[Any, ...]
        if MustRoute.suits(engine, everything):
            processors = (MustRoute(engine, vocabulary, tokens, before=before, start=start),)
        else:
            require = tokens[0]
            processors = self._soon(require, prompt)
        options = replace(
            self.options,
            tokens=everything,
            require=require,
            before=tuple(before) if require else (),
            processors=(*processors, *self._spelling(prompt, everything)),
            max_new_tokens=max(self.options.max_new_tokens, _POSED_TOKENS if before else _ROUTED_TOKENS),
        )
        streams = self.binding.answer is None
        return self.job(prompt, options, lambda reply: self._talked(prompt, reply), streams=streams)

    def _soon(self, token: str, prompt: Prompt) -> tuple[Any, ...]:
        """Processors that bring a routing token without labels into a reply.

        A picture says nothing before its token that the checkpoint's layout does not say; labels of others
        are in the words before it.
        """
        engine, start = self.workspace.vlm.engine, len(prompt.ids)
        skill = self.binding.skill_of(token)
        if skill is not None and skill.draws:
            *earlier, last = self.dialogue.turns
            answer = laid_out([ForcedCall(token=engine.token(token), labels=("",))], engine)
            whole = self.prompt([*earlier, replace(last, answer=answer)]).ids
            return (Prescribed([*whole[start:], self.workspace.vocabulary.stop_ids[0]], start=start),)
        soon = SoonRoute(engine.model.tokenizer.control_id(token), start=start)
        return SaySomething(self.workspace.vocabulary, start=start), soon

    def _spelling(self, prompt: Prompt, tokens: Sequence[str]) -> tuple[Any, ...]:
        """Labels in the user's words, where the checkpoint says which words are labels."""
        engine = self.workspace.vlm.engine
        if not (self.binding.copy and tokens and engine.model.config.sdk.label_tags):
            return ()
        # Region prompts are named by the turn that shows them, not by the user's words.
        marked = [region_name(number) for number in range(len(self.dialogue.marks))]
        said = [*self.dialogue.said[-_REMEMBERED:], *marked]
        posing = [skill for skill in self.binding.skills.values() if skill.before and skill.token in tokens]
        return (
            LabelSpelling(
                engine,
                self.workspace.vocabulary,
                said,
                start=len(prompt.ids),
                known={*COCO.names, *AP10K.names} if posing else (),
                after=[token for skill in posing for token in skill.before],
            ),
        )

    def _talked(self, prompt: Prompt, reply: GeneratedReply) -> Outcome:
        binding = self.binding
        if self.later is not None and not reply.calls:  # it was answered in words
            return self.call_function(*self.later, reply.text.strip())
        if not reply.calls and not self.dialogue.reports:
            if binding.choice == "any":
                skill = self._word_skill()
                function = self._function(needed=True)
                if function is not None:
                    return self.call_function(function)
                if skill is not None:
                    return self._asks(skill)
            if binding.answer is not None:
                return self.answer_form(binding.answer)
        calls = self._tool_calls(prompt, reply)
        message = self.message(prompt, reply, text=reply.text.strip(), calls=calls)
        message.response_metadata["routing"] = [
            self._audit(call, skill) for call in reply.calls if (skill := self.binding.skill_of(call.token))
        ]
        if reply.calls:
            message.response_metadata[RECIPE] = self._recipe(prompt, reply).dump()
        return message

    def _word_skill(self) -> Skill | None:
        """A bound skill that answers questions in words."""
        return next((skill for skill in self.binding.skills.values() if skill.speaks and skill.subject), None)

    def _asks(self, skill: Skill) -> AIMessage:
        """A call of a skill without routing token: the request itself is its question."""
        asked = {skill.subject: self.dialogue.request} if skill.subject else {}
        arguments = {**(asked if skill.speaks else self._marked(skill)), **self._place(skill, -1)}
        return self.message(None, None, text="", calls=[new_call(skill.name, arguments)])

    def _marked(self, skill: Skill) -> dict[str, Any]:
        """The places that the user has marked as arguments of a skill that must be called about them."""
        focus = set(self.dialogue.focus)
        marked = [one.region for one in self.dialogue.marks if self.dialogue.handles[one.image] in focus]
        if skill.subject or skill.each != ("regions",) or not marked:
            raise InputError(
                "there is nothing from which this tool could be called",
                value=skill.name,
                limit="requests with region blocks, for tools that take nothing else",
                remedy="Mark regions in the message, or call the tool itself.",
            )
        return {"regions": [_numbers(region) for region in marked]}

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
        made: list[ToolCall] = []
        meant: set[tuple[str, tuple[str, ...]]] = set()
        for number, call in enumerate(reply.calls):
            skill, meaning = self.binding.skill_of(call.token), (call.token, call.labels)
            if skill is None or meaning in meant:  # what is said twice is meant once
                continue
            if self.binding.choice in self.binding.skills and skill.name != self.binding.choice:
                continue  # it only opens the answer of the skill that must be called
            meant.add(meaning)
            arguments = skill.phrased(call, self.dialogue.request)
            if self.binding.linked:
                arguments["superlink"] = self.session.keep(call, key=recipe.key(digests, number))
            made += [new_call(skill.name, {**arguments, **place}) for place in self._places(skill)]
        return made if self.binding.parallel else made[:1]

    def _places(self, skill: Skill) -> list[dict[str, str]]:
        """The images that a skill is to look at, one for each of its calls."""
        looked_at = range(len(self.dialogue.focus)) if skill.images else ()
        return [self._place(skill, number) for number in looked_at] or [{}]

    def _place(self, skill: Skill, number: int) -> dict[str, str]:
        return {"image": self.dialogue.focus[number]} if self.dialogue.focus and skill.images else {}

    def _audit(self, call: RoutedCall, skill: Skill) -> dict[str, Any]:
        """What was routed, how sure the model was, and what else was close."""
        registry = self.workspace.vlm.engine.registry
        shares: dict[str, float] = {}
        for text, probability in call.alternatives:
            token = text if text in registry.token_texts else ""
            shares[token] = min(shares.get(token, 0.0) + probability, 1.0)
        return {
            "token": call.token,
            "tool": skill.name,
            "labels": list(call.labels),
            "probability": min(call.probability, 1.0),
            "logprob": math.log(max(call.probability, 1e-45)),
            "alternatives": [{"token": token, "probability": share} for token, share in shares.items()],
        }

    # -- closing -------------------------------------------------------------------------------------------

    def _close(self) -> Outcome:
        """The turn after the tools: under a grammar of what they reported, unless there is more to see."""
        reports = self._reports()
        more_to_see = any(_shows_more(one) for one in self.dialogue.reports)
        posed = any(self._posed(one) for one in self.dialogue.reports)
        grounded = self.binding.grounded and not more_to_see
        grammar = closing_grammar(reports, short=not posed) if grounded else None
        prompt = self.prompt(self.dialogue.turns)
        if isinstance(grammar, Literal):  # one way to say it: there is nothing to generate
            whole = passed_on(reports)
            told = min([whole, *(whole.partition(stop)[0] for stop in self.options.stop)], key=len)
            return self.message(prompt, None, text=told, calls=[])
        if grammar is None:
            start = len(prompt.ids)
            options = replace(
                self.options, tokens=(), processors=(SaySomething(self.workspace.vocabulary, start=start),)
            )
        else:
            options = self.constrained(prompt, grammar)
            most = min(options.max_new_tokens, self.options.max_new_tokens)
            options = replace(options, max_new_tokens=most, stop=self.options.stop)
        return self.job(prompt, options, lambda reply: self._closed(prompt, reply), streams=True)

    def _reports(self) -> list[Report]:
        """All that tools have reported since the user spoke."""
        calls = self.dialogue.calls
        waiting = [report_of(one.text, calls[one.tool_call_id]) for one in self.dialogue.reports]
        return [*self.dialogue.told, *waiting]

    def _failed(self) -> bool:
        """Whether a tool reports an error."""
        return any(one.status == "error" for one in self.dialogue.reports)

    def _posed(self, report: ToolMessage) -> bool:
        """Whether a tool reports poses, which nobody asks for to learn yes or no."""
        skill = self.binding.skills.get(report.name or "")
        return skill is not None and skill.token == SKILL_TOKENS["pose"]

    def _closed(self, prompt: Prompt, reply: GeneratedReply) -> AIMessage:
        return self.message(prompt, reply, text=reply.text.strip(), calls=[])


def _shows_more(report: ToolMessage) -> bool:
    """Whether a tool shows the model an image that it may have to say something about: no picture that was
    asked for, and no result drawn over an image, of which the tool has told."""
    return any(
        block["type"] == "image" and not (marks_block(block, PRODUCED) or marks_block(block, OVERLAY))
        for block in report.content_blocks
    )


def _numbers(region: Region) -> list[float]:
    """A region as a planner writes it."""
    if isinstance(region, Box):
        return [*region.xyxy]
    if isinstance(region, Point):
        return [region.x, region.y]
    raise InputError(
        "only boxes and points can be passed on to a tool",
        value=region.model_dump()["type"],
        limit="box, point",
        remedy="Call the typed method, which takes scribbles and masks, too.",
    )
