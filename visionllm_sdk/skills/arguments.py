"""What callers pass, checked and brought to one form before any model runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar

from visionllm_sdk._numbers import as_real
from visionllm_sdk.adapters import AdapterChoice
from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.handles import ImageHandles
from visionllm_sdk.images import ImageLimits, ImageSource, LoadedImage, UrlPolicy, load_image
from visionllm_sdk.results import Picture

Item = TypeVar("Item")
Images: TypeAlias = ImageSource | Sequence[ImageSource]
"""One image, or a list of them."""
Labels: TypeAlias = str | Sequence[str]
"""One label, or several."""

MAX_LABELS = 10_000
_HANDLE = re.compile(r"img_\d+_[0-9a-f]{16}")
_MAX_LABEL = 500
_SHOWN = 60
_READERS = 4
"""Most files that are decoded at once."""


class ScoreSettings(TypedDict, total=False):
    """What a caller may say about scored results.

    Attributes:
        threshold: lowest score, 0 to 1; None takes the checkpoint's own.
        adapter: name of a loaded adapter, or one for each image; None is the model as it is.
    """

    threshold: float | None
    adapter: AdapterChoice


class FindSettings(ScoreSettings, total=False):
    """As :class:`ScoreSettings`, for detections.

    Attributes:
        masks: whether detections carry masks.
    """

    masks: bool


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """Which images are accepted.

    Attributes:
        limits: what is refused for its size.
        allow_urls: whether http(s) URLs are fetched, and from where.
        handles: pictures that may be named by their handles.
    """

    limits: ImageLimits = field(default_factory=ImageLimits)
    allow_urls: bool | UrlPolicy = False
    handles: ImageHandles | None = field(default=None, compare=False, repr=False)

    def load(self, source: ImageSource | Picture) -> LoadedImage:
        """One image; a produced picture, or its handle, serves as one. The pixels count before the handle.

        Raises:
            ImageError: it cannot be used.
            HandleError: a handle that leads nowhere.
            GenerationError: a picture that a safety checker refused.
        """
        if isinstance(source, Picture):
            handle = None if source.refused is not None or source.has_pixels else source.handle
            if handle is not None and self.handles is not None and handle in self.handles:
                return self.handles.get(handle)
            source = source.image
        if self.handles is not None and isinstance(source, str) and _HANDLE.fullmatch(source):
            return self.handles.get(source)
        return load_image(source, allow_urls=self.allow_urls, limits=self.limits)


@dataclass(frozen=True)
class Many(Generic[Item]):
    """Items to be worked on together, and whether the caller passed just one of them."""

    items: list[Item]
    single: bool

    def unwrap(self, results: Sequence[Any]) -> Any:
        """The results in the form in which the items came: one, or a list."""
        return results[0] if self.single else list(results)


def is_many(value: object) -> bool:
    """Whether a caller passed several things: a list or a tuple."""
    return isinstance(value, list | tuple)


def as_list(value: Any) -> Any:
    """One thing as a list of one: in a batch of gathered calls it stays one call's own."""
    return value if is_many(value) else [value]


def load_images(source: Images, rules: ImageRules) -> Many[LoadedImage]:
    """Load one image or several. Files are decoded side by side; an object that occurs again is loaded once.

    Raises:
        ImageError: an image that cannot be used; in a list the message says which one.
    """
    if not is_many(source):
        return Many([rules.load(source)], single=True)  # type: ignore[arg-type]
    sources: list[Any] = list(source)  # type: ignore[arg-type]
    first = {id(value): position for position, value in reversed(list(enumerate(sources)))}
    places = sorted(first.values())

    def load(position: int) -> LoadedImage:
        return _at(position, sources[position], rules.load, "image")

    if len(places) > 1 and any(isinstance(sources[place], str | os.PathLike | bytes) for place in places):
        # Decoders need none of torch's threads, and its lanes are not for callers who wait for their turn.
        with ThreadPoolExecutor(min(len(places), _READERS), "image") as pool:
            loaded = list(pool.map(load, places))
    else:  # what is in memory is only copied, by one thread at a time
        loaded = [load(place) for place in places]
    known = dict(zip(places, loaded, strict=True))
    return Many([known[first[id(value)]] for value in sources], single=False)


def each(values: Sequence[Any], check: Callable[[Any], Item], word: str) -> list[Item]:
    """Check every value; an error names the position of the bad one."""
    return [_at(position, value, check, word) for position, value in enumerate(values)]


def _at(position: int, value: Any, check: Callable[[Any], Item], word: str) -> Item:
    try:
        return check(value)
    except InputError as error:
        raise error.at(f"{word} {position}") from error


