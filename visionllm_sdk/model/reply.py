"""From generated ids to reply text, labels and routed calls.

Labels: a checkpoint trained with label tags writes ``<det>dog</det>[DET]``, and the label is exactly what
stands between the tags. The released format writes ``person[DET], dog[DET]``; there the label is the text
since the last separator, without a known lead-in ("here are the results for"), shortened to the words that
the question asked about when it names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from visionllm_sdk.model.superlink import LinkPlan
from visionllm_sdk.model.tokenizer import TextTokenizer, joint
from visionllm_sdk.tool import SuperLink

_SEPARATORS = re.compile(r"[,;:.!?\n]")
_LEAD_IN = re.compile(
    r"^.*\b(?:results? for|locations? of|objects are|here (?:it )?is|here are|it is|masks? for)\b\s*",
    re.IGNORECASE | re.DOTALL,
)
_CONJUNCTION = re.compile(r"^(?:and|or|with)\b\s*", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:a|an|the)\s+", re.IGNORECASE)
_TAG = re.compile(r"^<(/?)([a-z]+)>$")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """A routing token in a reply.

    Attributes:
        super_link: token, label and states.
        probability: of this token where it was chosen, before any bias.
        alternatives: the most probable other tokens there, text and probability.
        position: length of the reply text before it, in characters.
    """

    super_link: SuperLink
    probability: float
    alternatives: tuple[tuple[str, float], ...]
    position: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutedCall:
    """Neighbouring links of one routing token: one call of its tool with a list of labels.

    Attributes:
        token: the routing token.
        links: in the order of the reply.
        context: links of other tokens that stood before in the reply.
    """

    token: str
    links: tuple[Link, ...]
    context: tuple[SuperLink, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the reply."""
        return tuple(link.super_link.label for link in self.links)

    @property
    def super_links(self) -> tuple[SuperLink, ...]:
        """What the tool receives."""
        return tuple(link.super_link for link in self.links)

    @property
    def probability(self) -> float:
        """Of the least certain link."""
        return min(link.probability for link in self.links)

    @property
    def alternatives(self) -> tuple[tuple[str, float], ...]:
        """Runners-up of the least certain link."""
        return min(self.links, key=lambda link: link.probability).alternatives


def group_calls(links: Sequence[Link], *, single: Sequence[str] = ()) -> list[RoutedCall]:
    """Group neighbouring links of the same routing token.

    Args:
        links: in the order of the reply.
        single: routing tokens whose links are never grouped: each is a call of its own.
    """
    groups: list[list[Link]] = []
    for link in links:
        token = link.super_link.token
        if groups and groups[-1][-1].super_link.token == token and token not in single:
            groups[-1].append(link)
        else:
            groups.append([link])
    calls: list[RoutedCall] = []
    before: tuple[SuperLink, ...] = ()
    for group in groups:
        token = group[0].super_link.token
        context = tuple(link for link in before if link.token != token)
        calls.append(RoutedCall(token=token, links=tuple(group), context=context))
        before += calls[-1].super_links
    return calls


def label_of(span: str, question: str = "") -> str:
    """The label in the text before a routing token, for formats without label tags.

    Args:
        span: text since the previous routing token, or since the start of the reply.
        question: what the user asked; the label is shortened to its longest tail that stands there.
    """
    text = _SEPARATORS.split(span)[-1].strip()
    text = _CONJUNCTION.sub("", _LEAD_IN.sub("", text)).strip()
    words = text.split()
    asked = f" {_words(question)} "
    for start in range(len(words)):
        tail = " ".join(words[start:])
        if f" {_words(tail)} " in asked:
            return _ARTICLE.sub("", tail)
    return _ARTICLE.sub("", text)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


class ReplyBuilder:
    """Grows the text and the links of one reply, id by id.

    Args:
        tokenizer: of the checkpoint.
        plan: routing tokens of the checkpoint.
        question: the user's text of this turn, for labels without tags.
    """

    def __init__(self, tokenizer: TextTokenizer, plan: LinkPlan, *, question: str = "") -> None:
        self._tokenizer = tokenizer
        self._plan = plan
        self._question = question
        self._closed = ""  # text up to the last control token
        self._open: list[int] = []  # ordinary ids since then
        self._after_control = False
        self._span_start = 0  # where the text since the last link begins
        self._tag_start: int | None = None
        self._tagged: str | None = None
        self.ids: list[int] = []
        self.links: list[Link] = []

    @property
    def text(self) -> str:
        """The reply as people read it: no control tokens, an incomplete character at the end held back."""
        return self._grown().rstrip("\ufffd")

    @property
    def settled_text(self) -> str:
        """The reply without the label whose routing token is still to come."""
        if self._tag_start is not None:
            return self._closed[: self._tag_start].rstrip()
        if self._tagged is not None:
            return self._closed.rstrip().removesuffix(self._tagged).rstrip()
        return self.text

    @property
    def raw_text(self) -> str:
        """The reply with its control tokens spelled out."""
        return self._tokenizer.decode(self.ids, controls=True)

    def _grown(self) -> str:
        segment = self._tokenizer.decode_segment(self._open)
        return self._closed + (joint(self._closed, segment) if self._after_control else "") + segment

    def push(self, index: int) -> None:
        """Append an id. A routing token's link follows by :meth:`link` once its states are known."""
        self.ids.append(index)
        control = self._tokenizer.control_text(index)
        if control is None:
            self._open.append(index)
            self._tagged = None
            return
        self._closed = self._grown()
        self._open = []
        self._after_control = True
        if match := _TAG.match(control):
            if match[1]:
                start = self._span_start if self._tag_start is None else self._tag_start
                self._tagged = self._closed[start:].strip()
                self._tag_start = None
            else:
                self._tag_start = len(self._closed)

    def link(
        self, token: str, states: Tensor, probability: float, alternatives: tuple[tuple[str, float], ...]
    ) -> Link:
        """Attach states, (E, C), to the routing token that was pushed last."""
        if self._tag_start is not None:  # the tag was never closed: everything since it opened is the label
            label = self._closed[self._tag_start :].strip()
        elif self._tagged is not None:
            label = self._tagged
        else:
            label = label_of(self._closed[self._span_start :], self._question)
        link = Link(
            super_link=SuperLink(token=token, label=label, states=states),
            probability=probability,
            alternatives=alternatives,
            position=len(self._closed),
        )
        self.links.append(link)
        self._span_start = len(self._closed)
        self._tag_start = self._tagged = None
        return link
