"""The tokenizer within a text encoder's file: ComfyUI's umt5_xxl files carry SentencePiece's model as a tensor `spiece_model`.

SentencePiece writes a protocol buffer (its file sentencepiece_model.proto): pieces with their scores, and a table that
normalizes letters. Of that the library tokenizers makes the same tokenizer, a unigram model, so that neither sentencepiece nor
protobuf is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from wanlab.errors import ModelError
from wanlab.model.checkpoint import SPIECE
from wanlab.weights.headers import read_header

_BYTE = 6  # the type of a piece that stands for a byte
_SPACE = "\u2581"  # by which SentencePiece shows a blank


def read_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """The tokenizer within this file of a text encoder. Raises ModelError if there is none, or if it cannot be read."""
    entry = read_header(file).tensors.get(SPIECE)
    if entry is None:
        raise ModelError(
            f"{file} has no tokenizer within; give tokenizer=..., a folder with UMT5's, such as the folder tokenizer of "
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers."
        )
    with file.open("rb") as content:
        content.seek(entry.offset)
        return tokenizer_of(content.read(entry.nbytes), str(file))


def tokenizer_of(content: bytes, named: str = "spiece.model") -> PreTrainedTokenizerFast:
    """The tokenizer of a model of SentencePiece: pieces that score best together, then the end of the text."""
    try:
        pieces = [_piece(value) for number, value in _fields(content) if number == 1]
        [rules] = [dict(_fields(value)) for number, value in _fields(content) if number == 3] or [{}]
        names = [piece for piece, _, _ in pieces]
        end, pad, unknown = (names.index(name) for name in ("</s>", "<pad>", "<unk>"))
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        reason = str(error)
    else:
        vocabulary = [(piece, score) for piece, score, _ in pieces]
        of_bytes = any(kind == _BYTE for _, _, kind in pieces)
        model = tokenizers.Tokenizer(models.Unigram(vocabulary, unknown, of_bytes))
        table = rules.get(2, b"")
        steps = [normalizers.Precompiled(table)] if table else []
        # Blanks are one each, none at the ends, and one before the first word.
        blanks = [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
        model.normalizer = normalizers.Sequence([*steps, *blanks])
        model.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme="always")
        model.decoder = decoders.Metaspace(_SPACE)
        model.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", end)])
        return PreTrainedTokenizerFast(
            tokenizer_object=model, eos_token=names[end], pad_token=names[pad], unk_token=names[unknown]
        )
    raise ModelError(f"{named}: its tokenizer cannot be read ({reason}); give tokenizer=..., a folder with UMT5's.")


def _piece(content: bytes) -> tuple[str, float, int]:
    """A piece, its score, and its type: 1 for ordinary ones."""
    fields = dict(_fields(content))
    return fields[1].decode(), struct.unpack("<f", fields[2])[0] if 2 in fields else 0.0, int(fields.get(3, 1))


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message of a protocol buffer: number and value, which is a whole number, or bytes."""
    place = 0

    def number() -> int:
        nonlocal place
        found = shift = 0
        while True:
            byte = content[place]
            place += 1
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found

    while place < len(content):
        key = number()
        kind = key & 7
        if kind == 0:
            yield key >> 3, number()
            continue
        length = {1: 8, 5: 4}[kind] if kind != 2 else number()
        if place + length > len(content):
            raise ValueError("it ends too early")
        yield key >> 3, content[place : place + length]
        place += length
