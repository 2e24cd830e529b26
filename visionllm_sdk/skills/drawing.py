"""Pictures: drawn from a caption, or changed by an instruction, by forced routing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack, overload

from visionllm_sdk._numbers import as_whole
from visionllm_sdk.adapters import AdapterChoice, by_adapter, each_adapter
from visionllm_sdk.errors import InputError, ToolError
from visionllm_sdk.generation import CancelToken, ForcedRequest, ToolJob
from visionllm_sdk.images import ImageSource, LoadedImage
from visionllm_sdk.model.conversation import ForcedCall
from visionllm_sdk.results import EditedImage, GeneratedImage, Picture
from visionllm_sdk.skills.arguments import check_message, each, is_many, load_images, per_image
from visionllm_sdk.skills.engine import SKILL_TOKENS, Engine
from visionllm_sdk.skills.group import SkillGroup
from visionllm_sdk.skills.perception import checked_result
from visionllm_sdk.skills.shelf import SafetyChecker
from visionllm_sdk.tool import ToolOptions

S = TypeVar("S", bound=ImageSource)
PictureT = TypeVar("PictureT", bound=Picture)

MAX_PICTURES: Final = 64
"""Pictures of one caption in one call."""
_MAX_SEED: Final = 2**63 - 1
_DRAWN_SEEDS: Final = 2**32
_LINKS_AT_ONCE: Final = 16


class DrawingSettings(TypedDict, total=False):
    """What a caller may say about how pictures are made.

    Attributes:
        seed: fixes the noise; None draws one, which the result names. Further pictures of the same call take
            `seed + 1`, `seed + 2`, ...
        steps: denoising steps; None takes the checkpoint's own number, as below.
        guidance: how closely to follow the words; 1 does not exaggerate at all.
        sampler: name of the sampler.
        negative_prompt: what to stay away from.
        watch: is called after every denoising step with the progress, which can draw a preview.
        cancel: stops the work after the current step, from another thread.
        adapter: name of a loaded adapter; for a list of captions or images also one for each.
    """

    seed: int | None
    steps: int | None
    guidance: float | None
    sampler: str | None
    negative_prompt: str | None
    watch: Callable[[Any], None] | None
    cancel: CancelToken | None
    adapter: AdapterChoice


class DrawingSkills(SkillGroup):
    """Adds ``generate`` and ``edit`` with their asynchronous twins."""

    @property
    def safety_checker(self) -> SafetyChecker | None:
        """Looks at every finished picture; see `PictureShelf.safety`. None, the default, lets all pass."""
        return self.engine.pictures.safety

    @safety_checker.setter
    def safety_checker(self, checker: SafetyChecker | None) -> None:
        self.engine.pictures.safety = checker

    @overload
    def generate(  # type: ignore[overload-overlap]  # one picture is no list, any other number is
        self,
        prompt: str,
        *,
        n: Literal[1] = 1,
        size: tuple[int, int] | int | None = None,
        **settings: Unpack[DrawingSettings],
    ) -> GeneratedImage: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        n: int,
        size: tuple[int, int] | int | None = None,
        **settings: Unpack[DrawingSettings],
    ) -> list[GeneratedImage]: ...

    @overload
    def generate(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        n: int = 1,
        size: tuple[int, int] | int | None = None,
        **settings: Unpack[DrawingSettings],
    ) -> list[Any]: ...

    def generate(
        self,
        prompt: Any,
        *,
        n: int = 1,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: tuple[int, int] | int | None = None,
        **others: Any,
    ) -> Any:
        """Draw what a caption says.

        Args:
            prompt: the caption, or a list of captions, which are drawn together.
            n: number of pictures of each caption, with seeds one apart.
            seed: fixes the noise; see :class:`DrawingSettings` for this and the following.
            steps: denoising steps.
            guidance: how closely to follow the words.
            size: width and height in pixels, or the side of a square; None takes the checkpoint's own.
            **others: the rest of :class:`DrawingSettings`.

        Returns:
            A `GeneratedImage`; for `n` above 1 a list; for a list of captions a list with one of these each.
            On one device the same caption, seed and settings give the same picture.

        Raises:
            InputError: an empty caption, or a number, size or setting that cannot be used.
            LimitError: a caption that is too long.
            ToolError: the checkpoint cannot draw.
            GenerationCancelled: the cancel token was used.
        """
        count = _check_count(n)
        settings = _known({**others, "seed": seed, "steps": steps, "guidance": guidance})
        prompts = [prompt] if not is_many(prompt) else list(prompt)
        words = each(prompts, lambda text: check_message(text, "the caption"), "caption")
        orders = [_Wish(token=_token(self.engine, "generate"), words=text) for text in words]
        made = _make(
            self.engine, orders, count, {**settings, "size": size}, GeneratedImage, single=not is_many(prompt)
        )
        results = [group[0] if count == 1 else group for group in made]
        return results if is_many(prompt) else results[0]

    @overload
    def edit(
        self,
        image: list[S] | tuple[S, ...],
        instruction: str | Sequence[str],
        *,
        image_guidance: float | None = None,
        **settings: Unpack[DrawingSettings],
    ) -> list[EditedImage]: ...

    @overload
    def edit(
        self,
        image: ImageSource,
        instruction: str,
        *,
        image_guidance: float | None = None,
        **settings: Unpack[DrawingSettings],
    ) -> EditedImage: ...

    def edit(
        self,
        image: Any,
        instruction: Any,
        *,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        image_guidance: float | None = None,
        **others: Any,
    ) -> Any:
        """Change an image as told and leave the rest as it is.

        Args:
            image: one image or a list.
            instruction: what to change, such as "make the star yellow"; for a list of images also a list.
            seed: fixes the noise, the same for all images; see :class:`DrawingSettings` for this and the
                following.
            steps: denoising steps.
            guidance: how closely to follow the words.
            image_guidance: how closely to keep to the image; it counts while `guidance` is above 1.
            **others: the rest of :class:`DrawingSettings`.

        Returns:
            The edited image, of the size of the given one.

        Raises:
            ImageError: an image that cannot be used.
            InputError: an empty instruction, no image, or a setting that cannot be used.
            LimitError: an instruction that is too long.
            ToolError: the checkpoint cannot edit.
            GenerationCancelled: the cancel token was used.
        """
        if image is None or (is_many(image) and not image):
            raise InputError(
                "an edit needs an image", value=image, remedy="Pass the image to change, or use generate()."
            )
        settings = _known({**others, "seed": seed, "steps": steps, "guidance": guidance})
        images = load_images(image, self.rules)
        given = per_image(
            instruction, len(images.items), single=images.single, nested=False, word="instructions"
        )
        words = each(given, lambda text: check_message(text, "the instruction"), "instruction")
        token = _token(self.engine, "edit")
        wishes = [
            _Wish(token=token, words=text, image=one) for one, text in zip(images.items, words, strict=True)
        ]
        sources = [self.engine.pictures.handles.handle_of(one.digest) for one in images.items]
        chosen = {**settings, "image_guidance": image_guidance}
        made = _make(self.engine, wishes, 1, chosen, EditedImage, single=images.single)
        results = [group[0].from_source(source) for group, source in zip(made, sources, strict=True)]
        return images.unwrap(results)

    async def agenerate(self, prompt: Any, **settings: Any) -> Any:
        """As ``generate``, without blocking the event loop."""
        return await self._perform(self.generate, (prompt,), settings, alone=True)

    async def aedit(self, image: Any, instruction: Any, **settings: Any) -> Any:
        """As ``edit``, without blocking the event loop."""
        return await self._perform(self.edit, (image, instruction), settings, alone=True)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What to make: the routing token, the words, and for editing the image."""

    token: str
    words: str
    image: LoadedImage | None = field(default=None)


