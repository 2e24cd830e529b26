"""Text to token ids and back: a sentencepiece model plus added control tokens.

A prompt is a sequence of *parts*: plain strings and :class:`Control` tokens. Only a ``Control`` part becomes
a control token; a string that merely spells ``[DET]`` is encoded as ordinary text. Spacing equals the
released slow tokenizer: text between control tokens is stripped at those tokens and encoded segment by
segment, and ``<image>`` splits the text without stripping.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

import sentencepiece

from visionllm_sdk.errors import CheckpointError, ConfigError
from visionllm_sdk.model.documents import read_object

IMAGE, PATCH, REGION = "<image>", "<im_patch>", "<region>"
CONTROL_TOKENS = (
    "[PAD]", IMAGE, PATCH, REGION, "<img>", "</img>", "<reg>", "</reg>", "<det>", "</det>", "<grd>", "</grd>",
    "[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]",
    "[EMB]", "[EMB2]", "[EMB3]", "[EMB4]", "[EMB5]", "[EMB6]", "[EMB7]", "[EMB8]",
)  # fmt: skip
"""The added tokens in their released order."""

# Prepended, and cut off again, to encode text without a word-start mark. A line break never merges with text.
_GUARD = "\n"
_NO_SPACE_BEFORE = tuple(",.;:?!)]}'\"%")
_NO_SPACE_AFTER = tuple("([{\"'\n ")


@dataclass(frozen=True, slots=True)
class Control:
    """A control token in a prompt; strings never become one."""

    text: str


Part = str | Control
MarkedPart = tuple[Part, bool]
"""A part and whether the language loss supervises it."""


class TextTokenizer:
    """Sentencepiece model and control tokens.

    Args:
        model: serialised sentencepiece model.
        added: id of every token beyond the sentencepiece vocabulary.
        legacy_spacing: encode the text after a control token with a word-start mark, as released.

    Raises:
        CheckpointError: the model cannot be read.
        ConfigError: an added id lies inside the sentencepiece vocabulary or occurs twice.
    """

    def __init__(self, model: bytes, added: Mapping[str, int], *, legacy_spacing: bool = True) -> None:
        self._model = model
        self._sentencepiece = sentencepiece.SentencePieceProcessor()
        try:
            self._sentencepiece.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise CheckpointError(
                f"tokenizer.model is not a sentencepiece model: {error}", remedy="Download it again."
            ) from error
        self.legacy_spacing = legacy_spacing
        self.added = dict(sorted(added.items(), key=lambda item: item[1]))
        self._ids = {"<s>": self.bos_id, "</s>": self.eos_id, **self.added}
        self._texts = {index: text for text, index in self._ids.items()}
        self._check_ids()
        spellings = sorted(self._ids, key=len, reverse=True)
        self._spelled = re.compile("(" + "|".join(re.escape(text) for text in spellings) + ")")

    def _check_ids(self) -> None:
        pieces = self._sentencepiece.GetPieceSize()
        inside = {
            text: index
            for text, index in self.added.items()
            if index < pieces and self._sentencepiece.IdToPiece(index) != text
        }
        if inside and not all(self._is_placeholder(index) for index in inside.values()):
            raise ConfigError(
                "added tokens take ids of the sentencepiece vocabulary",
                value=inside,
                limit=f"ids from {pieces}",
                remedy="Use the added_tokens.json that belongs to this tokenizer.model.",
            )
        if len(self._texts) != len(self._ids):
            raise ConfigError(
                "two added tokens have the same id", value=self.added, remedy="Correct added_tokens.json."
            )

    def _is_placeholder(self, index: int) -> bool:
        # InternLM2 reserves pieces inside its vocabulary for later control tokens.
        return str(self._sentencepiece.IdToPiece(index)).startswith("[UNUSED_TOKEN")

    @property
    def vocab_size(self) -> int:
        """Number of ids: the highest one plus one."""
        return max(self._sentencepiece.GetPieceSize(), *(index + 1 for index in self._ids.values()))

    @property
    def bos_id(self) -> int:
        """Id of ``<s>``."""
        return int(self._sentencepiece.bos_id())

    @property
    def eos_id(self) -> int:
        """Id of ``</s>``."""
        return int(self._sentencepiece.eos_id())

    @property
    def pad_id(self) -> int:
        """Id used for padding: ``<unk>``, not ``[PAD]``, as released."""
        return int(self._sentencepiece.unk_id())

    def has_control(self, text: str) -> bool:
        """Whether the vocabulary has this control token."""
        return text in self._ids

    def control_id(self, text: str) -> int:
        """Id of a control token.

        Raises:
            ConfigError: the vocabulary lacks it.
        """
        if text not in self._ids:
            raise ConfigError(
                "the tokenizer has no such control token",
                value=text,
                remedy="Use a checkpoint that was trained with it, or add it first.",
            )
        return self._ids[text]

    def control_text(self, index: int) -> str | None:
        """Spelling of a control token id; None for an ordinary id."""
        return self._texts.get(index)

    def with_controls(self, texts: Iterable[str]) -> TextTokenizer:
        """A tokenizer with further control tokens at the end of the vocabulary; known ones keep their ids."""
        added, size = dict(self.added), self.vocab_size
        for text in texts:
            if text not in self._ids and text not in added:
                added[text] = size
                size += 1
        return TextTokenizer(self._model, added, legacy_spacing=self.legacy_spacing)

    # -- encoding ------------------------------------------------------------------------------------------

    def encode_user_text(self, text: str) -> list[int]:
        """Ids of plain text, without ``<s>``. Whatever it spells, no control token comes out."""
        return list(self._sentencepiece.Encode(text))

    def encode_template(self, template: str) -> list[int]:
        """Ids of a layout of our own, in which control tokens are spelled out. Never for a user's text."""
        return self.encode([(part, False) for part in self.parse_template(template)])[0]

    def parse_template(self, template: str) -> list[Part]:
        """Split a layout of our own into strings and control tokens. Never for a user's text."""
        pieces = self._spelled.split(template)
        return [Control(piece) if piece in self._ids else piece for piece in pieces if piece]

    def encode(self, parts: Sequence[MarkedPart]) -> tuple[list[int], list[bool]]:
        """Ids of a prompt, and which of them the language loss supervises.

        Args:
            parts: strings and control tokens with their marks. Neighbouring strings are encoded as one text.

        Returns:
            Ids without ``<s>``, and one mark per id. A token across a border of marks takes the left mark.

        Raises:
            ConfigError: an unknown control token.
        """
        ids: list[int] = []
        marks: list[bool] = []
        runs = _runs(parts)
        for position, run in enumerate(runs):
            if isinstance(run, _ControlRun):
                ids.append(self.control_id(run.text))
                marks.append(run.mark)
                continue
            before = runs[position - 1] if position else None
            after = runs[position + 1] if position + 1 < len(runs) else None
            run_ids, run_marks = self._encode_run(run, before, after)
            ids += run_ids
            marks += run_marks
        return ids, marks

    def _encode_run(
        self, run: _TextRun, before: _TextRun | _ControlRun | None, after: _TextRun | _ControlRun | None
    ) -> tuple[list[int], list[bool]]:
        text = "".join(piece for piece, _ in run.pieces)
        kept = text.lstrip() if _strips(before) else text
        offset = len(kept) - len(text)  # where a character stands after stripping
        kept = kept.rstrip() if _strips(after) else kept
        if not kept:
            return [], []
        bare = isinstance(before, _ControlRun) and before.text not in _STARTS_TEXT and not self.legacy_spacing
        ids = self._encode_segment(kept, bare=bare)
        marks: list[bool] = []
        for piece, mark in run.pieces:
            offset += len(piece)
            border = len(ids)
            if 0 <= offset < len(kept):
                border = _common_prefix(self._encode_segment(kept[:offset], bare=bare), ids)
            marks += [mark] * (border - len(marks) if offset > 0 else 0)
        return ids, marks

    def _encode_segment(self, text: str, *, bare: bool) -> list[int]:
        if not bare:
            return list(self._sentencepiece.Encode(text))
        guard = len(self._sentencepiece.Encode(_GUARD))
        return list(self._sentencepiece.Encode(_GUARD + text))[guard:]

    # -- decoding ------------------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int], *, controls: bool = False) -> str:
        """Text of ids.

        Args:
            ids: token ids.
            controls: spell control tokens out; otherwise they are left out and the words around them joined
                with a space, except before punctuation (the released spacing does not record it).
        """
        text = ""
        pending: list[int] = []
        after_control = False
        for index in [*ids, None]:
            control = self._texts.get(index) if index is not None else ""
            if control is None and index is not None:
                pending.append(index)
                continue
            segment = self.decode_segment(pending)
            pending = []
            text += ("" if controls or not after_control else joint(text, segment)) + segment
            text += control if controls and control else ""
            after_control = bool(control) or (after_control and not segment)
        return text

    def decode_segment(self, ids: Sequence[int]) -> str:
        """Text of ordinary ids alone; bytes that do not yet form a character come out as U+FFFD."""
        pieces = self._sentencepiece.GetPieceSize()
        return str(self._sentencepiece.Decode([index for index in ids if index < pieces])) if ids else ""

    def surface(self, index: int) -> bytes | None:
        """What an ordinary id adds to a text, in UTF-8; None for control tokens and ids without a text."""
        model = self._sentencepiece
        if index in self._texts or index >= model.GetPieceSize():
            return None
        if model.IsControl(index) or model.IsUnknown(index) or model.IsUnused(index):
            return None
        piece = str(model.IdToPiece(index))
        return bytes([int(piece[1:-1], 16)]) if model.IsByte(index) else piece.replace("▁", " ").encode()

    # -- files ---------------------------------------------------------------------------------------------

    @classmethod
    def from_folder(cls, folder: Path, *, legacy_spacing: bool = True) -> Self:
        """Read ``tokenizer.model`` and the added tokens of a checkpoint folder.

        Raises:
            CheckpointError: a file is missing or unreadable.
        """
        path = folder / "tokenizer.model"
        if not path.is_file():
            raise CheckpointError(
                "the checkpoint folder holds no tokenizer.model",
                value=str(folder),
                remedy="Check that the download is complete.",
            )
        added = read_object(folder / "added_tokens.json") or {}
        decoder = (read_object(folder / "tokenizer_config.json") or {}).get("added_tokens_decoder", {})
        declared = {entry["content"]: int(index) for index, entry in decoder.items()}
        tokens = {text: index for text, index in {**declared, **added}.items() if text not in _BUILT_IN}
        return cls(path.read_bytes(), tokens, legacy_spacing=legacy_spacing)

    def save(self, folder: Path) -> None:
        """Write the files of the released form."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.model").write_bytes(self._model)
        _write_json(folder / "added_tokens.json", self.added)
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
        _write_json(folder / "special_tokens_map.json", special)
        settings = {"tokenizer_class": "LlamaTokenizer", "legacy": self.legacy_spacing, **special}
        _write_json(folder / "tokenizer_config.json", settings)


_BUILT_IN = frozenset({"<s>", "</s>", "<unk>"})
_STARTS_TEXT = frozenset({IMAGE, "<s>"})
_SPLITS_ONLY = frozenset({IMAGE, "<s>", "</s>"})


@dataclass(frozen=True, slots=True)
class _ControlRun:
    text: str
    mark: bool


@dataclass(frozen=True, slots=True)
class _TextRun:
    pieces: tuple[tuple[str, bool], ...]


def _runs(parts: Sequence[MarkedPart]) -> list[_TextRun | _ControlRun]:
    """Join neighbouring strings: they are encoded as one text, as if the prompt had been one string."""
    runs: list[_TextRun | _ControlRun] = []
    for part, mark in parts:
        if isinstance(part, Control):
            runs.append(_ControlRun(part.text, mark))
        elif runs and isinstance(runs[-1], _TextRun):
            runs[-1] = _TextRun((*runs[-1].pieces, (part, mark)))
        else:
            runs.append(_TextRun(((part, mark),)))
    return runs


def _strips(neighbour: _TextRun | _ControlRun | None) -> bool:
    return isinstance(neighbour, _ControlRun) and neighbour.text not in _SPLITS_ONLY


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def joint(left: str, right: str) -> str:
    """The space to put between two pieces of text that a control token stood between."""
    if not left or not right or right[0].isspace():
        return ""
    return "" if right.startswith(_NO_SPACE_BEFORE) or left.endswith(_NO_SPACE_AFTER) else " "


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
