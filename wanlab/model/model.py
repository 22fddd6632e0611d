"""The model: encode, velocity, decode. Each part is loaded when it is first needed, so a stored run replays without weights."""

from __future__ import annotations

import contextlib
import gc
import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionModel, UMT5EncoderModel

from wanlab.errors import SettingsError
from wanlab.lora.apply import LoraSet
from wanlab.lora.report import Report as LoraReport
from wanlab.lora.report import Sizes, measure
from wanlab.model import checkpoint, parts
from wanlab.model.attention import Available, availability
from wanlab.model.compiling import Compiles, conflicts
from wanlab.model.embeddings import EmbeddingStore
from wanlab.model.loaded import Loaded, load, lora_set
from wanlab.model.loading import Weights
from wanlab.model.text import TextEncoder
from wanlab.model.vae import Vae
from wanlab.names import digest
from wanlab.placement.moving import resting
from wanlab.placement.swap import BlockSwap
from wanlab.placement.timeline import Timeline
from wanlab.quantize.formats import unavailable
from wanlab.quantize.kinds import KINDS
from wanlab.quantize.report import Report, compare_kinds, quantization_report, stored_report
from wanlab.schedule import low_noise
from wanlab.settings import ModelSettings
from wanlab.skips import Facts
from wanlab.turn import Turn
from wanlab.weights.dtypes import PRECISIONS
from wanlab.weights.parameters import parameter_shapes


