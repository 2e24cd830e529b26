"""Tensors of a model by the keys of a checkpoint: where they are, and how they are swapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from visionllm_sdk.errors import AdapterError
from visionllm_sdk.model.assembly import Model


@dataclass(frozen=True, slots=True)
class Place:
    """One parameter of a module."""

    owner: nn.Module
    name: str

    @property
    def parameter(self) -> nn.Parameter:
        """What stands there now."""
        value = self.owner._parameters[self.name]
        assert value is not None
        return value

    def put(self, value: nn.Parameter) -> None:
        """Let another parameter stand there, on the device of the one that did.

        A decoder may have gone to main memory or come from it while the other parameter was not part of it.
        """
        device = self.parameter.device
        self.owner._parameters[self.name] = value
        if value.device != device:
            self.owner.to(device)


def module_of(model: Model, key: str) -> tuple[nn.Module, str]:
    """The module that holds a key, and the key inside it; building a decoder that was not needed so far."""
    for tool in model.registry:
        if key.startswith(tool.checkpoint_prefix):
            return model.tools[tool.name].decoder, key.removeprefix(tool.checkpoint_prefix)
    return model.core, key


def place_of(model: Model, key: str) -> Place:
    """Where the tensor of a key is.

    Raises:
        AdapterError: the model has no such tensor.
    """
    module, inside = module_of(model, key)
    path, _, name = inside.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        owner = nn.Module()
    if owner._parameters.get(name) is None:
        raise AdapterError(
            "the adapter changes a tensor that this model does not have",
            value=key,
            remedy="Use the model that the adapter was made for.",
        )
    return Place(owner, name)


def places_of(model: Model, tensors: Mapping[str, Tensor]) -> dict[str, Place]:
    """Where tensors go, once it is certain that all of them fit.

    Raises:
        AdapterError: a key or a shape that the model does not have.
    """
    found = {key: place_of(model, key) for key in tensors}
    for key, place in found.items():
        if place.parameter.shape != tensors[key].shape:
            raise AdapterError(
                f"the adapter's {key} is of another shape",
                value=tuple(tensors[key].shape),
                limit=tuple(place.parameter.shape),
                remedy="Use the model that the adapter was made for.",
            )
    return found


def trained_keys(model: Model, tools: Iterable[str] = ()) -> dict[str, nn.Parameter]:
    """Parameters outside of the language model that learn, by checkpoint key.

    Args:
        model: with `requires_grad` set.
        tools: names of the tools whose decoders are looked at.
    """
    found = {
        name: value
        for name, value in model.core.named_parameters()
        if value.requires_grad and not name.startswith("llm.")
    }
    for name in tools:
        tool = model.tools[name]
        found |= {
            tool.checkpoint_prefix + key: value
            for key, value in tool.decoder.named_parameters()
            if value.requires_grad
        }
    return found
