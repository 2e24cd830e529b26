"""From a checkpoint folder to a running model, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from visionllm_sdk.errors import CheckpointError, ToolError
from visionllm_sdk.model.checkpoint import Target, WeightFiles, check_weights, load_weights, save_weights
from visionllm_sdk.model.compiled import CompiledStep, compile_in_place
from visionllm_sdk.model.config import ModelConfig, read_config
from visionllm_sdk.model.conversation import conversation_format
from visionllm_sdk.model.core import TABLE_PREFIX, VisionLLMCore, build_core
from visionllm_sdk.model.documents import naming
from visionllm_sdk.model.home import starts_in_main_memory
from visionllm_sdk.model.keys import KeyTable, core_key_table
from visionllm_sdk.model.lazy import AnyTool, LazyKind, LazyTools
from visionllm_sdk.model.memory import MemoryReport, measure
from visionllm_sdk.model.placement import Place, Placement, default_dtype
from visionllm_sdk.model.precision import hurry
from visionllm_sdk.model.prompt import PromptBuilder, TiledImage
from visionllm_sdk.model.quantisation import quantise, quantised_makers
from visionllm_sdk.model.session import image_key
from visionllm_sdk.model.skeleton import ParametersStayEmpty
from visionllm_sdk.model.tiling import cut_tiles, tile_array
from visionllm_sdk.model.tokenizer import TextTokenizer
from visionllm_sdk.model.writing import SHARD_BYTES
from visionllm_sdk.registry import ToolRegistry
from visionllm_sdk.tool import ToolClass

__all__ = ["AnyTool", "Model", "default_dtype", "load_model"]

_CORE_PREFIXES = ("vis_encoder.", "vl_bridge.", "region_encoder.", "llm.", TABLE_PREFIX)
_PARTS = {
    "vision encoder": "vis_encoder",
    "bridge": "vl_bridge",
    "region encoder": "region_encoder",
    "language model": "llm",
}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Model:
    """Everything that a checkpoint holds, running.

    Attributes:
        config: numbers.
        tokenizer: text to ids and back.
        core: the language side.
        tools: loaded routed tools by name.
        unclaimed: key prefixes of the files that neither the core nor a loaded tool uses.
        placement: where its parts are.
        parameters: number of values in the checkpoint's form, of parts whose modules hold them otherwise.
    """

    config: ModelConfig
    tokenizer: TextTokenizer
    core: VisionLLMCore
    tools: Mapping[str, AnyTool]
    unclaimed: tuple[str, ...] = ()
    placement: Placement = field(default_factory=Placement)
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def registry(self) -> ToolRegistry:
        """The classes of the loaded tools."""
        if isinstance(self.tools, LazyTools):
            return ToolRegistry(self.tools.kinds.values())
        return ToolRegistry([type(tool) for tool in self.tools.values()])

    @contextmanager
    def in_use(self, names: set[str]) -> Iterator[Mapping[str, AnyTool]]:
        """The named tools, loaded and on their devices."""
        if isinstance(self.tools, LazyTools):
            with self.tools.in_use(names) as tools:
                yield tools
        else:
            yield {name: self.tools[name] for name in names}

    def memory(self) -> MemoryReport:
        """What each part takes in memory, and where."""
        parts = [
            measure(name, part, parameters=self.parameters.get(path))
            for name, path in _PARTS.items()
            if (part := getattr(self.core, path)) is not None
        ]
        tables = [self.core.get_submodule(TABLE_PREFIX + name) for name in self.core.table_names]
        parts.append(measure("queries", torch.nn.ModuleList(tables)))
        if isinstance(self.tools, LazyTools):
            parts += self.tools.memory()
        else:
            parts += [measure(name, tool.decoder) for name, tool in self.tools.items()]
        return MemoryReport(parts=tuple(parts))

    def prompt_builder(self) -> PromptBuilder:
        """Builder of prompts in this checkpoint's conversation format."""
        return PromptBuilder(
            tokenizer=self.tokenizer,
            plan=self.core.plan,
            format=conversation_format(self.config.conversation),
            tokens_per_tile=self.core.tokens_per_tile,
            system=self.config.sdk.system_prompt,
        )

    def tile(self, image: Image) -> TiledImage:
        """An image as the language side sees it, named by its content.

        Args:
            image: RGB.
        """
        pixels = self.tile_pixels(image)
        return TiledImage(pixels, key=image_key(pixels))

    def tile_pixels(self, image: Image) -> torch.Tensor:
        """Normalised tiles of an image, the thumbnail last.

        Args:
            image: RGB.

        Returns:
            (T, 3, S, S)
        """
        config = self.config
        tiles = cut_tiles(
            image,
            max_tiles=config.max_tiles,
            tile_size=config.image_size,
            max_stretch=config.sdk.max_stretch,
            fill=config.margin_colour,
        )
        return torch.from_numpy(tile_array(tiles, mean=config.image_mean, std=config.image_std))

    def save(self, folder: Path, *, dtype: torch.dtype | None = None, shard_bytes: int | None = None) -> None:
        """Write config.json, tokenizer and weights in the released form.

        Args:
            folder: is created.
            dtype: number format of floating tensors in the files; None keeps the modules'.
            shard_bytes: most bytes of one file.

        Raises:
            CheckpointError: the weights are quantised.
        """
        if self.placement.quantization:
            raise CheckpointError(
                "quantised weights have no released form",
                value=self.placement.quantization,
                remedy="Load the checkpoint without quantization, and save that.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "config.json", self.config.to_released())
        normalisation = {
            "crop_size": {"height": self.config.image_size, "width": self.config.image_size},
            "image_mean": self.config.image_mean,
            "image_std": self.config.image_std,
        }
        _write(folder / "preprocessor_config.json", normalisation)
        self.tokenizer.save(folder)
        save_weights(folder, self.targets(), dtype=dtype, shard_bytes=shard_bytes or SHARD_BYTES)

    def targets(self) -> list[Target]:
        """The language side, then every decoder, with their released keys."""
        return [_core_target(self.config, self.core), *(_tool_target(tool) for tool in self.tools.values())]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@starts_in_main_memory()
def load_model(
    folder: Path,
    *,
    registry: ToolRegistry,
    tools: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    placement: Placement | None = None,
    lazy: bool = False,
    check: bool = True,
) -> Model:
    """Load a checkpoint folder.

    Args:
        folder: config.json, tokenizer.model, safetensors.
        registry: tool classes at hand.
        tools: names of the tools to load; None loads all that the checkpoint has decoders for.
        device: where everything goes.
        dtype: number format; None takes float32 on the CPU and bfloat16 elsewhere.
        placement: where each part goes and in which format, in place of `device` and `dtype`.
        lazy: build each tool's decoder when it is first used; its keys are checked now, unless the tool can
            only be built with a large library (`RoutedTool.described`): then they are checked on first use.
        check: compare the files with their checksums, where some are known.

    Raises:
        CheckpointError: a file is absent, broken, or does not fit.
        ConfigError: config.json is not usable, or the placement names a part that is not there.
        ToolError: a tool was asked for that is unknown or that the checkpoint has no decoder for.
        MissingExtraError: quantization without its library.
    """
    place = placement or Placement(device=torch.device(device), dtype=dtype)
    config = read_config(folder)
    tokenizer = _tokenizer(folder, config)
    files = WeightFiles(folder, check=check)
    chosen = registry if tools is None else registry.select(tools)
    late = [kind for kind in chosen if lazy and kind.described(config.to_released())]
    soon = ToolRegistry(kind for kind in chosen if kind not in late)
    with torch.device("meta"):
        core = build_core(config, tokenizer)
        outlines = _build_tools(config, soon, required=tools is not None)
    place.check_parts([*(tool.name for tool in outlines), *(kind.name for kind in late)])
    targets = [_core_target(config, core, place), *(_tool_target(tool) for tool in outlines)]
    check_weights(files, targets)
    parameters = {"llm": _parameters(core.llm)}
    _load_core(files, config, core, place)
    claimed = tuple(prefix for target in targets for prefix in target.owned)
    claimed += tuple(kind.checkpoint_prefix for kind in late)
    sizes = {type(tool): _parameters(tool.decoder) for tool in outlines}
    sizes |= {kind: files.count(kind.checkpoint_prefix) for kind in late}
    loaded = _lazy_tools(files, config, {kind: sizes[kind] for kind in chosen if kind in sizes}, place)
    return Model(
        config=config,
        tokenizer=tokenizer,
        core=core,
        tools=loaded if lazy or place.offload else dict(loaded),
        unclaimed=tuple(prefix for prefix in files.prefixes() if not prefix.startswith(claimed)),
        placement=place,
        parameters=parameters,
    )


def _lazy_tools(
    files: WeightFiles, config: ModelConfig, sizes: Mapping[ToolClass, int], place: Placement
) -> LazyTools:
    """Tools by class and number of parameters; each gets its weights on first use."""
    kinds = {
        kind.name: LazyKind(
            kind=kind,
            device=place.decoder(kind.name).device,
            parameters=size,
            build=partial(_load_tool, files, config, kind, place),
        )
        for kind, size in sizes.items()
    }
    return LazyTools(kinds, offload=place.offload)


def _parameters(module: torch.nn.Module) -> int:
    """Number of values that a module's parameters hold."""
    return sum(parameter.numel() for parameter in module.parameters())


def _tokenizer(folder: Path, config: ModelConfig) -> TextTokenizer:
    tokenizer = TextTokenizer.from_folder(folder, legacy_spacing=config.sdk.legacy_spacing)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            "the tokenizer has more tokens than the language model",
            value=tokenizer.vocab_size,
            limit=config.vocab_size,
            remedy="Take config.json and the tokenizer from one and the same download.",
        )
    return tokenizer


