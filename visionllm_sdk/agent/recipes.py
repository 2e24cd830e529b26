"""How a reply came about, small enough to travel with its message, exact enough to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from visionllm_sdk.agent.routing import Prescribed
from visionllm_sdk.agent.sessions import CallKey, VisionSession, call_key
from visionllm_sdk.errors import HandleError, InputError
from visionllm_sdk.generation import GenerationOptions, GenerationRequest
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.conversation import Parts
from visionllm_sdk.model.prompt import Prompt, RegionPrompt, TiledImage
from visionllm_sdk.regions import RegionBlock, region_block
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.history import Mark, parts_of
from visionllm_sdk.skills.marking import encode_marks

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = ["RECIPE", "Recipe"]

Item = TypeVar("Item")

RECIPE: Final = "recipe"
"""Where a message's `response_metadata` keeps it."""
_TAGS: Final = ("<det>", "</det>", "<grd>", "</grd>")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a reply was computed from, but for the pixels.

    Attributes:
        prompt: ids; image number n (from 0) stands as -1 - n.
        images: handles.
        reply: generated ids.
        request: what the user said.
        marks: region prompts in the order of their tokens.
    """

    prompt: tuple[int, ...]
    images: tuple[str, ...]
    reply: tuple[int, ...]
    request: str = ""
    marks: tuple[Mark, ...] = ()

    @classmethod
    def make(
        cls, prompt: Prompt, handles: Sequence[str], reply: Sequence[int], request: str, engine: Engine
    ) -> Self:
        """The recipe of a reply that was just generated."""
        patch = engine.model.core.layout.patch_id
        sizes = iter(image.tiles * engine.model.core.tokens_per_tile for image in prompt.images)
        ids: list[int] = []
        number = 0
        for index, run in groupby(prompt.ids):
            length = len(list(run))
            if index != patch:
                ids += [index] * length
                continue
            while length:  # images may follow one another without a word in between
                length -= next(sizes)
                number += 1
                ids.append(-number)
        return cls(prompt=tuple(ids), images=tuple(handles), reply=tuple(reply), request=request)

    @classmethod
    def of(cls, message: BaseMessage) -> Self | None:
        """The recipe that came with a message; None if it is no reply of this model, or was damaged."""
        data = message.response_metadata.get(RECIPE)
        if not isinstance(data, Mapping):
            return None
        prompt, reply = _all(data.get("prompt"), int), _all(data.get("reply"), int)
        images, marks = _all(data.get("images"), str), _marks(data.get("regions", ()))
        if prompt is None or reply is None or images is None or marks is None:
            return None
        request = str(data.get("request", ""))
        return cls(prompt=prompt, images=images, reply=reply, request=request, marks=marks)

    @classmethod
    def behind(cls, link: str, messages: Sequence[BaseMessage]) -> Self | None:
        """The recipe of the latest message that passes on a super-link; None if there is none."""
        for message in reversed(messages):
            calls = getattr(message, "tool_calls", ())
            if any(call["args"].get("superlink") == link for call in calls):
                return cls.of(message)
        return None

    def dump(self) -> dict[str, Any]:
        """JSON-safe data."""
        data = {
            "prompt": list(self.prompt),
            "images": list(self.images),
            "reply": list(self.reply),
            "request": self.request,
        }
        if self.marks:
            data["regions"] = [
                RegionBlock(region=one.region, image=one.image).model_dump(mode="json") for one in self.marks
            ]
        return data

    def key(self, digests: Sequence[str], number: int) -> CallKey:
        """What one call of the reply was computed from."""
        marked = [f"{one.image} {one.region.model_dump_json()}" for one in self.marks]
        identity = call_key(self.prompt, [*digests, *marked], self.reply, number)
        return CallKey(identity=identity, images=tuple(digests), request=self.request)

    def reply_parts(self, engine: Engine) -> Parts:
        """The reply for a prompt. Only routing tokens and label tags become control tokens."""
        tokenizer = engine.model.tokenizer
        allowed = {tokenizer.control_id(text) for text in (*engine.routing_tokens, *_TAGS)}
        ids = [
            index
            for index in self.reply
            if index in allowed
            or (0 <= index < tokenizer.vocab_size and tokenizer.surface(index) is not None)
        ]
        return parts_of(ids, tokenizer) or ("",)

    def make_again(
        self, session: VisionSession, engine: Engine, images: Mapping[str, LoadedImage]
    ) -> list[str]:
        """Compute the super-links of the reply again and keep them; handles in the order of the calls.

        Args:
            session: of the conversation that holds the message.
            engine: the model.
            images: images of that conversation by handle.

        Raises:
            HandleError: an image of the recipe is missing, or the recipe is not of this model.
        """
        lacking = [handle for handle in self.images if handle not in images]
        known = all(-len(self.images) <= index < engine.model.tokenizer.vocab_size for index in self.prompt)
        known &= all(one.image < len(self.images) for one in self.marks)
        known &= self.prompt.count(engine.model.core.region_id) == len(self.marks)
        if lacking or not known or not self.reply:
            raise HandleError(
                "the super-link cannot be computed again: the conversation has changed",
                value=lacking[:1],
                limit="the images and the reply from which it came",
                remedy="Call the tool with labels and image only.",
            )
        loaded = [images[handle] for handle in self.images]
        with engine.turn():
            regions = encode_marks(engine, loaded, self.marks)
            prompt = self._expand(engine.see(loaded) if loaded else [], regions, engine)
            options = GenerationOptions(
                max_new_tokens=len(self.reply), processors=(Prescribed(self.reply, start=len(prompt.ids)),)
            )
            request = GenerationRequest(prompt=prompt, options=options, question=self.request)
            (reply,) = engine.generator.generate([request])
        digests = [image.digest for image in loaded]
        return [session.keep(call, key=self.key(digests, number)) for number, call in enumerate(reply.calls)]

    def _expand(
        self, images: Sequence[TiledImage], regions: Sequence[RegionPrompt], engine: Engine
    ) -> Prompt:
        core = engine.model.core
        ids: list[int] = []
        for index in self.prompt:
            tokens = images[-1 - index].tiles * core.tokens_per_tile if index < 0 else 1
            ids += [core.layout.patch_id if index < 0 else index] * tokens
        return Prompt(ids=ids, marks=[False] * len(ids), images=tuple(images), regions=tuple(regions))


def _marks(values: Any) -> tuple[Mark, ...] | None:
    """Region prompts from data; None if it was damaged."""
    if not isinstance(values, list | tuple):
        return None
    try:
        blocks = [region_block(value) for value in values]
    except (InputError, TypeError, ValueError):
        return None
    return tuple(Mark(block.image or 0, block.region) for block in blocks)


def _all(values: Any, kind: type[Item]) -> tuple[Item, ...] | None:
    """The values, if they are a list of this kind."""
    if isinstance(values, list | tuple) and all(type(value) is kind for value in values):
        return tuple(values)
    return None
