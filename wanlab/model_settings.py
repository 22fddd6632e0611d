"""Which model a lab uses, and how its weights are loaded and placed. No torch.

`model`, `base_precision`, `quantization`, `loras` and what computes attention change the velocities, so they are part of who
the model is. Where weights lie, what is swapped, offloaded or compiled changes seconds and memory only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from wanlab.attention_modes import MODES
from wanlab.declare import PER_STEP, SWITCH, Asked, Declared, in_bounds, knob
from wanlab.quantize.kinds import KINDS

if TYPE_CHECKING:
    Quantization = str
    AttentionMode = str
else:
    Quantization = Literal[("disabled", *KINDS)]
    AttentionMode = Literal[tuple(MODES)]


class LoraSettings(Declared):
    """One LoRA file, and how strongly and where it is applied."""

    file: str = knob("", "A .safetensors file, or the name of a LoRA that ships with wanlab.", affects="result", text="file")
    strength: Annotated[float | tuple[float, ...], PER_STEP] = knob(
        1.0,
        "Factor on its change. A list has a value for each step of the run, and needs merge off.",
        affects="result",
        low=-10,
        high=10,
        step=0.05,
        comfy="WanVideoLoraSelect.strength",
        listed=True,
        usual=(-2, 2),
    )
    blocks: str = knob("all", "Only these blocks: all, or numbers such as 0-9,12.", affects="result")
    merge: bool = knob(
        False,
        "Add it to the weights when they are loaded (no cost per step) instead of computing it beside them (its strength can "
        "change while running; the only way for quantized weights).",
        affects="result",
        comfy="WanVideoLoraSelect.merge_loras",
    )
    expert: Literal["both", "high", "low"] = knob(
        "both",
        "Which transformer of Wan2.2 A14B it changes, that of high or that of low noise: LoRAs for it come in pairs.",
        affects="result",
    )

    @field_validator("file")
    @classmethod
    def _check_file(cls, value: str) -> str:
        if not value:
            raise ValueError("it must be a file.")
        return value

    @field_validator("strength")
    @classmethod
    def _check_strength(cls, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
        in_bounds(value, -10, 10)
        return value

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, value: str) -> str:
        if value != "all" and not re.fullmatch(r"\d+(-\d+)?(\s*,\s*\d+(-\d+)?)*", value):
            raise ValueError("it must be all, or numbers of blocks such as 0-9,12.")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> LoraSettings:
        if self.merge and isinstance(self.strength, tuple):
            raise ValueError("a strength for each step needs merge off: what is merged into the weights stays as it is.")
        return self

    def __str__(self) -> str:
        parts = [self.file]
        if isinstance(self.strength, tuple):
            parts.append(" ".join(f"{one:g}" for one in self.strength))
        elif self.strength != 1:
            parts.append(f"{self.strength:g}")
        parts += [] if self.blocks == "all" else [f"blocks {self.blocks}"]
        return ":".join([*parts, *(["merged"] * self.merge), *([] if self.expert == "both" else [f"{self.expert} noise"])])


def _lora(value: Any) -> Any:
    """A file, (file, strength), a mapping, or "file:strength" as a LoRA's settings."""
    if isinstance(value, LoraSettings | Mapping):
        return value
    if isinstance(value, os.PathLike):
        return {"file": os.fspath(value)}
    if isinstance(value, str):
        found = re.fullmatch(r"(.+?):(-?\d+(?:\.\d*)?)", value.strip())
        return {"file": found[1], "strength": float(found[2])} if found else {"file": value.strip()}
    if isinstance(value, Sequence) and len(value) == 2:
        return {**_lora(value[0]), "strength": value[1]}
    raise ValueError(
        "each of them must be a file, (file, strength) or a mapping with file, strength, blocks, merge and expert."
    )


