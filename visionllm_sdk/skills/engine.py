"""A loaded checkpoint together with what its requests share: image features, prefixes, one lock."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from pydantic import ValidationError

from visionllm_sdk.adapters import AdapterRack, unknown_adapter
from visionllm_sdk.errors import InputError, ToolError
from visionllm_sdk.extensions import load_extension
from visionllm_sdk.generation import Generator, Session, ToolJob, run_tools
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.cache import token_bytes
from visionllm_sdk.model.contents import Contents
from visionllm_sdk.model.home import starts_in_main_memory
from visionllm_sdk.model.lanes import side_by_side
from visionllm_sdk.model.prompt import TiledImage
from visionllm_sdk.model.vision import VisionFeatures
from visionllm_sdk.results import Result
from visionllm_sdk.skills.pointing import Pointer
from visionllm_sdk.skills.shelf import PictureShelf
from visionllm_sdk.tool import RoutingToken, ToolClass, ToolOptions

_FEATURE_BYTES = 128 * 2**20
_PREFIX_BYTES = 256 * 2**20
_PREFIX_TOKENS = 1024  # how long a kept prefix is assumed to be
_FEW, _MANY = 2, 32


SKILL_TOKENS: Final[Mapping[str, str]] = {
    "detect": "[DET]",
    "count": "[DET]",
    "ground": "[GRD]",
    "segment": "[SEG]",
    "pose": "[POSE]",
    "generate": "[GEN]",
    "edit": "[EDIT]",
}
"""Routing token of the typed methods."""


class FeatureCache:
    """Images as the language side sees them, found again by their pixels; the least recently used go first.

    Lanes may use one at the same time.

    Args:
        max_bytes: memory of tiles and features together.
    """

    def __init__(self, max_bytes: int = _FEATURE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._images: OrderedDict[str, TiledImage] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> TiledImage | None:
        """The image of that key, which counts as used now."""
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def put(self, image: TiledImage) -> None:
        """Keep an image under its key."""
        with self._lock:
            if image.key in self._images:
                return
            self._images[image.key] = image
            self._bytes += _size(image)
            while self._bytes > self._max_bytes and self._images:
                self._bytes -= _size(self._images.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._images)


def _size(image: TiledImage) -> int:
    tensors = [image.pixels]
    if image.features is not None:
        tensors += [image.features.tokens, *image.features.levels]
    return sum(tensor.nbytes for tensor in tensors)


class Engine:
    """Runs requests on one loaded checkpoint, one after another whatever thread they come from.

    Args:
        model: a loaded checkpoint.
        name: of the checkpoint, for metadata of produced pictures.
    """

    def __init__(self, model: Model, *, name: str = "unnamed") -> None:
        self.model = model
        self.generator = Generator(model)
        self.registry = model.registry
        self._rack: AdapterRack | None = None
        self._adapter: str | None = None
        self._forget_all()
        self.pictures = PictureShelf(name)
        self._lock = threading.RLock()
        self._turns = 0
        self._weights: Contents | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The time in which one request has the model for itself; a turn may stand inside another."""
        with self._lock, starts_in_main_memory():
            if not self._turns:
                self._forget_if_changed()
            self._turns += 1
            try:
                yield
            finally:
                self._turns -= 1

    def _forget_if_changed(self) -> None:
        """Drop what was seen and read with weights that are no longer there."""
        weights = Contents.of(self.model.core.parameters(), self._weights)
        if self._weights is not None and weights is not self._weights:
            self._forget_all()
        self._weights = weights

    def _forget_all(self) -> None:
        self._sessions: dict[str | None, Session] = {}
        self._features = FeatureCache()
        config = self.model.config
        self.pointer = Pointer(self.model.core, config.image_size, max_stretch=config.sdk.max_stretch)

    @property
    def session(self) -> Session:
        """Prefixes that the model has read, with the adapter that is active: each reads in its own way."""
        if self._adapter not in self._sessions:
            fresh = Session(max_images=_FEW, max_prefixes=_prefixes(self.model))
            self._sessions[self._adapter] = fresh
        return self._sessions[self._adapter]

    def rack(self) -> AdapterRack:
        """Where the model's adapters are held.

        Raises:
            ConfigError: no installed package holds adapters.
        """
        if self._rack is None:
            self._rack = load_extension("adapters")(self.model)
        return self._rack

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """Loaded adapters."""
        return () if self._rack is None else self._rack.names

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[None]:
        """The time in which one request has the model for itself, with an adapter; None: without any.

        Raises:
            AdapterError: no such adapter is loaded.
        """
        with self.turn():
            if adapter is not None and adapter not in self.adapter_names:
                raise unknown_adapter(adapter, self.adapter_names)
            before = self._adapter
            self._activate(adapter)
            try:
                yield
            finally:
                self._activate(before)

    def _activate(self, adapter: str | None) -> None:
        if self._rack is not None and adapter != self._adapter:
            self._rack.activate(adapter)
        self._adapter = self.pointer.adapter = self.pictures.adapter = adapter

    def forget(self, adapter: str) -> None:
        """Drop what was read with an adapter."""
        self._sessions.pop(adapter, None)
        self.pointer.forget(adapter)

    @torch.no_grad()
    def see(self, images: Sequence[LoadedImage], *, pointed: bool = False) -> list[TiledImage]:
        """Tiles and vision features of images; known ones are not computed again, new ones in one batch.

        Args:
            images: what to look at.
            pointed: regions of these images are going to be asked about.
        """
        kept = {image.digest: self._features.get(image.digest) for image in images}
        known = {key: seen for key, seen in kept.items() if seen is not None}
        fresh = {image.digest: image for image in images if image.digest not in known}
        tiled = side_by_side(self._tile, list(fresh.values()), torch.device("cpu"))
        for seen in self._see(tiled, pointed) if tiled else ():
            known[seen.key] = seen
            self._features.put(seen)
        return [known[image.digest] for image in images]

    def _see(self, tiled: Sequence[TiledImage], pointed: bool) -> list[TiledImage]:
        seen = []
        for one, features in zip(tiled, self.model.core.see_each(tiled, levels=pointed), strict=True):
            if pointed:
                self.pointer.keep(one, features)
            seen.append(TiledImage(one.pixels, VisionFeatures(features.tokens), one.key))
        return seen

    def _tile(self, image: LoadedImage) -> TiledImage:
        return TiledImage(self.model.tile_pixels(image.image), key=image.digest)

    def run(self, jobs: Sequence[ToolJob]) -> list[Result]:
        """Carry out routed calls; result i belongs to job i. Decoders that are not needed stay unbuilt, and
        produced pictures are kept on the shelf.

        Raises:
            ToolError: no loaded tool claims a routing token, or a tool's result is no typed result.
        """
        names = {self.registry.by_token(job.call.token).name for job in jobs}
        with self.model.in_use(names) as tools:
            results = run_tools(jobs, tools)
        return self.pictures.keep([_typed(result) for result in results])

    @property
    def routing_tokens(self) -> tuple[str, ...]:
        """Routing tokens that the checkpoint can write and a loaded tool carries out, with what it needs."""
        written = {spec.token for spec in self.model.core.plan.by_id.values()}
        return self.usable([token for token in self.registry.token_texts if token in written])

    def usable(self, tokens: Collection[str]) -> tuple[str, ...]:
        """Those of some routing tokens that can be carried out: what they need is among them."""
        known = set(tokens)
        return tuple(
            token
            for token in tokens
            if token not in self.registry.token_texts or known.issuperset(self.kind(token).needed_tokens())
        )

    def tokens_of(self, name: str) -> tuple[str, ...]:
        """The routing tokens that a token, a skill or a tool stands for.

        Raises:
            InputError: nothing of that name is loaded.
        """
        if name in SKILL_TOKENS:
            name = SKILL_TOKENS[name]
        if name in self.routing_tokens:
            return (name,)
        if name in self.registry:
            return tuple(token.text for token in self.registry.by_name(name).tokens)
        raise InputError(
            "no such routing token, skill or tool",
            value=name,
            limit=", ".join((*self.routing_tokens, *SKILL_TOKENS)),
            remedy="Correct the name, or load a checkpoint that has it.",
        )

    def kind(self, token: str) -> ToolClass:
        """The class of the tool behind a routing token.

        Raises:
            ToolError: this checkpoint has no such tool.
        """
        return self.registry.by_token(token)

    def token(self, token: str) -> RoutingToken:
        """The declaration of a routing token.

        Raises:
            ToolError: this checkpoint has no such tool.
        """
        return self.registry.token(token)

    def opening_tag(self, token: str) -> int | None:
        """Id of the tag that opens the label of a routing token; None if the checkpoint writes no tags."""
        tag = self.token(token).label_tag
        if tag is None or not self.model.config.sdk.label_tags:
            return None
        return self.model.tokenizer.control_id(f"<{tag}>")

    def options(self, token: str, wanted: dict[str, Any]) -> ToolOptions:
        """Typed options of a tool; entries that are None keep the tool's defaults.

        Raises:
            ToolError: the tool has no such option, or refuses the value.
        """
        kind = self.registry.by_token(token).options_type
        try:
            options: ToolOptions = kind(
                **{name: value for name, value in wanted.items() if value is not None}
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ToolError(
                f"the tool behind {token} refuses {'.'.join(map(str, first['loc']))}: {first['msg']}",
                value=first["input"],
                limit=", ".join(kind.model_fields),
            ) from error
        return options

    def known_options(self, token: str, wanted: Mapping[str, Any]) -> ToolOptions:
        """As :meth:`options`, without those that the tool does not have."""
        fields = self.registry.by_token(token).options_type.model_fields
        return self.options(token, {name: value for name, value in wanted.items() if name in fields})


def _typed(result: object) -> Result:
    if not isinstance(result, Result):
        raise ToolError(
            "a tool returned something that is not a typed result",
            value=type(result).__name__,
            limit="a subclass of visionllm_sdk.results.Result",
            remedy="Update the package that offers the tool.",
        )
    return result


def _prefixes(model: Model) -> int:
    """How many prefixes fit into the memory that is set aside for them."""
    token = token_bytes(model.core.llm.config, model.core.dtype)
    return max(_FEW, min(_MANY, _PREFIX_BYTES // (token * _PREFIX_TOKENS)))
