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
from PIL import Image
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel
from transformers.utils import logging

from wanlab.errors import SettingsError
from wanlab.model import checkpoint
from wanlab.settings import ModelSettings
from wanlab.skips import Facts

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
    """Weights of a Wan2.1 text-to-video or image-to-video checkpoint, on one device."""

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
    def facts(self) -> Facts:
        """What the outline of a run knows of this model."""
        return checkpoint.facts_of(self.checkpoint, self.settings)

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

    @cached_property
    def image_processor(self) -> Any:
        """What makes a picture ready for CLIP vision: by Pillow, so that it does the same with and without torchvision."""
        try:
            from transformers import CLIPImageProcessorPil as Processor
        except ImportError:  # before transformers 5
            from transformers import CLIPImageProcessor as Processor
        return Processor.from_pretrained(self.checkpoint.folder / "image_processor")

    @cached_property
    def image_encoder(self) -> CLIPVisionModel:
        """CLIP vision of an image-to-video model, in float32."""
        with _no_progress_bar():
            return self._ready(CLIPVisionModel.from_pretrained(self.checkpoint.folder / "image_encoder", dtype=torch.float32))

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
    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        condition: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        """The predicted velocity, noise - clean: (b, 16, t, h, w) in the model's dtype, from latents of the same shape.

        For image-to-video models with the `condition` (b, 20, t, h, w) and the tokens of the `image` (b, n, d).
        """
        seen = latents.to(self.device, self.dtype)
        if (
            image is not None and self.transformer.config.pos_embed_seq_len
        ):  # first and last frame: two pictures, one after the other
            image = image.unflatten(1, (2, -1)).flatten(0, 1)
        return self.transformer(
            hidden_states=seen if condition is None else torch.cat([seen, condition.to(seen)], 1),
            timestep=timestep.to(self.device).expand(len(latents)),
            encoder_hidden_states=text,
            encoder_hidden_states_image=None if image is None else image.to(seen),
            return_dict=False,
        )[0]

    @torch.inference_mode()
    def encode_picture(self, picture: np.ndarray) -> Tensor:
        """What CLIP vision sees in a picture (h, w, 3) in -1..1: its tokens before the last layer, (1, n, d) float32."""
        shown = Image.fromarray(((picture + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
        pixels = self.image_processor(images=shown, return_tensors="pt").pixel_values
        return self.image_encoder(pixels.to(self.device), output_hidden_states=True).hidden_states[-2]

    @torch.inference_mode()
    def encode_video(self, video: np.ndarray) -> Tensor:
        """Normalised latents (1, 16, t, h, w) float32 of frames (4t - 3, 8h, 8w, 3) in -1..1."""
        pixels = torch.from_numpy(np.ascontiguousarray(video)).permute(3, 0, 1, 2)[None].to(self.device)
        mean, scale = self._normal
        with self._decoding:
            try:
                encoded = self.vae.encode(pixels).latent_dist.mode()
            finally:
                self.vae.clear_cache()
        return (encoded - mean) * scale

    @property
    def _normal(self) -> tuple[Tensor, Tensor]:
        """The mean of the VAE's latents, and one over their deviation, by channel."""
        shape = (1, -1, 1, 1, 1)
        mean, deviation = (
            torch.tensor(values, device=self.device).view(shape)
            for values in (self.vae.config.latents_mean, self.vae.config.latents_std)
        )
        return mean, 1.0 / deviation

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Frames (t, h, w, 3) uint8 of normalised latents (1, 16, t, h, w) float32."""
        mean, scale = self._normal
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