_Item = tuple[_Wish, list[ToolOptions]]
"""A wish, and the tool's options for every picture of it."""


def _token(engine: Engine, skill: str) -> str:
    """The routing token of drawing or editing.

    Raises:
        ToolError: the checkpoint has no such decoder.
    """
    token = SKILL_TOKENS[skill]
    if token not in engine.routing_tokens:
        raise ToolError(
            f"this checkpoint cannot {skill} pictures: it has no decoder behind {token}",
            value=engine.pictures.model,
            limit=", ".join(engine.routing_tokens) or "no routed tool",
            remedy="Load a checkpoint that has one, with the extra `generation` installed and without "
            "leaving it out by tools=[...].",
        )
    return token


def _make(
    engine: Engine,
    wishes: Sequence[_Wish],
    count: int,
    settings: dict[str, Any],
    kind: type[PictureT],
    *,
    single: bool,
) -> list[list[PictureT]]:
    """`count` pictures of every wish; each wish passes the language model once."""
    adapters = each_adapter(settings.pop("adapter", None), len(wishes), single=single)
    seeds, negative = _seeds(settings.pop("seed", None), count), settings.get("negative_prompt")
    items: list[_Item] = [
        (
            wish,
            [engine.options(wish.token, {**settings, "prompt": wish.words, "seed": seed}) for seed in seeds],
        )
        for wish in wishes
    ]

    def run(part: Sequence[_Item]) -> list[list[PictureT]]:
        starts = range(0, len(part), _LINKS_AT_ONCE)
        chunks = [part[start : start + _LINKS_AT_ONCE] for start in starts]
        return [made for chunk in chunks for made in _make_some(engine, chunk, negative, kind)]

    return by_adapter(engine, adapters, items, run)