def _load_core(files: WeightFiles, config: ModelConfig, core: VisionLLMCore, place: Placement) -> None:
    """Load the language side, which has no memory yet."""
    where = place.language()
    if place.quantization:
        with torch.device("meta"):
            quantise(core.llm, place.quantization, where.dtype)
    load_weights(files, [_core_target(config, core, place)])
    _materialize_buffers(core, where.device)
    core.eval()
    if place.dtype is None:
        hurry(core, products=config.sdk.quick_products)
    if place.compiled:
        core.step = CompiledStep(core.llm)


def _load_tool(files: WeightFiles, config: ModelConfig, kind: ToolClass, place: Placement) -> AnyTool:
    """A tool with its weights."""
    where = place.decoder(kind.name)
    with torch.device("meta") if where.device.type == "meta" else ParametersStayEmpty():
        (tool,) = _build_tools(config, ToolRegistry([kind]), required=True)
    load_weights(files, [_tool_target(tool, where)])
    if place.dtype is None:
        hurry(tool.decoder, products=config.sdk.quick_products)
    if place.compiled:
        compile_in_place(tool.compiled_parts())
    return tool


def _build_tools(config: ModelConfig, registry: ToolRegistry, *, required: bool) -> list[AnyTool]:
    """The tools that the configuration describes."""
    built: list[AnyTool] = []
    released = config.to_released()
    for kind in registry:
        with naming(f"what describes the tool {kind.name!r}"):
            tool = kind.from_config(released)
        if tool is None and required:
            raise ToolError(
                "this checkpoint has no decoder for the tool",
                value=kind.name,
                remedy="Leave the tool out, or use a checkpoint that was trained with it.",
            )
        if tool is not None:
            tool.decoder.eval()
            built.append(tool)
    return built


