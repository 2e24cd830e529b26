"""Adapters in use: loaded beside one another, switched between requests, gone without a trace."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visionllm_adapters.base import base_fingerprint, same_base
from visionllm_adapters.folder import Manifest, read_manifest, read_modules
from visionllm_adapters.library import peft_library
from visionllm_adapters.places import Place, places_of
from visionllm_sdk.adapters import unknown_adapter
from visionllm_sdk.errors import AdapterError
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.config import ModelConfig

_TOLERANCE = 1e-4
_SHIFTABLE = {"detect": "gdino_config"}
"""Tools whose class logits an adapter may shift, with their section of config.json."""


@dataclass(slots=True)
class _Loaded:
    """An adapter in memory: its manifest, and what it puts in the place of the base's.

    Attributes:
        manifest: what it is.
        places: where its parameters go.
        own: its parameters.
        configs: its decoders' numbers, by tool, where it shifts scores.
    """

    manifest: Manifest
    places: dict[str, Place] = field(default_factory=dict)
    own: dict[str, nn.Parameter] = field(default_factory=dict)
    configs: dict[str, Any] = field(default_factory=dict)


def _with_shifts(config: ModelConfig, shifts: Mapping[str, float]) -> ModelConfig:
    """The configuration of a model into which an adapter was merged."""
    released = dict(config.to_released())
    for name, shift in shifts.items():
        section = dict(released[_SHIFTABLE[name]])
        section["logit_bias"] = section.get("logit_bias", 0.0) + shift
        released[_SHIFTABLE[name]] = section
    return ModelConfig.from_released(released)


def _is_weight(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


class AdapterRack:
    """Holds the adapters of one model; see `visionllm_sdk.adapters.AdapterRack`.

    Low-rank updates live in PEFT's layers inside the language model; other trained tensors are kept beside
    the base's and exchanged by pointer, so that switching copies nothing.

    Args:
        model: the base; its tensors are never written to.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._loaded: dict[str, _Loaded] = {}
        self._base: dict[str, tuple[Place, nn.Parameter]] = {}
        self._base_configs: dict[str, Any] = {}
        self._active: str | None = None
        self._peft: Any = None
        self._fingerprint: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Loaded adapters."""
        return tuple(self._loaded)

    @property
    def fingerprint(self) -> str:
        """Of the base model."""
        if self._fingerprint is None:
            self._fingerprint = base_fingerprint(self._model)
        return self._fingerprint

    def manifest(self, name: str) -> Manifest:
        """What a loaded adapter is.

        Raises:
            AdapterError: no such adapter.
        """
        return self._get(name).manifest

    def load(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Load an adapter folder; see `VisionLLM.load_adapter`."""
        folder = Path(path)
        manifest = read_manifest(folder)
        chosen = re.sub(r"[^\w-]", "-", folder.resolve().name) if name is None else name
        self._check_name(chosen)
        self._check_base(manifest)
        modules = read_modules(folder)
        loaded = self._prepare(manifest, modules)
        self._load_lora(folder, chosen)
        self._loaded[chosen] = loaded
        self._settle()
        return chosen

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise AdapterError(
                "this is no name for an adapter",
                value=name,
                limit="letters, digits, '-' and '_'",
                remedy="Pass name='...'.",
            )
        if name in self._loaded:
            raise AdapterError(
                "an adapter of this name is loaded", value=name, remedy="Unload it, or pass another name."
            )

    def _check_base(self, manifest: Manifest) -> None:
        if not same_base(manifest.base, self.fingerprint):
            raise AdapterError(
                "the adapter was made for another base model",
                value=f"{manifest.base_name} ({manifest.base})",
                limit=self.fingerprint,
                remedy="Load that model, or train the adapter anew for this one.",
            )

    def _prepare(self, manifest: Manifest, modules: Mapping[str, Tensor]) -> _Loaded:
        places = places_of(self._model, modules)
        own = {
            key: nn.Parameter(modules[key].to(place.parameter), requires_grad=False)
            for key, place in places.items()
        }
        for key, place in places.items():
            self._base.setdefault(key, (place, place.parameter))
        return _Loaded(manifest, places, own, self._shifted(manifest))

    def _shifted(self, manifest: Manifest) -> dict[str, Any]:
        """The numbers of the decoders whose scores the adapter shifts; the base's are remembered."""
        configs = {}
        for name, shift in manifest.score_shift.items():
            if name not in _SHIFTABLE or name not in self._model.registry:
                raise AdapterError(
                    "the adapter shifts scores of something that the model does not have, or that has none",
                    value=name,
                    limit=", ".join(_SHIFTABLE),
                )
            base = self._base_configs.setdefault(name, self._model.tools[name].decoder.config)
            configs[name] = replace(base, logit_bias=base.logit_bias + shift)
        return configs

    def _load_lora(self, folder: Path, name: str) -> None:
        try:
            with peft_library() as peft:
                if self._peft is None:
                    self._peft = peft.PeftModel.from_pretrained(
                        self._model.core.llm, str(folder), adapter_name=name, is_trainable=False
                    )
                else:
                    self._peft.load_adapter(str(folder), adapter_name=name, is_trainable=False)
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            self._settle()
            raise AdapterError(
                f"the low-rank part of the adapter does not fit: {error}",
                value=str(folder),
                remedy="Use the model that the adapter was made for.",
            ) from error

    def unload(self, name: str) -> None:
        """Forget an adapter; without any the language model's layers are the base's own objects again."""
        self._get(name)
        self.activate(None)
        del self._loaded[name]
        if self._loaded:
            self._peft.set_adapter(next(iter(self._loaded)))
            self._peft.delete_adapter(name)
        elif self._peft is not None:
            self._peft.unload()
            self._peft = None
        self._settle()

    def activate(self, name: str | None) -> None:
        """Let the model answer with one adapter, or as the base does."""
        if name == self._active:
            return
        if name is not None:
            self._get(name)
        if self._active is not None:
            for key in self._loaded[self._active].own:
                place, parameter = self._base[key]
                place.put(parameter)
            self._configure(self._base_configs)
        self._active = name
        if name is not None:
            loaded = self._loaded[name]
            for key, parameter in loaded.own.items():
                loaded.places[key].put(parameter)
            self._configure(loaded.configs)
        self._settle()

    def _configure(self, configs: Mapping[str, Any]) -> None:
        for name, config in configs.items():
            self._model.tools[name].decoder.config = config

    def _settle(self) -> None:
        """Bring PEFT's layers into the state that the active adapter asks for."""
        if self._peft is None:
            return
        if self._active is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(self._active)
        self._peft.requires_grad_(False)
        self._peft.eval()

    def _get(self, name: str) -> _Loaded:
        if name not in self._loaded:
            raise unknown_adapter(name, self.names)
        return self._loaded[name]

    # -- more than one ---------------------------------------------------------------------------------------

    def combine(self, weights: Mapping[str, float], name: str) -> str:
        """A new adapter, the weighted sum of low-rank updates; see `VisionLLM.combine_adapters`."""
        self._check_name(name)
        parts = {own: self._get(own) for own in weights}
        if not any(weights.values()) or not all(map(_is_weight, weights.values())):
            raise AdapterError(
                "adapters are added by their weights",
                value=dict(weights),
                limit="a finite number for each, one of them not 0",
                remedy="Pass {name: weight, ...}.",
            )
        full = sorted({key for part in parts.values() for key in part.own})
        if full:
            raise AdapterError(
                "adapters that trained whole tensors cannot be added: the sum of two trained decoders is not "
                "a trained decoder",
                value=f"{len(full)} tensors, {full[0]} among them",
                remedy="Switch between them for each request, or train one adapter on both data sets.",
            )
        if magnified := [own for own in parts if self._peft.peft_config[own].use_dora]:
            raise AdapterError(
                "adapters with magnitudes (DoRA) cannot be added: their sum is no low-rank update",
                value=magnified,
                remedy="Switch between them for each request.",
            )
        try:
            self._peft.base_model.add_weighted_adapter(
                list(parts), [float(weights[own]) for own in parts], name, combination_type="cat"
            )
        except (ValueError, NotImplementedError, KeyError) as error:
            raise AdapterError(f"these adapters cannot be added: {error}", value=list(parts)) from error
        self._unscale(name)
        shifts: dict[str, float] = defaultdict(float)
        for own, part in parts.items():
            for tool, shift in part.manifest.score_shift.items():
                shifts[tool] += float(weights[own]) * shift
        summed = replace(next(iter(parts.values())).manifest, score_shift=dict(shifts))
        self._loaded[name] = _Loaded(summed, configs=self._shifted(summed))
        self._settle()
        return name

    def _unscale(self, name: str) -> None:
        """Parts of a sum are scaled already; the library would scale rank-stabilised ones once more."""
        self._peft.peft_config[name].use_rslora = False
        for module in self._peft.base_model.modules():
            scaling = getattr(module, "scaling", None)  # of attention it is a number
            if isinstance(scaling, dict) and name in scaling:
                scaling[name] = 1.0

    def merge(self, name: str) -> Model:
        """The base with one adapter written into its tensors; this rack is empty afterwards.

        A random sequence is read before and after: a merge that changes the hidden states by more than
        rounding is refused.

        Raises:
            AdapterError: no such adapter, or a merged model that answers otherwise.
        """
        self.activate(name)
        before = self._probe()
        own = dict(self._loaded[name].own)
        kept = [other for other in self._loaded if other != name]
        for other in kept:  # the one that stays is active
            self._peft.delete_adapter(other)
        self._peft.merge_and_unload()
        self._peft = None
        after = self._probe()
        scale = float(before.abs().max().clamp_min(1e-6))
        error = float((after - before).abs().max()) / scale
        bound = _TOLERANCE if self._model.core.dtype == torch.float32 else 0.05
        if not error <= bound:
            raise AdapterError(
                "the merged model answers otherwise than the model with its adapter",
                value=f"largest relative difference {error:.2g}",
                limit=bound,
                remedy="Merge in float32.",
            )
        self._base = {key: pair for key, pair in self._base.items() if key not in own}
        shifts = self._loaded[name].manifest.score_shift
        self._loaded, self._active, self._base_configs = {}, None, {}
        return (
            replace(self._model, config=_with_shifts(self._model.config, shifts)) if shifts else self._model
        )

    @torch.no_grad()
    def _probe(self) -> Tensor:
        """Logits of a fixed sequence. (1, 64, vocabulary)"""
        core = self._model.core
        random = torch.Generator().manual_seed(0)
        ids = torch.randint(0, core.llm.config.vocab_size, (1, 64), generator=random).to(core.device)
        hidden = core.run(core.word_embedding(ids), torch.ones_like(ids, dtype=torch.bool))
        logits: Tensor = core.llm.lm_head(hidden).float()
        return logits
