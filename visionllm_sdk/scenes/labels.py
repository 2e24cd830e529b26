"""Labels: `[size] [colour] shape`, `[colour] object`, `person`, `dog` - read, written and matched."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from visionllm_sdk.scenes.facts import COLOURS, FIGURES, HELD_BACK_SHAPES, SHAPES, SIZES, ObjectFacts

ANY_KIND: Final = "object"
_IRREGULAR: Final = {"person": "people", "box": "boxes", "cross": "crosses", "bus": "buses", "sheep": "sheep"}
_KINDS: Final = (*SHAPES, *FIGURES, *HELD_BACK_SHAPES, ANY_KIND)
_SYNONYMS: Final = {
    "colour": {"violet": "purple", "crimson": "red", "scarlet": "red"},
    "size": {"little": "small", "tiny": "small", "big": "large", "huge": "large", "medium-sized": "medium"},
    "kind": {"thing": ANY_KIND, "shape": ANY_KIND, "man": "person", "woman": "person", "human": "person",
             "disc": "circle", "rhombus": "diamond", "puppy": "dog"},
}  # fmt: skip


def plural(noun: str) -> str:
    """The plural of an English noun phrase, by its last word: `red cross` -> `red crosses`."""
    head, _, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in set("aeiou"):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


_SINGULARS: Final = {plural(kind): kind for kind in _KINDS} | {"persons": "person"}


def article(noun: str) -> str:
    """`noun` with its indefinite article: `an orange ring`."""
    return f"{'an' if noun[:1] in set('aeiou') else 'a'} {noun}"


@dataclass(frozen=True, slots=True)
class Label:
    """A class of things; None means "whatever".

    Attributes:
        kind: a shape, a figure, or `object` for anything.
        colour: a colour word or None.
        size: a size word or None.
    """

    kind: str = ANY_KIND
    colour: str | None = None
    size: str | None = None

    @property
    def text(self) -> str:
        """The label in canonical singular form."""
        return " ".join(part for part in (self.size, self.colour, self.kind) if part)

    def matches(self, thing: ObjectFacts) -> bool:
        """Whether `thing` belongs to this class."""
        return (
            self.kind in (ANY_KIND, thing.kind)
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
        )


_SPOKEN: Final = {
    word: tuple(other for other, said in table.items() if said == word)
    for table in _SYNONYMS.values()
    for word in table.values()
}


def in_other_words(text: str, rng: Random) -> str:
    """A label with its words replaced by synonyms where there are some: `small disc` for `small circle`."""
    return " ".join(rng.choice(_SPOKEN[word]) if word in _SPOKEN else word for word in text.split())


def parse_label(text: str) -> Label | None:
    """Read a label of the scenes' vocabulary; None for anything else.

    Args:
        text: any case, singular or plural, with or without an article.
    """
    words = text.strip().lower().rstrip(".").split()
    if words and words[0] in {"a", "an", "the", "all", "every", "each"}:
        words = words[1:]
    size = colour = None
    if words and (word := _SYNONYMS["size"].get(words[0], words[0])) in SIZES:
        size, words = word, words[1:]
    if words and (word := _SYNONYMS["colour"].get(words[0], words[0])) in COLOURS:
        colour, words = word, words[1:]
    if len(words) != 1:
        return None
    kind = _SINGULARS.get(words[0], words[0])
    kind = _SYNONYMS["kind"].get(kind, kind)
    return Label(kind, colour, size) if kind in _KINDS else None


def matching(label: Label, objects: tuple[ObjectFacts, ...]) -> list[int]:
    """Indices of the objects that belong to `label`."""
    return [index for index, thing in enumerate(objects) if label.matches(thing)]
