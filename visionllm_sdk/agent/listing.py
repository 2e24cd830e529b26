"""Lists of what is to be seen: whether a field wants one, and what a description of the image puts into it.

The model was taught to describe an image as "A large red circle, a small blue star and a dog." People ask for
the same as `objects: list[str]`, as `colors: list[str]`, or as a list of objects with fields of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from PIL import ImageColor

from visionllm_sdk.agent.limits import fits
from visionllm_sdk.agent.wordplay import words_of

__all__ = ["Listing", "Seen", "image_list", "things_in"]

Aspect = Literal["text", "kind", "colour", "size"]

_SHOWN: Final = r"(?:visible|detected|present|shown|different|distinct|main)"
_EACH: Final = rf"(?:all |any |every |the |list of |names? of |{_SHOWN} )*"
_NOUN: Final = r"(?:objects?|things?|items?|elements?|figures?|entities|contents)"
_IMAGE: Final = r"(?: (?:in|on|of) (?:the |this |an? )?(?:image|picture|scene|photo|drawing))"
_SEEN: Final = rf"(?:(?: that)?(?: are| can be)? (?:visible|present|shown|seen|found|detected)|{_IMAGE})*"
_DETAIL: Final = r"(?:,? (?:each )?with .+)?"
_LISTED: Final[Mapping[Aspect, re.Pattern[str]]] = {
    "colour": re.compile(rf"{_EACH}colou?rs?(?: of {_EACH}(?:{_NOUN}|shapes?))?{_SEEN}"),
    "size": re.compile(rf"{_EACH}sizes?(?: of {_EACH}(?:{_NOUN}|shapes?))?{_SEEN}"),
    "kind": re.compile(
        rf"{_EACH}(?:shapes?|(?:kinds|types|classes|categories) of (?:{_NOUN}|shapes?)){_SEEN}{_DETAIL}"
    ),
    "text": re.compile(rf"{_EACH}{_NOUN}{_SEEN}{_DETAIL}"),
}
_FIELDS: Final[Mapping[Aspect, frozenset[str]]] = {
    "colour": frozenset(("color", "colour")),
    "size": frozenset(("size",)),
    "kind": frozenset(("shape", "kind", "type", "class", "category")),
    "text": frozenset(("name", "label", "object", "thing", "item", "description", "text", "phrase")),
}
_SIZES: Final = frozenset(("small", "medium", "large", "tiny", "little", "big", "huge"))
_COLOURS: Final = frozenset(ImageColor.colormap)
_BETWEEN: Final = re.compile(r"[,;.]|\band\b")
_THING: Final = re.compile(r"^(?:.*\b(?:there (?:is|are)|shows?|contains?) )?(?:an?|one|the) (.+)$")
_REST: Final = re.compile(
    r" (?:in|on|at|of|with|near|next|beside|above|below|under|over|that|which|who)\b.*$"
)
_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One thing of a description.

    Attributes:
        text: what was said of it, without article: `large red circle`.
        kind: its noun.
        colour: its colour, if it was said.
        size: its size, likewise.
    """

    text: str
    kind: str
    colour: str | None
    size: str | None


def things_in(description: str) -> list[Seen]:
    """The things that a description lists, in its order.

    Args:
        description: an enumeration, such as "A red circle, a small star and a dog."; parts of a sentence that
            name no single thing are passed over.
    """
    found = []
    for part in _BETWEEN.split(description.lower()):
        if match := _THING.match(part.strip()):
            *before, kind = _REST.sub("", match[1]).split() or [""]
            colour, size = (
                next((word for word in before if word in known), None) for known in (_COLOURS, _SIZES)
            )
            found.append(Seen(text=" ".join([*before, kind]), kind=kind, colour=colour, size=size))
    return [thing for thing in found if thing.kind]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a list wants to know of every thing in an image.

    Attributes:
        schema: of the list, with that of its items resolved.
        aspect: what a text of it tells.
        fields: what the fields of an object of it tell, by their names; empty where items are texts.
    """

    schema: Mapping[str, Any]
    aspect: Aspect
    fields: Mapping[str, Aspect]

    def values(self, description: str) -> list[Any]:
        """The list that a description of the image gives.

        Colours and sizes stand once each, things as often as they were named. A required text that was not
        said, such as the colour of a person, is `unknown`. What the schema's texts cannot say is left out, as
        is what exceeds `maxItems`.
        """
        items = [value for thing in things_in(description) if (value := self._item(thing)) is not None]
        if self.schema.get("uniqueItems") or (not self.fields and self.aspect in ("colour", "size")):
            items = [item for number, item in enumerate(items) if item not in items[:number]]
        return items[: self.schema.get("maxItems")]

    def _item(self, thing: Seen) -> Any:
        form = self.schema["items"]
        if not self.fields:
            return _value(thing, self.aspect, form, apart=())
        told, required = tuple(self.fields.values()), form.get("required", ())
        item = {name: part["const"] for name, part in form["properties"].items() if "const" in part}
        for name, aspect in self.fields.items():
            value = _value(thing, aspect, form["properties"][name], apart=told)
            if value is None and name in required and fits(_UNKNOWN, form["properties"][name]):
                value = _UNKNOWN
            if value is not None:
                item[name] = value
        return item if set(required) <= set(item) else None


def image_list(name: str, schema: Mapping[str, Any]) -> Listing | None:
    """What a list that speaks of things in an image wants; None if it does not.

    Args:
        name: of the field, in any case.
        schema: of the field, an array; see `leaves_of`.
    """
    text = str(schema.get("description", "")).lower().rstrip(". ") or " ".join(words_of(name))
    aspect = next((aspect for aspect, pattern in _LISTED.items() if pattern.fullmatch(text)), None)
    items = schema.get("items", {})
    if aspect is None or "prefixItems" in schema:
        return None
    if items.get("type") == "string":
        return Listing(schema=schema, aspect=aspect, fields={})
    parts = items.get("properties", {})
    fields = {name: told for name, part in parts.items() if (told := _told(name, part)) is not None}
    fixed = {name for name, part in parts.items() if "const" in part}
    known = fields and set(items.get("required", ())) <= fixed | set(fields)
    return Listing(schema=schema, aspect=aspect, fields=fields) if known else None


def _told(name: str, schema: Mapping[str, Any]) -> Aspect | None:
    """What a field of an object tells: its name says so."""
    words = words_of(name)
    if schema.get("type") != "string" or not words or "const" in schema:
        return None
    return next((aspect for aspect, names in _FIELDS.items() if words[-1] in names), None)


def _value(
    thing: Seen, aspect: Aspect, schema: Mapping[str, Any], *, apart: tuple[Aspect, ...]
) -> str | None:
    """What a text says of a thing, if the schema lets it; what has a field of its own is not said twice."""
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices is not None:
        said = (thing.text, *thing.text.split())
        return next((one for one in choices if str(one).casefold() in said), None)
    value = getattr(thing, aspect)
    if aspect == "text":
        elsewhere = {getattr(thing, other) for other in apart if other in ("colour", "size")}
        value = " ".join(word for word in thing.text.split() if word not in elsewhere)
    return value if value is not None and fits(value, schema) else None