def per_image(values: Any, count: int, *, single: bool, nested: bool, word: str) -> list[Any]:
    """One value per image: the same for all, or one each.

    Args:
        values: one value, or a list with one value per image.
        count: number of images.
        single: the caller passed one image, so ``values`` is one value.
        nested: a value may itself be a list of strings, so only a list that holds lists is one per image.
        word: what the values are, for messages.

    Raises:
        InputError: a list of another length than that of the images.
    """
    several = is_many(values) and (not nested or any(is_many(value) for value in values))
    if single or not several:
        return [values] * count
    if len(values) != count:
        raise InputError(
            f"a list of {word} needs one entry for every image",
            value=len(values),
            limit=count,
            remedy=f"Pass one entry for all images, or exactly {count}.",
        )
    return list(values)


def check_each(values: Sequence[Any], check: Callable[[Any], Item]) -> list[Item]:
    """Check what every image is asked; only where the values differ does an error name the position."""
    if values and all(value is values[0] for value in values):
        return [check(values[0])] * len(values)
    return each(values, check, "entry")


def each_label_list(labels: Any, images: Many[Any]) -> list[tuple[str, ...]]:
    """The checked labels of every image: the same for all, or a list of lists."""
    given = per_image(labels, len(images.items), single=images.single, nested=True, word="label lists")
    return check_each(given, check_labels)


def check_labels(labels: Labels) -> tuple[str, ...]:
    """Labels in their order, each once.

    Blanks are squeezed. A label that differs from an earlier one only in case or blanks is the same question
    and is asked once, as first spelt: repeating a label never changes what there is to find.

    Raises:
        InputError: no label, an empty one, or something that is not text.
        LimitError: too many, or too long.
    """
    given = [labels] if isinstance(labels, str) else labels
    if not isinstance(given, Sequence):
        raise InputError("labels are text", value=labels, limit="a string, or a list of strings")
    if not given:
        raise InputError(
            "there is no label to look for", value=[], remedy="Name at least one, such as 'star'."
        )
    if len(given) > MAX_LABELS:
        raise LimitError(
            "too many labels", value=len(given), limit=MAX_LABELS, remedy="Ask in several calls."
        )
    squeezed = each(given, lambda label: check_phrase(label, "a label"), "label")
    unique: dict[str, str] = {}
    for label in squeezed:
        unique.setdefault(label.casefold(), label)
    return tuple(unique.values())


def check_phrase(text: object, word: str) -> str:
    """One short piece of text on one line, with blanks squeezed.

    Raises:
        InputError: not text, empty, or with half a surrogate pair.
        LimitError: longer than a label or an expression can be.
    """
    squeezed = " ".join(_text(text, word).split())
    if len(squeezed) > _MAX_LABEL:
        raise LimitError(
            f"{word} is too long",
            value=f"{len(squeezed)} characters: {squeezed[:_SHOWN]!r}...",
            limit=f"{_MAX_LABEL} characters",
            remedy="Use a name or a short phrase.",
        )
    return squeezed


def each_phrase(
    phrase: Any, images: Many[Any], word: str, *, check: Callable[[object, str], str] = check_phrase
) -> list[str]:
    """The checked expression, label or question of every image; `word` says with its article which it is."""
    plural = f"{word.split()[-1]}s"
    if images.single and is_many(phrase):
        raise InputError(
            f"a list of {plural} goes with a list of images, and this is one image",
            value=phrase,
            limit="a string",
            remedy=f"Pass the image as often, [image] * {len(phrase) or 1}: it is still read once.",
        )
    given = per_image(phrase, len(images.items), single=images.single, nested=False, word=plural)
    return check_each(given, lambda value: check(value, word))


def check_message(text: object, word: str = "the text") -> str:
    """A message to the model, as it was written but for blanks at its ends.

    Raises:
        InputError: not text, empty, or with half a surrogate pair.
    """
    return _text(text, word).strip()


def _text(text: object, word: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{word} is not text", value=text, limit="a string")
    if not text.strip():
        raise InputError(f"{word} is empty", value=text, remedy="Write at least one word.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{word} does not encode to UTF-8: character {error.start} is half a surrogate pair",
            value=text.encode(errors="backslashreplace").decode(),
            limit="characters of Unicode",
            remedy="Decode it again from its bytes, or leave that character out.",
        ) from error
    return text


def check_threshold(threshold: float | None) -> float | None:
    """A score limit; None leaves it to the checkpoint.

    Raises:
        InputError: not a number in 0..1.
    """
    if threshold is None:
        return None
    found = as_real(threshold)
    if found is None or not 0 <= found <= 1:
        raise InputError(
            "the threshold is not a probability",
            value=threshold,
            limit="0 to 1",
            remedy="Pass a number, or None for the checkpoint's own.",
        )
    return found
