"""From a checkpoint folder to a running model, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from visionllm_sdk.errors import CheckpointError, ToolError
from visionllm_sdk.model.checkpoint import Target, WeightFiles, check_weights, load_weights, save_weights
from visionllm_sdk.model.config import ModelConfig, read_config
from visionllm_sdk.model.conversation import conversation_format
from visionllm_sdk.model.core import TABLE_PREFIX, VisionLLMCore, build_core
from visionllm_sdk.model.keys import KeyTable, core_key_table
from visionllm_sdk.model.lazy import LazyTools
from visionllm_sdk.model.prompt import PromptBuilder, TiledImage
from visionllm_sdk.model.session import image_key
from visionllm_sdk.model.tiling import cut_tiles, tile_array
from visionllm_sdk.model.tokenizer import TextTokenizer
from visionllm_sdk.tool import RoutedTool, ToolClass, ToolRegistry

_CORE_PREFIXES = ("vis_encoder.", "vl_bridge.", "region_encoder.", "llm.", TABLE_PREFIX)
AnyTool = RoutedTool[Any, Any]


class Placement(NamedTuple):
    """Where weights go, and in which number format (None: as stored)."""

    device: torch.device
    dtype: torch.dtype | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Model:
    """Everything that a checkpoint holds, running.

    Attributes:
        config: numbers.
        tokenizer: text to ids and back.
        core: the language side.
        tools: loaded routed tools by name.
        unclaimed: key prefixes of the files that neither the core nor a loaded tool uses.
    """

    config: ModelConfig
    tokenizer: TextTokenizer
    core: VisionLLMCore
    tools: Mapping[str, AnyTool]
    unclaimed: tuple[str, ...] = ()

    @property
    def registry(self) -> ToolRegistry:
        """The classes of the loaded tools."""
        if isinstance(self.tools, LazyTools):
            return ToolRegistry(self.tools.kinds.values())
        return ToolRegistry([type(tool) for tool in self.tools.values()])

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
        config = self.config
        tiles = cut_tiles(image, max_tiles=config.max_tiles, tile_size=config.image_size)
        pixels = torch.from_numpy(tile_array(tiles, mean=config.image_mean, std=config.image_std))
        return TiledImage(pixels, key=image_key(pixels))

    def save(self, folder: Path, *, dtype: torch.dtype | None = None, shard_bytes: int | None = None) -> None:
        """Write config.json, tokenizer and weights in the released form.

        Args:
            folder: is created.
            dtype: number format of floating tensors in the files; None keeps the modules'.
            shard_bytes: most bytes of one file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "config.json", self.config.to_released())
        normalisation = {
            "crop_size": {"height": self.config.image_size, "width": self.config.image_size},
            "image_mean": self.config.image_mean,
            "image_std": self.config.image_std,
        }
        _write(folder / "preprocessor_config.json", normalisation)
        self.tokenizer.save(folder)
        targets = _targets(self.config, self.core, self.tools.values(), Placement(torch.device("cpu"), None))
        if shard_bytes is None:
            save_weights(folder, targets, dtype=dtype)
        else:
            save_weights(folder, targets, dtype=dtype, shard_bytes=shard_bytes)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def default_dtype(device: torch.device) -> torch.dtype:
    """float32 on the CPU, bfloat16 elsewhere."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def load_model(
    folder: Path,
    *,
    registry: ToolRegistry,
    tools: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    lazy: bool = False,
) -> Model:
    """Load a checkpoint folder.

    Args:
        folder: config.json, tokenizer.model, safetensors.
        registry: tool classes at hand.
        tools: names of the tools to load; None loads all that the checkpoint has decoders for.
        device: where everything goes.
        dtype: number format; None takes float32 on the CPU and bfloat16 elsewhere.
        lazy: build each tool's decoder when it is first used; its keys are checked now.

    Raises:
        CheckpointError: a file is absent, broken, or does not fit.
        ConfigError: config.json is not usable.
        ToolError: a tool was asked for that is unknown or that the checkpoint has no decoder for.
    """
    device = torch.device(device)
    config = read_config(folder)
    tokenizer = TextTokenizer.from_folder(folder, legacy_spacing=config.sdk.legacy_spacing)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            "the tokenizer has more tokens than the language model",
            value=tokenizer.vocab_size,
            limit=config.vocab_size,
            remedy="Take config.json and the tokenizer from one and the same download.",
        )
    files = WeightFiles(folder)
    with torch.device("meta"):
        core = build_core(config, tokenizer)
    chosen = registry if tools is None else registry.select(tools)
    place = Placement(device, dtype or default_dtype(device))
    loaded = _build_tools(config, chosen, required=tools is not None, hollow=lazy)
    targets = _targets(config, core, loaded, place)
    check_weights(files, targets)
    load_weights(files, targets[:1] if lazy else targets)
    _materialize_buffers(core, device)
    core.eval()
    claimed = [prefix for target in targets for prefix in target.owned]
    unclaimed = tuple(prefix for prefix in files.prefixes() if not prefix.startswith(tuple(claimed)))
    return Model(
        config=config,
        tokenizer=tokenizer,
        core=core,
        tools=_lazy(config, files, loaded, place) if lazy else {tool.name: tool for tool in loaded},
        unclaimed=unclaimed,
    )


def _lazy(config: ModelConfig, files: WeightFiles, known: Sequence[AnyTool], place: Placement) -> LazyTools:
    """The tools of these kinds, each built and loaded when it is first used."""

    def build(kind: ToolClass) -> AnyTool:
        (tool,) = _build_tools(config, ToolRegistry([kind]), required=True)
        load_weights(files, [_tool_target(tool, place)])
        return tool

    return LazyTools([type(tool) for tool in known], build)


def _build_tools(
    config: ModelConfig, registry: ToolRegistry, *, required: bool, hollow: bool = False
) -> list[AnyTool]:
    """The tools that the configuration describes; hollow ones have shapes but no memory."""
    built: list[AnyTool] = []
    released = config.to_released()
    for kind in registry:
        with torch.device("meta") if hollow else nullcontext():
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


def _targets(
    config: ModelConfig,
    core: VisionLLMCore,
    tools: Iterable[AnyTool],
    place: Placement,
) -> list[Target]:
    """The core first, then the tools."""
    table = core_key_table(config)
    whole = Target(module=core, owned=_CORE_PREFIXES, table=table, device=place.device, dtype=place.dtype)
    return [whole, *(_tool_target(tool, place) for tool in tools)]


def _tool_target(tool: AnyTool, place: Placement) -> Target:
    prefix = tool.checkpoint_prefix
    table = tool.key_table() or KeyTable()
    return Target(
        module=tool.decoder,
        prefix=prefix,
        owned=(prefix,),
        table=table,
        device=place.device,
        dtype=place.dtype,
    )


def _materialize_buffers(core: VisionLLMCore, device: torch.device) -> None:
    """Compute the buffers that no checkpoint stores: they were built without memory."""
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