def _make_some(
    engine: Engine, items: Sequence[_Item], negative: str | None, kind: type[PictureT]
) -> list[list[PictureT]]:
    wishes = [wish for wish, _ in items]
    with engine.turn():
        seen = iter(engine.see([wish.image for wish in wishes if wish.image is not None]))
        images = [() if wish.image is None else (next(seen),) for wish in wishes]
        requests = [
            ForcedRequest(
                calls=(ForcedCall(token=engine.token(wish.token), labels=(words,)),),
                images=own,
                session=engine.session,
            )
            for words_of in ([wish.words for wish in wishes], [negative] * len(wishes))
            for wish, words, own in zip(wishes, words_of, images, strict=True)
            if words is not None
        ]
        calls = [answer[-1] for answer in engine.generator.forced(requests)]
        made, against = calls[: len(items)], calls[len(items) :]
        contexts = [call.super_links for call in against] or [()] * len(items)
        jobs = [
            ToolJob.about(
                wish.image,
                replace(call, context=context),
                options=one,
                instruction=wish.words,
            )
            for (wish, options), call, context in zip(items, made, contexts, strict=True)
            for one in options
        ]
        results = iter(engine.run(jobs))
    return [[checked_result(next(results), wish.token, kind) for _ in options] for wish, options in items]


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings, all of a known name.

    Raises:
        InputError: an unknown one.
    """
    unknown = sorted(settings.keys() - DrawingSettings.__annotations__.keys())
    if unknown:
        raise InputError(
            "unknown setting",
            value=unknown[0],
            limit=", ".join(DrawingSettings.__annotations__),
            remedy="Correct its name.",
        )
    return settings


def _check_count(count: object) -> int:
    found = as_whole(count)
    if found is None or not 1 <= found <= MAX_PICTURES:
        raise InputError(
            "this many pictures cannot be made at once",
            value=count,
            limit=f"1 to {MAX_PICTURES}",
            remedy="Ask several times.",
        )
    return found


def _seeds(seed: object, count: int) -> list[int]:
    """A seed for each of `count` pictures, from `seed` on; one is drawn where there is none.

    Raises:
        InputError: no whole number, or one out of range.
    """
    first = secrets.randbelow(_DRAWN_SEEDS) if seed is None else as_whole(seed)
    last = _MAX_SEED + 1 - count
    if first is None or not 0 <= first <= last:
        raise InputError(
            "the seed cannot be used",
            value=seed,
            limit=f"a whole number from 0 to {last}",
            remedy="Choose one of these; each further picture of the call takes the next.",
        )
    return [first + number for number in range(count)]
