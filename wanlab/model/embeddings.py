"""Embedded prompts on the disk, so that a prompt that was read once needs no text encoder again (Wan's has 11 GB).

A file is named by the encoder, its number format and the text. It holds the embedding without the zeros behind it and a
checksum; it appears by renaming, so kernels share the folder as they share the step store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from wanlab.files import write_whole
from wanlab.names import digest


class EmbeddingStore:
    """Embeddings by text in `folder`, of the encoder with this id."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self.folder, self.encoder = folder, encoder

    def _file(self, text: str) -> Path:
        return self.folder / f"{digest(self.encoder, text)}.safetensors"

    def __contains__(self, text: str) -> bool:
        return self._file(text).exists()

    def put(self, text: str, embedding: Tensor) -> None:
        """Keep an embedding (1, n, d); raises FileError when the disk is full."""
        places = embedding[0].any(-1).nonzero()
        used = int(places.max()) + 1 if len(places) else 1  # zeros after the text's end are not written
        content = save({"embedding": embedding[:, :used].detach().cpu().contiguous()}, {"tokens": str(embedding.shape[1])})
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._file(text), hashlib.blake2b(content, digest_size=16).digest() + content, durable=False)

    def get(self, text: str) -> Tensor | None:
        """The embedding (1, n, d) on the CPU; None if there is none, or its file is damaged."""
        try:
            whole = self._file(text).read_bytes()
        except OSError:
            return None
        checksum, content = whole[:16], whole[16:]
        if hashlib.blake2b(content, digest_size=16).digest() != checksum:
            return None
        with contextlib.suppress(SafetensorError, ValueError, KeyError):
            length = int.from_bytes(content[:8], "little")
            tokens = int(json.loads(content[8 : 8 + length])["__metadata__"]["tokens"])
            kept = load(content)["embedding"]
            embedding = torch.zeros(1, tokens, kept.shape[2], dtype=kept.dtype)
            embedding[:, : kept.shape[1]] = kept
            return embedding
        return None
