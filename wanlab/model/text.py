"""The text encoder of a model: prompts into what the transformer reads. Kept in the kernel and on the disk.

It is by far the largest part of Wan (UMT5-XXL: 11 GB in bf16) and works for a second. So a prompt that was read before needs no
encoder; and with text_encoder_device "process" it is loaded in a process of its own, which ends after the prompts and
gives all of its memory back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor
from transformers import UMT5EncoderModel

from wanlab.errors import ModelError, SettingsError
from wanlab.model.embeddings import EmbeddingStore
from wanlab.outline import TEXT_TOKENS
from wanlab.placement.moving import resting
from wanlab.settings import ModelSettings


class TextEncoder:
    """Embeds texts. `load` and `load_tokenizer` read the files when they are first needed, `keep` gives a store on the disk."""

    def __init__(
        self,
        load: Callable[[], UMT5EncoderModel],
        load_tokenizer: Callable[[], Any],
        settings: ModelSettings,
        dtype: torch.dtype,
        keep: Callable[[], EmbeddingStore | None],
    ) -> None:
        self.settings, self.dtype, self._load, self._load_tokenizer = settings, dtype, load, load_tokenizer
        self._keep, self._embeddings = keep, dict[str, Tensor]()
        self.device = torch.device(settings.load_device)
        self._reading = threading.Lock()  # a tokenizer that is asked by two threads at once raises "Already borrowed"

    @cached_property
    def _kept(self) -> EmbeddingStore | None:
        return self._keep()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self._load_tokenizer()

    @cached_property
    def module(self) -> UMT5EncoderModel:
        """The weights."""
        with torch.inference_mode(False):  # weights made in inference mode could not be moved later
            return self._load()

    @property
    def computes_on(self) -> torch.device:
        """Where the weights are while they compute."""
        elsewhere = self.settings.text_encoder_device
        return self.device if elsewhere in ("", "process") else torch.device(elsewhere)

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "module" in self.__dict__

    def check(self, text: str, setting: str = "prompt") -> None:
        """Raise SettingsError for a text longer than the encoder reads (diffusers would cut it off silently)."""
        text = prompt_clean(text)
        # A token has at least a byte; one ends the text.
        if len(unicodedata.normalize("NFKC", text).encode()) + 2 > TEXT_TOKENS:
            with self._reading:
                length = len(self.tokenizer(text).input_ids)
            if length > TEXT_TOKENS:
                raise SettingsError(f"{setting} has {length} tokens; the text encoder reads {TEXT_TOKENS}. Shorten it.")

    def encode(self, text: str) -> Tensor:
        """The text as the transformer reads it, (1, 512, d), zeros after its end. Raises SettingsError as `check` does."""
        if text not in self._embeddings:
            self.prepare([text])
        return self._embeddings[text]

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed those of the texts that are not known yet, in one go."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._embeddings and not self._recalled(text)]
        if unknown and self.settings.text_encoder_device == "process" and self._kept is not None:
            for text in unknown:
                self.check(text)
            _encode_in_a_process(self.settings, self._kept, unknown)
            lost = [text for text in unknown if not self._recalled(text)]
            if lost:
                raise ModelError(
                    f"The text encoder's process left no embedding of {lost[0]!r}; take text_encoder_device 'cpu'."
                )
            return
        for text in unknown:
            self._embeddings[text] = self._computed(text)
            if self._kept is not None:
                self._kept.put(text, self._embeddings[text])

    def _recalled(self, text: str) -> bool:
        """Take the embedding from the disk, if it is there."""
        found = None if self._kept is None else self._kept.get(text)
        if found is not None:
            self._embeddings[text] = found.to(self.device)
        return found is not None

    @torch.inference_mode()
    def _computed(self, text: str) -> Tensor:
        self.check(text)
        with self._reading:
            batch = self.tokenizer([prompt_clean(text)], padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt")
        with resting(self.module, self.computes_on, self.settings.force_offload):
            ids, mask = batch.input_ids.to(self.computes_on), batch.attention_mask.to(self.computes_on)
            states = self.module(ids, mask).last_hidden_state
        states[:, int(batch.attention_mask.sum()) :] = 0
        return states.to(self.device, self.dtype)

    def unload(self) -> None:
        """Let go of the weights; embedded texts stay."""
        self.__dict__.pop("module", None)


def _encode_in_a_process(settings: ModelSettings, kept: EmbeddingStore, texts: Sequence[str]) -> None:
    """Let `python -m wanlab.model.encode` embed the texts into the store; ModelError with its last line if it fails."""
    asked = {
        "settings": settings.but({"text_encoder_device": ""}).model_dump(),
        "folder": str(kept.folder),
        "texts": list(texts),
    }
    done = subprocess.run(
        [sys.executable, "-m", "wanlab.model.encode"], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ModelError(f"The text encoder's process failed ({reason}); take text_encoder_device 'cpu', or none.")