def _loras(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    elif isinstance(value, LoraSettings | Mapping | os.PathLike):
        value = [value]
    return tuple(_lora(one) for one in value) if isinstance(value, Iterable) else value


def _mode(value: Any) -> Any:
    """A way to compute attention by our name; those of ComfyUI and diffusers are understood too."""
    known = {name: mode.name for mode in MODES.values() for name in (mode.backend, *mode.aliases)}
    return known.get(value, value) if isinstance(value, str) else value


class CompileSettings(Declared):
    """torch.compile for the transformer: slow to begin, faster afterwards; worth it for real models on a GPU."""

    backend: Literal["inductor", "eager", "aot_eager", "cudagraphs"] = knob(
        "inductor",
        "What makes kernels of the graph; eager and aot_eager only trace it, to find out what recompiles.",
        affects="cost",
        comfy="WanVideoTorchCompileSettings.backend",
    )
    mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = knob(
        "default",
        "How long inductor searches for fast kernels.",
        affects="cost",
        comfy="WanVideoTorchCompileSettings.mode",
    )
    dynamic: bool = knob(
        False,
        "Make kernels for any size: slower ones, but another size or length compiles nothing anew.",
        affects="cost",
        comfy="WanVideoTorchCompileSettings.dynamic",
    )
    fullgraph: bool = knob(
        False,
        "Refuse what breaks the graph instead of computing it outside.",
        affects="cost",
        comfy="WanVideoTorchCompileSettings.fullgraph",
    )
    whole: bool = knob(
        False,
        "Compile the whole transformer as one graph. Off: one small graph for a block, which all blocks share, and which works "
        "with block swap.",
        affects="cost",
        comfy="WanVideoTorchCompileSettings.compile_transformer_blocks_only",
    )
    recompile_limit: int = knob(
        64,
        "How many versions a graph may have before the rest is computed without it.",
        affects="cost",
        low=1,
        high=1024,
        step=1,
        comfy="WanVideoTorchCompileSettings.dynamo_cache_size_limit",
        usual=(1, 128),
    )


_LOADER = "WanVideoModelLoader"
_SWAP = "WanVideoBlockSwap"


class ModelSettings(Asked):
    """How the weights are loaded."""

    model: str = knob(
        "tiny",
        "The model: tiny, tiny-i2v, a folder in diffusers' format, a hub name, or a single .safetensors or .gguf file of a "
        "transformer.",
        affects="result",
        comfy=f"{_LOADER}.model",
        simple=True,
        text="file",
    )
    transformer_2: str = knob(
        "",
        "Of Wan2.2 A14B in single files: the transformer of low noise, beside that of high noise, which model names.",
        affects="result",
        comfy="WanVideoModelLoader.model",
        text="file",
    )
    boundary_ratio: float | None = knob(
        None,
        "Of two transformers: the second one predicts at timesteps below this part of 1000. Not given: as the model's folder "
        "says, else the official 0.875, for image to video 0.9.",
        affects="result",
        low=0.001,
        high=0.999,
        step=0.005,
        usual=(0.8, 0.95),
    )
    text_encoder: str = knob(
        "",
        "File or folder of the text encoder, where the model is a single file. Not given: that of the model's folder.",
        affects="result",
        comfy="LoadWanVideoT5TextEncoder.model_name",
        text="file",
    )
    tokenizer: str = knob(
        "",
        "Folder of the text encoder's tokenizer (UMT5's), where the encoder is a single file that has none within it.",
        affects="result",
        text="file",
    )
    vae: str = knob(
        "",
        "File or folder of the VAE, where the model is a single file. Not given: that of the model's folder.",
        affects="clip",
        comfy="WanVideoVAELoader.model_name",
        text="file",
    )
    image_encoder: str = knob(
        "",
        "File or folder of CLIP vision, where an image-to-video model is a single file.",
        affects="result",
        comfy="LoadWanVideoClipTextEncoder.model_name",
        text="file",
    )
    base_precision: Literal["fp32", "bf16", "fp16", "fp16_fast"] = knob(
        "fp32",
        "Number format of the arithmetic, and of all weights that are not quantized. fp16_fast: fp16 whose sums are in fp16 "
        "too, on GPUs that can. The VAE has vae_precision.",
        affects="result",
        comfy=f"{_LOADER}.base_precision",
        simple=True,
    )
    quantization: Quantization = knob(
        "disabled",
        "Number format in which the linear layers of the blocks are kept; for each product they are brought back to "
        "base_precision. disabled: as the file has them.",
        affects="result",
        comfy=f"{_LOADER}.quantization",
        simple=True,
    )
    loras: Annotated[tuple[LoraSettings, ...], BeforeValidator(_loras)] = knob(
        (),
        "LoRA files, applied together: a file, file:strength, or a mapping with file, strength, blocks, merge and expert.",
        affects="result",
        comfy="WanVideoLoraSelect.lora",
        simple=True,
    )
    attention_mode: Annotated[AttentionMode, BeforeValidator(_mode)] = knob(
        "sdpa",
        "What computes attention; lab.model.attention_modes() lists what there is, and why something is not available here.",
        affects="result",
        comfy=f"{_LOADER}.attention_mode",
    )
    load_device: str = knob(
        "cpu",
        "Where the model computes and its weights are: cpu, cuda, cuda:1, mps.",
        affects="cost",
        comfy=f"{_LOADER}.load_device",
        simple=True,
    )
    offload_device: Literal["cpu", "disk"] = knob(
        "cpu",
        "Where weights wait that are not on load_device: in memory, or on the disk, from which they are read each time.",
        affects="cost",
    )
    force_offload: bool = knob(
        False,
        "Keep text encoder, transformer and VAE on load_device only while they compute; in between they wait in memory.",
        affects="cost",
        comfy="WanVideoSampler.force_offload",
    )
    blocks_to_swap: int = knob(
        0,
        "How many blocks of the transformer wait on offload_device and visit load_device for their own computation.",
        affects="cost",
        low=0,
        high=48,
        step=1,
        unit="blocks",
        comfy=f"{_SWAP}.blocks_to_swap",
        usual=(0, 40),
        simple=True,
    )
    prefetch_blocks: int = knob(
        1,
        "How many swapped blocks ahead are fetched while others compute; each needs the memory of a block. 1 is mostly enough.",
        affects="cost",
        low=0,
        high=40,
        step=1,
        unit="blocks",
        comfy=f"{_SWAP}.prefetch_blocks",
        usual=(0, 4),
    )
    use_non_blocking: bool = knob(
        True,
        "Fetch swapped blocks while others compute, from memory that is pinned. Off: one after the other, with less memory.",
        affects="cost",
        comfy=f"{_SWAP}.use_non_blocking",
    )
    offload_text_embedding: bool = knob(
        False,
        "Let the layers that embed the text wait on offload_device as well.",
        affects="cost",
        comfy=f"{_SWAP}.offload_txt_emb",
    )
    offload_image_embedding: bool = knob(
        False,
        "Let the layers that embed the picture wait on offload_device as well.",
        affects="cost",
        comfy=f"{_SWAP}.offload_img_emb",
    )
    text_encoder_device: str = knob(
        "",
        "Where the text encoder computes: cpu, cuda:1 ..., or process, one of its own that ends after the prompts and gives "
        "its memory back. Not given: on load_device. Prompts that the lab has read before need no encoder.",
        affects="cost",
        comfy="LoadWanVideoT5TextEncoder.load_device",
    )
    placement: Literal["manual", "auto"] = knob(
        "manual",
        "auto: choose for each run what has to wait elsewhere (blocks_to_swap, force_offload, text_encoder_device, on a CPU "
        "offload_device), and if nothing else does it vae_tiling, so that it fits with the least slowdown.",
        affects="cost",
    )
    device_gib: float | None = knob(
        None,
        "Memory that may be used, for plans and placement. Not given: what load_device has.",
        affects="cost",
        low=0.01,
        high=10000,
        step=1,
        unit="GiB",
        usual=(4, 96),
    )
    margin_gib: float = knob(
        1.0,
        "Memory that plans and placement leave free, for what else is on the device.",
        affects="cost",
        low=0,
        high=1000,
        step=0.5,
        unit="GiB",
        usual=(0, 8),
    )
    vae_precision: Literal["fp32", "bf16", "fp16"] = knob(
        "fp32",
        "Number format of the VAE. In bf16 its error is a hundred times larger, and still small.",
        affects="clip",
        comfy="WanVideoVAELoader.precision",
    )
    vae_tiling: bool = knob(
        False,
        "Decode and encode in tiles that overlap: less memory, more time, and seams if tiles are small.",
        affects="clip",
        comfy="WanVideoDecode.enable_vae_tiling",
    )
    vae_tile: int = knob(
        256,
        "Height and width of a tile.",
        affects="clip",
        low=32,
        high=4096,
        step=16,
        multiple_of=8,
        unit="pixels",
        comfy="WanVideoDecode.tile_x",
        usual=(64, 512),
    )
    vae_tile_stride: int = knob(
        192,
        "From one tile to the next; what is left of a tile is blended into its neighbor.",
        affects="clip",
        low=16,
        high=4096,
        step=16,
        multiple_of=8,
        unit="pixels",
        comfy="WanVideoDecode.tile_stride_x",
        usual=(48, 448),
    )

    compile: Annotated[CompileSettings | None, SWITCH] = None

    @field_validator("load_device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", value):
            raise ValueError("it must be cpu, cuda, cuda:0 (1, 2 ...) or mps.")
        return value

    @field_validator("text_encoder_device")
    @classmethod
    def _check_text_device(cls, value: str) -> str:
        if not re.fullmatch(r"|process|cpu|mps|cuda(:\d+)?", value):
            raise ValueError("it must be cpu, cuda, cuda:0 (1, 2 ...), mps or process, or not given.")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> ModelSettings:
        for sentence in self._conflicts():
            raise ValueError(sentence)
        return self

    def _conflicts(self) -> list[str]:
        """A sentence for each pair of settings that cannot go together."""
        found = []
        if self.vae_tile_stride >= self.vae_tile:
            found.append(
                f"vae_tile_stride is {self.vae_tile_stride}; it must be less than vae_tile, which is {self.vae_tile}, so that "
                "tiles overlap."
            )
        kind = KINDS.get(self.quantization)
        swapped = self.blocks_to_swap > 0 or self.placement == "auto"
        if kind and kind.group in ("torchao", "bitsandbytes"):
            if swapped:
                found.append(
                    f"quantization is {self.quantization!r}, whose weights are objects of a library that cannot be swapped; "
                    "take blocks_to_swap 0, or a kind of wanlab's own such as fp8_e4m3fn_scaled."
                )
            if any(lora.merge for lora in self.loras):
                found.append(
                    f"quantization is {self.quantization!r}; a LoRA cannot be merged into its weights: take merge off."
                )
        if self.compile and swapped and self.compile.mode in ("reduce-overhead", "max-autotune"):
            found.append(
                f"compile.mode is {self.compile.mode!r}, which records addresses, and swapped blocks change theirs; take "
                "default or max-autotune-no-cudagraphs, or blocks_to_swap 0."
            )
        if self.compile and swapped and (self.compile.whole or self.compile.backend == "cudagraphs"):
            named = "compile.whole is True" if self.compile.whole else "compile.backend is 'cudagraphs'"
            found.append(f"{named}; swapped blocks need compile per block, without graphs of addresses. Take blocks_to_swap 0.")
        return found
