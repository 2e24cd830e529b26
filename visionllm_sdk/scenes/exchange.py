"""What is said to the model about a scene, and the exact reply that it should give.

A reply is a tuple of plain strings and `Link`s. A link is where the model must emit a routing token; it
says which label the super-link stands for and, for grounding, which object is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.labels import Label
from visionllm_sdk.scenes.phrases import Phrases

RoutingToken = Literal["[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]"]


@dataclass(frozen=True, slots=True)
class Link:
    """One routing token of a reply.

    Attributes:
        token: the routing token.
        text: the label or expression as the reply spells it.
        label: its meaning, None when the words are foreign to scenes (nothing is to be found then).
        referent: index of the one object meant by an expression; None for a class label.
    """

    token: RoutingToken
    text: str
    label: Label | None
    referent: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question (`role` "user") or tool result (`role` "tool") and the reply to it.

    Attributes:
        kind: of the question.
        question: what is said to the model.
        answer: what it replies at once.
        role: who speaks to the model.
        final: what it says once the tools of a routed reply have reported; None: what they found.
    """

    kind: str
    question: str
    answer: tuple[str | Link, ...]
    role: Literal["user", "tool"] = "user"
    final: str | None = None

    @property
    def last_words(self) -> str:
        """The text that answers the question in the end."""
        return self.text if self.final is None else self.final

    @property
    def links(self) -> tuple[Link, ...]:
        """The routing tokens of the reply, in order."""
        return tuple(part for part in self.answer if isinstance(part, Link))

    @property
    def text(self) -> str:
        """The reply with links shown by their label alone."""
        return "".join(part.text if isinstance(part, Link) else part for part in self.answer)


Maker = Callable[[SceneFacts, Random, Phrases], Exchange | None]


def pointer(text: str, index: int, scene: SceneFacts) -> Link:
    """The link of an expression that means one object of the scene."""
    thing = scene.objects[index]
    return Link("[GRD]", text, Label(thing.kind, thing.colour, thing.size if thing.colour else None), index)


def linked_reply(links: Sequence[Link]) -> tuple[str | Link, ...]:
    """The reply that names every link once: `red circle[DET], star[DET].`"""
    parts: list[str | Link] = []
    for index, link in enumerate(links):
        parts += [", ", link] if index else [link]
    return (*parts, ".")


def enumerate_words(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