class Model:
    """Weights of a Wan text-to-video, image-to-video or VACE checkpoint, in their places.

    Wan2.2 A14B has two transformers, one for high and one for low noise (`transformer_at`). They are loaded and placed alike.

    `folder` is for what is kept on the disk: embedded prompts, and weights that wait there.
    """

    def __init__(self, settings: ModelSettings, found: checkpoint.Checkpoint, folder: Path | None = None) -> None:
        self.settings, self.checkpoint, self.folder = settings, found, folder
        self._checked = False  # whether check_loader found nothing
        self.turn = Turn()  # of the threads that compute with the transformer, or move it
        self.device, self.dtype = torch.device(settings.load_device), PRECISIONS[settings.base_precision]
        self.text = TextEncoder(
            lambda: parts.text_encoder(found, self.dtype),
            lambda: parts.tokenizer(found),
            settings,
            self.dtype,
            self._kept_texts,
        )
        self.frames = Vae(lambda: parts.vae(found, PRECISIONS[settings.vae_precision]), settings, self.device)

    @property
    def id(self) -> str:
        """Who this model is, for the names of steps."""
        return self.facts.id

    @cached_property  # a LoRA's file is looked at once: what is computed later is of that file
    def facts(self) -> Facts:
        """What the outline of a run knows of this model."""
        return checkpoint.facts_of(self.checkpoint, self.settings)

    def _kept_texts(self) -> EmbeddingStore | None:
        """Where embedded prompts are kept. Its name needs a look at the encoder's files, which a replay does without."""
        if self.folder is None:
            return None
        encoder = digest(self.checkpoint.text_fingerprint, self.settings.base_precision)
        return EmbeddingStore(self.folder / "embeddings", encoder)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.text.tokenizer

    @property
    def text_encoder(self) -> UMT5EncoderModel:
        """The text encoder."""
        return self.text.module

    @property
    def vae(self) -> AutoencoderKLWan:
        """The VAE."""
        return self.frames.module

    def check_loader(self) -> None:
        """Raise SettingsError or ModelError for what would fail when the transformer is loaded, without reading its weights."""
        if self._checked or "_loaded" in self.__dict__:
            return
        kind = self.settings.quantization
        reason = unavailable(kind, self.device) if kind != "disabled" else ""
        if reason:
            raise SettingsError(f"quantization is {kind!r}, which {reason}; take another kind, such as fp8_e4m3fn_scaled.")
        sentence = conflicts(self.settings)
        if sentence:
            raise SettingsError(sentence)
        if self.settings.loras:
            self._loras.check(parameter_shapes("transformer", self.checkpoint.transformer))
        self._checked = True

    @cached_property
    def _loras(self) -> LoraSet:
        return lora_set(self.settings)

    @cached_property
    def _loaded(self) -> tuple[Loaded, ...]:
        """The transformers in the order in which a run needs them."""
        scratch = (self.folder or Path(tempfile.gettempdir())) / "scratch"
        loaded: list[Loaded] = []
        with self.turn.taken(), contextlib.ExitStack() as undo:
            for part, expert in zip(self.checkpoint.transformers, ("high", "low"), strict=False):
                loaded.append(load(self.checkpoint, self.settings, self._loras.of(expert), scratch, part=part))
                undo.callback(loaded[-1].unload)
            undo.pop_all()
        return tuple(loaded)

    def load(self) -> None:
        """Read the weights of the transformers, if they are not here yet."""
        _ = self._loaded

    def _at(self, timestep: float | Tensor) -> Loaded:
        return self._loaded[int(low_noise(float(timestep), self.checkpoint.boundary))]

    @property
    def transformer(self) -> WanTransformer3DModel:
        """The transformer; of two that of high noise."""
        return self._loaded[0].transformer

    def transformer_at(self, timestep: float | Tensor) -> WanTransformer3DModel:
        """The transformer that predicts at this timestep: the second one below `boundary_ratio` of them, if there are two."""
        return self._at(timestep).transformer

    @cached_property
    def image_processor(self) -> Any:
        """What makes a picture ready for CLIP vision."""
        return parts.image_processor(self.checkpoint)

    @cached_property
    def image_encoder(self) -> CLIPVisionModel:
        """CLIP vision of an image-to-video model, in float32."""
        with torch.inference_mode(False):
            return parts.image_encoder(self.checkpoint)

    @property
    def blocks_swapped(self) -> int:
        """How many blocks of each transformer wait elsewhere and visit the device for their own computation."""
        return self._loaded[0].blocks_swapped

    @property
    def swap(self) -> BlockSwap | None:
        """What moves the swapped blocks, with its counters; None if none are swapped. Of two transformers the first one's."""
        return self._loaded[0].swap

    @contextlib.contextmanager
    def block_timeline(self) -> Iterator[Timeline]:
        """Within, it is recorded what each block waits, copies and computes: `timeline.show()`. Needs swapped blocks."""
        if self.swap is None:
            raise SettingsError("blocks_to_swap is 0; without swapped blocks there is no timeline of their copies.")
        with self.swap.record() as timeline:
            yield timeline

    @property
    def compiles(self) -> Compiles:
        """What torch.compile has made for this model so far: graphs, recompiles, seconds."""
        loaded = self._loaded if "_loaded" in self.__dict__ else ()
        return Compiles(tuple(each for one in loaded if one.compiled for each in one.compiled.compiles.all))

    def attention_modes(self) -> Available:
        """Every way to compute attention, whether it works here, and why not."""
        config = self.checkpoint.transformer
        return availability(self.device, self.dtype, config["num_attention_heads"], config["attention_head_dim"])

    def quantization_report(self, *kinds: str) -> Report:
        """What quantization does to each layer: in this model as it is, or with `kinds` what each of these would do.

        Errors are relative to the weights in the file; if these are quantized themselves they are not known. Of two
        transformers it is about that of high noise.
        """
        weights = Weights(self.checkpoint.parts["transformer"])
        if kinds:
            return compare_kinds(weights, kinds)
        if self.settings.offload_device == "disk" and self.blocks_swapped:  # these blocks are not in memory
            asked = self.settings.quantization
            return compare_kinds(weights, [asked]) if weights and asked in KINDS else stored_report(weights.quantized())
        return quantization_report(self.transformer, weights.get)

    @property
    def lora_report(self) -> LoraReport | None:
        """What of each LoRA file is used, what is not, and why; None without LoRAs."""
        shapes = parameter_shapes("transformer", self.checkpoint.transformer)
        return self._loras.check(shapes) if self.settings.loras else None

    def lora_sizes(self) -> Sizes:
        """How large the changes of the LoRAs are beside the weights, by block; of two transformers beside the first one's."""
        return measure(self._loras, Weights(self.checkpoint.parts["transformer"]).get)

    def set_loras(self, step: int, factor: float) -> None:
        """Give the LoRAs that are not merged their strengths on this step of the schedule, times a factor."""
        for one in self._loaded:
            if one.loras:
                one.loras.set_step(step, factor)

    def reset(self) -> None:
        """Forget what a technique may have left on the transformer in an interrupted run."""
        for one in self.__dict__.get("_loaded", ()):
            one.transformer._reset_stateful_cache()

    def unload(self) -> None:
        """Let go of all weights. They are read again when they are next needed."""
        with self.turn.taken():
            self._unload_transformers()
        self.text.unload()
        self.frames.unload()
        self.__dict__.pop("image_encoder", None)
        self.__dict__.pop("_loras", None)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _unload_transformers(self) -> None:
        for one in self.__dict__.pop("_loaded", ()):
            one.unload()

    def place(self, settings: ModelSettings, tiled: bool) -> None:
        """Place weights as these settings say from now on, which differ in what costs only, and decode in tiles or whole."""
        moved = {name for name, value in settings.flat().items() if value != self.settings.flat().get(name)}
        self.settings = self.text.settings = self.frames.settings = settings
        self.frames.tiled = tiled
        if moved <= {"text_encoder_device"} or "_loaded" not in self.__dict__:
            return
        if moved == {"blocks_to_swap"} and settings.offload_device == "cpu":
            for one in self._loaded:
                one.swap_blocks(settings.blocks_to_swap, settings.prefetch_blocks)
        else:  # to be read again, into their new places
            self._unload_transformers()

    def check(self, text: str, setting: str = "prompt") -> None:
        """Raise SettingsError for a text longer than the encoder reads (diffusers would cut it off silently)."""
        self.text.check(text, setting)

    def encode(self, text: str) -> Tensor:
        """The text as the transformer reads it, (1, 512, d), zeros after its end; kept, so that a prompt is encoded once.

        Raises SettingsError as `check` does.
        """
        return self.text.encode(text)

    @contextlib.contextmanager
    def at_work(self, timestep: float | Tensor) -> Iterator[WanTransformer3DModel]:
        """Within, the transformer of this timestep stays on its device between two velocities."""
        with self.turn.taken(), self._at(timestep).at_work() as transformer:
            yield transformer

    @torch.inference_mode()
    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        condition: Tensor | None = None,
        image: Tensor | None = None,
        control: Tensor | None = None,
        control_strength: float = 1.0,
    ) -> Tensor:
        """The predicted velocity, noise - clean: (b, c, t, h, w) in the model's dtype, from latents of the same shape.

        For image-to-video models with the `condition` (b, 20, t, h, w) and the tokens of the `image` (b, n, d); for VACE with
        the `control` (b, 96, t, h, w), and a factor on what its own blocks say to the others.
        """
        seen = latents.to(self.device, self.dtype)
        if image is not None and self.transformer.config.pos_embed_seq_len:  # first and last frame: two pictures, one by one
            image = image.unflatten(1, (2, -1)).flatten(0, 1)
        told = timestep.to(self.device).expand(len(latents))
        if self.checkpoint.expand_timesteps:  # each token is told its own, as WanPipeline does
            told = told[:, None].float().expand(-1, _tokens(latents, self.checkpoint.transformer["patch_size"]))
        more = {} if control is None else self._control(control.to(seen), control_strength)
        with self.at_work(timestep) as transformer, _sums_in_fp16(self.settings.base_precision == "fp16_fast"):
            return transformer(
                hidden_states=seen if condition is None else torch.cat([seen, condition.to(seen)], 1),
                timestep=told,
                encoder_hidden_states=text,
                encoder_hidden_states_image=None if image is None else image.to(seen),
                return_dict=False,
                **more,
            )[0]

    def _control(self, control: Tensor, strength: float) -> dict[str, Tensor]:
        """What VACE's transformer is told more than others; the strength as a tensor, so that no graph depends on it."""
        scale = control.new_full((len(self.checkpoint.transformer["vace_layers"]),), strength)
        return {"control_hidden_states": control, "control_hidden_states_scale": scale}

    @torch.inference_mode()
    def encode_picture(self, picture: np.ndarray) -> Tensor:
        """What CLIP vision sees in a picture (h, w, 3) in -1..1: its tokens before the last layer, (1, n, d) float32."""
        shown = Image.fromarray(((picture + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
        pixels = self.image_processor(images=shown, return_tensors="pt").pixel_values
        with resting(self.image_encoder, self.device, self.settings.force_offload):
            return self.image_encoder(pixels.to(self.device), output_hidden_states=True).hidden_states[-2]

    def encode_video(self, video: np.ndarray) -> Tensor:
        """Normalized latents (1, 16, t, h, w) float32 of frames (4t - 3, 8h, 8w, 3) in -1..1; (1, 48, ...) of 16h, 16w."""
        return self.frames.encode(video)

    def decode(self, latents: Tensor) -> np.ndarray:
        """Frames (t, h, w, 3) uint8 of normalized latents (1, c, t, h, w) float32."""
        return self.frames.decode(latents)

    def parameters(self, part: str) -> int:
        """Number of parameters of "text_encoder", "transformer" or "vae"."""
        module: nn.Module = getattr(self, part)
        return sum(weight.numel() for weight in module.parameters())


def _tokens(latents: Tensor, patch: Sequence[int]) -> int:
    return math.prod(size // side for size, side in zip(latents.shape[2:], patch, strict=True))


@contextlib.contextmanager
def _sums_in_fp16(asked: bool) -> Iterator[None]:
    """Within, products of fp16 matrices are summed in fp16 where the GPU can. This is a switch of the whole process."""
    matmul = torch.backends.cuda.matmul
    before = getattr(matmul, "allow_fp16_accumulation", None)
    if not asked or before is None:
        yield
        return
    matmul.allow_fp16_accumulation = True
    try:
        yield
    finally:
        matmul.allow_fp16_accumulation = before
