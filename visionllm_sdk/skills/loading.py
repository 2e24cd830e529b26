"""Where a checkpoint lies: in this package, in a local folder, or on the model hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from visionllm_sdk.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import torch

    from visionllm_sdk.model.placement import Placement

EMBEDDED = "embedded"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NEEDED = ("*.json", "tokenizer.model", "*.safetensors")
"""What is downloaded: configuration, tokenizer, weights; never code."""
_PICKLES = ("pytorch_model*.bin",)
"""What is downloaded besides if there are no safetensors: to be converted, see `converting`."""


def embedded_folder() -> Path:
    """Folder of the checkpoint that ships inside the package.

    Raises:
        CheckpointError: this installation lacks it.
    """
    folder = Path(str(files("visionllm_sdk"))) / EMBEDDED
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            "this installation holds no embedded model",
            value=str(folder),
            remedy="Reinstall visionllm-sdk, run `make embedded`, or name a checkpoint folder.",
        )
    return folder


def checkpoint_folder(name_or_path: str | os.PathLike[str] | None) -> Path:
    """The local folder of a checkpoint.

    Args:
        name_or_path: None or ``"embedded"`` for the shipped model, a local folder, or, if there is no such
            folder, the name of a repository on the model hub, ``owner/name``, which is downloaded (or taken
            from the hub's local cache).

    Raises:
        CheckpointError: no such folder, and no such repository or no way to reach it.
    """
    if name_or_path is None or name_or_path == EMBEDDED:
        return embedded_folder()
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(
            "a checkpoint is a folder, and this is a file",
            value=str(path),
            remedy="Pass the folder that holds config.json and the weights.",
        )
    name = os.fspath(name_or_path)
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointError(
            "there is no such checkpoint",
            value=name,
            limit="a folder, or a hub name like 'owner/name'",
            remedy="Check the path, or leave it out for the embedded model.",
        )
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_NEEDED)))
        if not any(folder.glob("*.safetensors")):
            # The same revision again, so that no file of another version comes in between.
            revision = folder.name
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*_NEEDED, *_PICKLES]))
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"there is no such folder, and the model hub did not deliver a repository: {reason}",
            value=name,
            remedy="Check the name and the network, or download it elsewhere and pass the folder.",
        ) from error


def torch_device(device: str | torch.device | None) -> torch.device:
    """Where to compute; the CPU if nothing is said.

    Raises:
        ConfigError: no such device here.
    """
    import torch

    try:
        chosen = torch.device("cpu" if device is None else device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"the model cannot run on this device: {reason}", value=str(device), remedy="Use device='cpu'."
        ) from error
    return chosen


class LoadingSettings(TypedDict, total=False):
    """Further settings of loading, all optional.

    Attributes:
        device_map: device by part: ``"language"``, ``"decoders"``, or the name of a tool like ``"detect"``;
            parts that it does not name go to ``device``.
        quantization: ``"int8"`` or ``"int4"`` for the language model's matrices; needs the extra ``quant``.
        offload: a decoder waits in main memory while another one is at work.
        compile: compile the decode step of single conversations and the detector on first use: takes a minute
            or more, then saves the time between kernels on a GPU.
        check: compare large files with their checksums when they are first seen; True if not given.
    """

    device_map: Mapping[str, str | torch.device]
    quantization: Literal["int8", "int4"] | None
    offload: bool
    compile: bool
    check: bool


def placement(
    device: str | torch.device | None, dtype: str | torch.dtype | None, settings: LoadingSettings
) -> Placement:
    """Where the parts of a model go.

    Raises:
        ConfigError: no such device here, an unknown number format, or an unknown setting.
    """
    from visionllm_sdk.model.placement import Placement

    unknown = sorted(set(settings) - set(LoadingSettings.__annotations__))
    if unknown:
        raise ConfigError(
            "unknown settings of loading",
            value=unknown,
            limit=", ".join(LoadingSettings.__annotations__),
            remedy="Correct the names.",
        )
    parts: object = settings.get("device_map", {})
    if not isinstance(parts, Mapping):
        raise ConfigError(
            "device_map says for each part where it goes",
            value=parts,
            limit="'language', 'decoders' or a tool's name, with a device",
            remedy="Write {'decoders': 'cuda:1'}, or use device='cuda' for everything.",
        )
    return Placement(
        device=torch_device(device),
        dtype=torch_dtype(dtype),
        parts={name: torch_device(one) for name, one in parts.items()},
        quantization=settings.get("quantization"),
        offload=settings.get("offload", False),
        compiled=settings.get("compile", False),
    )


def torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A number format by name.

    Raises:
        ConfigError: not a floating format of torch.
    """
    import torch

    chosen = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    if chosen is None or (isinstance(chosen, torch.dtype) and chosen.is_floating_point):
        return chosen
    raise ConfigError(
        "this is not a number format for weights",
        value=dtype,
        limit="float32, bfloat16, float16, float64",
        remedy="Leave it out for the format that suits the device.",
    )