def _core_target(config: ModelConfig, core: VisionLLMCore, place: Placement | None = None) -> Target:
    where = place.language() if place else None
    return Target(
        module=core,
        owned=_CORE_PREFIXES,
        table=core_key_table(config),
        device=where.device if where else torch.device("cpu"),
        dtype=where.dtype if where else None,
        makers=quantised_makers() if place and place.quantization else {},
    )


def _tool_target(tool: AnyTool, place: Place | None = None) -> Target:
    return Target(
        module=tool.decoder,
        prefix=tool.checkpoint_prefix,
        owned=(tool.checkpoint_prefix,),
        table=tool.key_table() or KeyTable(),
        device=place.device if place else torch.device("cpu"),
        dtype=place.dtype if place else None,
    )


def _materialize_buffers(core: VisionLLMCore, device: torch.device) -> None:
    """Compute the buffers that no checkpoint stores: they were built without memory."""
    if device.type == "meta":
        return
    core.llm.model.rotary_emb = LlamaRotaryEmbedding(core.llm.config).to(device)
    for name, module in core.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is None or not buffer.is_meta:
                continue
            if key != "position_ids":
                raise CheckpointError(
                    "a buffer is neither stored nor known how to compute",
                    value=f"{name}.{key}",
                    remedy="Report this with the version of the transformers package.",
                )
            positions = torch.arange(buffer.shape[-1], device=device)
            module.register_buffer(key, positions.expand(buffer.shape), persistent=False)
