"""Tools of other people: which one a request needs, and its arguments under its schema.

A checkpoint that was never taught a tool can still call it: the choice goes by the words that the request
shares with the tool's name and description, and the arguments are written under a grammar of the schema in
which texts and numbers are taken from the request. An argument that asks about the image is answered by the
model from the image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from visionllm_sdk.agent.fields import image_question
from visionllm_sdk.agent.grammar import Grammar, Literal, choice
from visionllm_sdk.agent.limits import Leaf, fits, leaves_of
from visionllm_sdk.agent.listing import Listing, image_list
from visionllm_sdk.agent.schema import schema_grammar
from visionllm_sdk.agent.sharing import Findings, Shares, said_in, share
from visionllm_sdk.agent.wordplay import name_words, numbers_in, phrases_in, relevance
from visionllm_sdk.skills.talk import CAPTION_REQUEST

__all__ = ["Function", "Question", "arguments_grammar", "choose_function", "questions_of", "speaks_of"]

_SPOKEN: Final = (
    4  # relevance from which a request speaks of a function, where the model's own skills compete
)
_HINTED: Final = 2  # and where nothing competes
_MAX_INSTRUCTION: Final = 1200


@dataclass(frozen=True, kw_only=True)
class Function:
    """A tool of somebody else.

    Attributes:
        name: of the tool.
        description: what it does.
        parameters: JSON schema of its arguments.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def instruction(self) -> str:
        """How the model is told to call it."""
        fields = self.parameters.get("properties", {})
        told = [
            f"{name} ({part.get('description') or part.get('type', 'value')})"
            for name, part in (
                (name, part if isinstance(part, Mapping) else {}) for name, part in fields.items()
            )
        ]
        text = f"Call {self.name}: {self.description}\nArguments as JSON: {', '.join(told) or 'none'}"
        return text[:_MAX_INSTRUCTION]


@dataclass(frozen=True, kw_only=True)
class Question:
    """An argument that the model answers from the image.

    Attributes:
        path: where the answer belongs.
        text: the question.
        schema: of the answer.
        listing: what a list wants of the answer, which describes the image.
    """

    path: tuple[str, ...]
    text: str
    schema: Mapping[str, Any]
    listing: Listing | None = None

    def grammar(self) -> Grammar | None:
        """What the answer may be, in words; None if anything."""
        options = self.options()
        if options is not None:
            return choice([Literal(text) for text in options])
        if self.schema.get("type") in ("integer", "number"):
            return schema_grammar(self.schema)
        return None

    def options(self) -> dict[str, Any] | None:
        """Spoken answers and what they stand for, where there is a choice of them."""
        if self.schema.get("type") == "boolean":
            return {"yes": True, "no": False}
        values = self.schema.get("enum")
        return None if values is None else {str(value): value for value in values}

    def value(self, answer: str) -> Any:
        """The answer as a value of the schema."""
        if self.listing is not None:
            return self.listing.values(answer)
        options = self.options()
        if options is not None:
            return options[answer]
        return json.loads(answer) if self.schema.get("type") in ("integer", "number") else answer


def choose_function(request: str, functions: Sequence[Function], *, rivals: bool) -> Function | None:
    """The tool that a request speaks of most; None if it speaks of none.

    Args:
        request: what the user said.
        functions: the tools.
        rivals: the model's own skills could answer too.
    """
    if not functions:
        return None
    scores = [_relevance(request, one) for one in functions]
    best = max(range(len(functions)), key=lambda number: scores[number])  # the first of equals
    enough = scores[best] >= (_SPOKEN if rivals else _HINTED)
    return functions[best] if enough else None


def speaks_of(text: str, function: Function) -> bool:
    """Whether a part of a request speaks of a tool more than of anything else."""
    return _relevance(text, function) >= _SPOKEN


def _relevance(text: str, function: Function) -> int:
    told = {"name": function.name, "description": function.description, "parameters": function.parameters}
    return relevance(text, told)


def questions_of(parameters: Mapping[str, Any], request: str, *, all_fields: bool) -> list[Question]:
    """What the arguments want to know of an image: descriptions that are questions, and what speaks of things
    to be seen, see `image_question`.

    Args:
        parameters: JSON schema of the arguments.
        request: what the user said. Where it has a number for every argument that is one, it is believed.
        all_fields: also texts, lists and yes-or-nos that speak of things to be seen. Where the model chooses
            a tool by itself, they are rather in the request.
    """
    leaves = leaves_of(parameters)
    wanted = sum(map(_is_number, leaves))
    numbers = numbers_in(request, wanted=wanted)
    told = len(numbers) == wanted
    questions = []
    for leaf in leaves:
        if leaf.schema.get("type") == "array":
            listing = image_list(_name(leaf), leaf.schema) if all_fields else None
            if listing is not None:
                questions.append(
                    Question(path=leaf.path, text=CAPTION_REQUEST, schema=leaf.schema, listing=listing)
                )
            continue
        text = image_question(_name(leaf), leaf.schema)
        written_out = str(leaf.schema.get("description", "")).strip() == text
        seen = not numbers or (all_fields and not told) if _is_number(leaf) else all_fields
        if text is not None and (written_out or seen):
            questions.append(Question(path=leaf.path, text=text, schema=leaf.schema))
    return questions


def arguments_grammar(
    function: Function,
    request: str,
    *,
    answers: Mapping[tuple[str, ...], Any],
    copy: bool,
    findings: Findings | None = None,
) -> Grammar:
    """The JSON texts that may stand as a tool's arguments.

    Args:
        function: the tool.
        request: what the user said.
        answers: values that are known already, by their path.
        copy: take texts and numbers from the request, where it offers any that fit.
        findings: what was found before, where the request leaves something to it.

    Raises:
        ConfigError: a schema that cannot be written by.
    """
    leaves = leaves_of(function.parameters)
    known = {leaf.path for leaf in leaves if leaf.path in answers and fits(answers[leaf.path], leaf.schema)}
    unknown = [leaf for leaf in leaves if leaf.path not in answers]
    avoid = name_words(function.name)
    shares = share(unknown, request, avoid=avoid, findings=findings) if copy else Shares()
    phrases, numbers = phrases_in(shares.rest, avoid=avoid), numbers_in(shares.rest)

    def offer(leaf: Leaf) -> Sequence[Any]:
        if leaf.path in answers:
            return [answers[leaf.path]]
        if leaf.path in shares.offers:
            return shares.offers[leaf.path]
        if leaf.schema.get("type") == "array":
            return []
        if "enum" in leaf.schema:
            return [value for value in leaf.schema["enum"] if said_in(value, shares.rest)]
        return numbers if _is_number(leaf) else phrases

    return schema_grammar(
        {"type": "object", **function.parameters},
        offer=offer,
        known=known | shares.known,
        absent=shares.absent - set(answers),
    )


def _name(leaf: Leaf) -> str:
    """The name of a field; an answer that is one bare value has none."""
    return leaf.path[-1] if leaf.path else ""


def _is_number(leaf: Leaf) -> bool:
    return leaf.schema.get("type") in ("integer", "number")
