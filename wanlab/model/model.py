"""The model: encode, velocity, decode. Each part is loaded when it is first needed, so a stored run replays without weights."""

from __future__ import annotations

import contextlib
import threading
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor, nn
from transformers import AutoTokenizer, UMT5EncoderModel
from transformers.utils import logging

from wanlab.errors import SettingsError
from wanlab.model import checkpoint
from wanlab.settings import ModelSettings

TOKENS = 512  # Wan pads every prompt to this length and attends to all of it
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Within, transformers shows no bar of its own, whose widget would stay in a saved notebook."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class Model:
    """Weights of a Wan2.1 text-to-video checkpoint, on one device."""

    def __init__(self, settings: ModelSettings, found: checkpoint.Checkpoint) -> None:
        self.settings, self.checkpoint = settings, found
        self.device, self.dtype = torch.device(settings.device), _DTYPES[settings.base_precision]
        self._embeddings: dict[str, Tensor] = {}
        self._decoding = threading.Lock()  # the VAE keeps its history on itself

    @property
    def id(self) -> str:
        """Who this model is, for the names of steps."""
        return checkpoint.model_id(self.checkpoint, self.settings)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return AutoTokenizer.from_pretrained(self.checkpoint.folder / "tokenizer")

    @cached_property
    def text_encoder(self) -> UMT5EncoderModel:
        """The text encoder."""
        with _no_progress_bar():
            return self._ready(UMT5EncoderModel.from_pretrained(self.checkpoint.folder / "text_encoder", dtype=self.dtype))

    @cached_property
    def transformer(self) -> WanTransformer3DModel:
        """The transformer."""
        return self._ready(WanTransformer3DModel.from_pretrained(self.checkpoint.folder / "transformer", dtype=self.dtype))

    @cached_property
    def vae(self) -> AutoencoderKLWan:
        """The VAE, in float32: in bfloat16 its error is a hundred times larger."""
        return self._ready(AutoencoderKLWan.from_pretrained(self.checkpoint.folder / "vae", dtype=torch.float32))

    def _ready(self, module: Any) -> Any:
        module.requires_grad_(False).eval().to(self.device)
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()  # aligned: a mapped file's addresses move results by about 2e-6
        return module

    def reset(self) -> None:
        """Forget what a technique may have left on the transformer in an interrupted run."""
        if "transformer" in self.__dict__:
            self.transformer._reset_stateful_cache()

    def check(self, text: str, setting: str = "prompt") -> None:
        """Raise SettingsError for a text longer than the encoder reads (diffusers would cut it off silently)."""
        text = prompt_clean(text)
        if len(unicodedata.normalize("NFKC", text).encode()) + 2 > TOKENS:  # a token has at least a byte; one ends the text
            length = len(self.tokenizer(text).input_ids)
            if length > TOKENS:
                raise SettingsError(f"{setting} has {length} tokens; the text encoder reads {TOKENS}. Shorten it.")

    @torch.inference_mode()
    def encode(self, text: str) -> Tensor:
        """The text as the transformer reads it, (1, 512, d), zeros after its end; kept, so that a prompt is encoded once.

        Raises SettingsError as `check` does.
        """
        if text not in self._embeddings:
            self.check(text)
            batch = self.tokenizer([prompt_clean(text)], padding="max_length", max_length=TOKENS, return_tensors="pt")
            states = self.text_encoder(batch.input_ids.to(self.device), batch.attention_mask.to(self.device)).last_hidden_state
            states[:, int(batch.attention_mask.sum()) :] = 0
            self._embeddings[text] = states.to(self.dtype)
        return self._embeddings[text]

    @torch.inference_mode()
    def velocity(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """The predicted velocity, noise - clean: (1, 16, t, h, w) in the model's dtype, from latents of the same shape."""
        return self.transformer(
            hidden_states=latents.to(self.device, self.dtype),
            timestep=timestep.to(self.device).expand(len(latents)),
            encoder_hidden_states=text,
            return_dict=False,
        )[0]

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Frames (t, h, w, 3) uint8 of normalised latents (1, 16, t, h, w) float32."""
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(self.vae.config.latents_mean, device=self.device).view(shape)
        scale = 1.0 / torch.tensor(self.vae.config.latents_std, device=self.device).view(shape)
        with self._decoding:
            try:
                clip = self.vae.decode(latents.to(self.device) / scale + mean, return_dict=False)[0]
            finally:
                self.vae.clear_cache()
        return ((clip[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu().numpy()

    def parameters(self, part: str) -> int:
        """Number of parameters of "text_encoder", "transformer" or "vae"."""
        module: nn.Module = getattr(self, part)
        return sum(weight.numel() for weight in module.parameters())
