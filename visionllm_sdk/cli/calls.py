"""What every command is told beside its own arguments: where to load from, and how to show the result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from visionllm_sdk.cli.loading import load_images, load_model
from visionllm_sdk.cli.options import (
    AdapterOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    SaveOption,
    UrlsOption,
)

if TYPE_CHECKING:
    from visionllm_sdk.images import LoadedImage
    from visionllm_sdk.regions import Region
    from visionllm_sdk.results import Result
    from visionllm_sdk.skills import VisionLLM

Command = Callable[..., None]
Work = Callable[["VisionLLM", Any, "str | None"], "Sequence[Result]"]
"""A typed method, told the model, a list of images and the name of an adapter."""


@dataclass(frozen=True, kw_only=True)
class ModelCall:
    """A command that needs the model.

    Attributes:
        as_json: the result is printed as JSON and nothing else.
        model: checkpoint folder or hub name; None is the embedded model.
        device: where to compute.
    """

    as_json: JsonOption = False
    model: ModelOption = None
    device: DeviceOption = None

    def load(self) -> VisionLLM:
        """The model.

        Raises:
            CheckpointError: no such checkpoint.
        """
        return load_model(self.model, self.device)


@dataclass(frozen=True, kw_only=True)
class RequestCall(ModelCall):
    """A command that asks the model for something.

    Attributes:
        adapter: folder of the adapter that answers.
    """

    adapter: AdapterOption = None

    def load_adapted(self) -> tuple[VisionLLM, str | None]:
        """The model, and the name of the adapter in it.

        Raises:
            CheckpointError: no such checkpoint.
            AdapterError: no such adapter, or one that was made for another model.
            MissingExtraError: `peft` is not installed.
        """
        vlm = self.load()
        return vlm, None if self.adapter is None else vlm.load_adapter(self.adapter)


@dataclass(frozen=True, kw_only=True)
class ImageCall(RequestCall):
    """A command that looks at images.

    Attributes:
        allow_urls: http(s) URLs are fetched.
    """

    allow_urls: UrlsOption = False


@dataclass(frozen=True, kw_only=True)
class DrawnCall(ImageCall):
    """A command whose result can be drawn over the image.

    Attributes:
        save: where the drawn picture goes.
    """

    save: SaveOption = None


def takes(kind: type[ModelCall]) -> Callable[[Command], Command]:
    """Turn a function with the keyword `call` into a command with one option for each field of `kind`.

    Typer reads a command's options from its signature; so the fields are put there in place of `call`.
    """
    hints = get_type_hints(kind, include_extras=True)
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]

    def decorate(function: Command) -> Command:
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "call"]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            shared = {option.name: values.pop(option.name) for option in options}
            function(**values, call=kind(**shared))

        told: Any = command
        told.__signature__ = signature.replace(parameters=[*own, *options])
        told.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
        del told.__wrapped__
        return command

    return decorate


def look(call: ImageCall, names: Sequence[str], work: Work, *, regions: Sequence[Region] = ()) -> None:
    """Load images and model, work, show the results and draw them where that is wanted.

    Args:
        call: what the command was told.
        names: of the images.
        work: the typed method for a list of images.
        regions: what `work` will ask about in every image; checked before the model is loaded.

    Raises:
        ImageError: an image that cannot be used.
        RegionError: a region that does not fit an image; of several images the message names it.
        InputError: pictures cannot be written to the place that was named.
        CheckpointError: no such checkpoint.
        AdapterError: no such adapter, or one that was made for another model.
    """
    from visionllm_sdk.cli import show

    save = call.save if isinstance(call, DrawnCall) else None
    if save is not None:
        show.check_targets(save, len(names))
    images = load_images(names, call.allow_urls)
    if regions:
        _check_regions(regions, images, names)
    vlm, adapter = call.load_adapted()
    results = show.with_progress(images, lambda part: work(vlm, part, adapter))
    show.print_results(results, names, as_json=call.as_json)
    if save is not None:
        show.save_pictures(results, images, names, save)


def _check_regions(regions: Sequence[Region], images: Sequence[LoadedImage], names: Sequence[str]) -> None:
    from visionllm_sdk.errors import RegionError
    from visionllm_sdk.regions import check_regions

    for image, name in zip(images, names, strict=True):
        try:
            check_regions(regions, (image.width, image.height))
        except RegionError as error:
            if len(names) == 1:
                raise
            raise error.at(name) from error
