"""What a field of a schema wants to know of an image, put as a question.

People name fields `star_count` or describe them as "number of stars"; the model was taught questions. Only
what surely speaks of an image becomes one: everything else is taken from the request, as before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from visionllm_sdk.agent.wordplay import words_of
from visionllm_sdk.scenes.labels import article, plural
from visionllm_sdk.skills.talk import CAPTION_REQUEST

__all__ = ["image_question"]

_IMAGE: Final = r"(?:the |this |an? )?(?:image|picture|scene|photo|drawing)"
_IN: Final = rf"(?: (?:in|on) {_IMAGE})"
_STATE: Final = r"(?:visible|present|shown|seen|found)"
_SEEN: Final = re.compile(rf"(?: that)?(?: (?:is|are|there|can be))*(?: {_STATE}| there|{_IN})*$")
_WHETHER: Final = r"(?:whether|if|true if|true when) "
_ALL: Final = r"(?:all |any |the |different )*"
_COUNTS: Final = (
    rf"(?:the )?(?:total |exact )*(?:number|count|amount|quantity) of {_ALL}(.+)",
    rf"how many {_ALL}(.+)",
    rf"(?:total |the )*(?:num|number|count|n|total) (?:of )?{_ALL}(.+)",
    r"(?:the )?(.+?) count",
)
_THERE: Final = (
    rf"(?:{_WHETHER})?(?:there (?:is|are)|(?:it|{_IMAGE}) (?:has|shows|contains)) (.+)",
    r"(?:is there|are there|has|have|contains?|shows?|includes?) (.+)",
    rf"(?:{_WHETHER}|is |are )?(.+?) (?:is |are )?{_STATE}{_IN}?",
    rf"{_WHETHER}(.+?) (?:is|are)(?: there|{_IN})",
)
_COLOURS: Final = (r"(?:the )?(?:main |dominant )?colou?r of (.+)", r"(?:the )?(.+?) colou?r")
_SHAPES: Final = (r"(?:the )?shape of (.+)",)
_PLACES: Final = (
    r"(?:the )?(?:position|location|place|whereabouts) of (.+)",
    r"(?:the )?(.+?) (?:position|location|place)",
    rf"where (.+?) (?:is|are|stands?|lies?){_IN}?",
)
_CAPTION: Final = re.compile(
    rf"(?:an? |the |short |brief |one sentence )*(?:caption|description|summary)(?: of {_IMAGE})?"
)
_RELATION: Final = re.compile(rf"{_WHETHER}(the .+?) (is|are) (.+)")


def image_question(name: str, schema: Mapping[str, Any]) -> str | None:
    """The question that a field asks about an image; None if it asks none.

    A description that ends with a question mark is one; others are read, and so is the name where there is no
    description.

    Args:
        name: of the field, in any case: `starCount`, `star_count`.
        schema: of the field, which is a leaf; see `leaves_of`.
    """
    described = str(schema.get("description", "")).strip()
    if described.endswith("?"):
        return described
    text = described.lower().rstrip(". ") or " ".join(words_of(name))
    if schema.get("type") == "boolean":
        return _truth(text)
    if schema.get("type") in ("integer", "number"):
        return _number(text, plainly=not described and schema["type"] == "integer")
    return _words(text)


def _number(text: str, *, plainly: bool) -> str | None:
    """How many: also `stars` alone, if that is the field's name."""
    counted = _first(_COUNTS, text)
    if counted is None and plainly and _is_plural(text):
        counted = text
    if counted is None:
        return None
    counted = _bare(counted)
    return f"How many {counted if _is_plural(counted) else plural(counted)} are there?"


def _truth(text: str) -> str | None:
    if (thing := _first(_THERE, text)) is not None:
        thing = _bare(thing)
        return f"Are there any {thing}?" if _is_plural(thing) else f"Is there {article(thing)}?"
    if match := _RELATION.fullmatch(text):
        one, verb, rest = match.groups()
        return f"{verb.capitalize()} {one} {rest}?"
    return None


def _words(text: str) -> str | None:
    if _CAPTION.fullmatch(text):
        return CAPTION_REQUEST
    asked: Sequence[tuple[Sequence[str], Callable[[str], str]]] = (
        (_COLOURS, lambda thing: f"What color is {thing}?"),
        (_SHAPES, lambda thing: f"What shape is {thing}?"),
        (_PLACES, lambda thing: f"Where is {thing}?"),
    )
    for patterns, question in asked:
        if (thing := _first(patterns, text)) is not None:
            return question(f"the {_bare(thing)}")
    return None


def _first(patterns: Sequence[str], text: str) -> str | None:
    """What the first pattern that fits takes for the thing in question."""
    for pattern in patterns:
        if match := re.fullmatch(pattern, text):
            return _SEEN.sub("", match[1]).strip() or None
    return None


def _bare(thing: str) -> str:
    return re.sub(r"^(?:an?|the|any|some) ", "", thing)


def _is_plural(thing: str) -> bool:
    return thing.endswith("people") or (thing.endswith("s") and not thing.endswith(("ss", "us", "is")))
