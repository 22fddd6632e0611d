"""The ways to compute attention: their names, what each needs, and whether its result is exact. No torch.

Attention compares every token of a clip with every other: its cost grows with the square of the length, and in a large clip
it is most of the work. All exact ways compute the same formula and differ in rounding, speed and memory; the approximate ones
compare in 8 bits. Velocities differ in both cases, so the way is part of who the model is.

What computes it is diffusers' dispatcher, whose every backend has a name here (a test compares, so that a new one is
noticed). Queries, keys and values keep the model's number format: most kernels of others take bf16 and fp16 only, so they go
with a base_precision of these. As diffusers does it, the way is for self-attention and for cross-attention; WanVideoWrapper
computed cross-attention by sdpa whatever was chosen, in its versions of March 2025.

xformers, which some tutorials list under torch.compile, is such a kernel. Names that end in _hub are the same kernels,
compiled by others and fetched from the hub as code that runs on this machine when they are first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wanlab.errors import SettingsError


@dataclass(frozen=True)
class Mode:
    """A way to compute attention: its `name`, diffusers' name for it, and ComfyUI's names in `aliases`.

    `exact` is False where numbers are rounded to 8 bits on the way. `needs` is a sentence for people;
    `wanlab.model.attention.availability` tries it out.
    """

    name: str
    backend: str
    needs: str
    exact: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def fetched(self) -> bool:
        """Whether using it downloads its code from the hub."""
        return self.backend.endswith("_hub")


_FLASH_2 = "The package flash-attn, an NVIDIA GPU from Ampere on (or AMD's), and bf16 or fp16."
_FLASH_3 = "FlashAttention 3 built from source (the module flash_attn_interface), a Hopper GPU, and bf16 or fp16."
_KERNELS = "The package kernels, which fetches it from the hub, "
_SAGE = "The package sageattention (2.1.1 or newer), a CUDA GPU, and bf16 or fp16."

_ALL = (
    Mode("sdpa", "native", "Nothing: PyTorch takes the fastest of its own kernels for the device.", aliases=("comfy",)),
    Mode("sdpa_math", "_native_math", "Nothing; it is slow and keeps all scores in memory: for comparisons."),
    Mode("sdpa_flash", "_native_flash", "A CPU, or a CUDA GPU and bf16 or fp16."),
    Mode("sdpa_efficient", "_native_efficient", "A CUDA GPU."),
    Mode("sdpa_cudnn", "_native_cudnn", "A CUDA GPU with cuDNN 9, and bf16 or fp16."),
    Mode("flash_attn_2", "flash", _FLASH_2),
    Mode("flash_attn_3", "_flash_3", _FLASH_3),
    Mode("sageattn", "sage", _SAGE, exact=False, aliases=("sageattn_compiled",)),
    Mode("xformers", "xformers", "The package xformers and a CUDA GPU."),
    Mode("flex", "flex", "Compilation: without compile it keeps all scores in memory, as sdpa_math does."),
    Mode("flash_attn_2_hub", "flash_hub", _KERNELS + "and what flash_attn_2 needs of the GPU."),
    Mode("flash_attn_3_hub", "_flash_3_hub", _KERNELS + "a Hopper GPU, and bf16 or fp16."),
    Mode("flash_attn_4_hub", "flash_4_hub", _KERNELS + "a Hopper or Blackwell GPU, and bf16 or fp16."),
    Mode("sageattn_hub", "sage_hub", _KERNELS + "a CUDA GPU, and bf16 or fp16.", exact=False),
    Mode(
        "sageattn_3_hub",
        "sage_blackwell_hub",
        _KERNELS + "a Blackwell GPU, heads of 64 or 128, and bf16 or fp16.",
        exact=False,
        aliases=("sageattn_3",),
    ),
    Mode("aiter_hub", "aiter_fa2_hub", _KERNELS + "an AMD GPU, and bf16."),
    Mode("flash_attn_2_varlen", "flash_varlen", _FLASH_2),
    Mode("flash_attn_2_varlen_hub", "flash_varlen_hub", _KERNELS + "and what flash_attn_2 needs of the GPU."),
    Mode("flash_attn_3_varlen", "_flash_varlen_3", _FLASH_3),
    Mode("flash_attn_3_varlen_hub", "_flash_3_varlen_hub", _KERNELS + "a Hopper GPU, and bf16 or fp16."),
    Mode("sageattn_varlen", "sage_varlen", _SAGE, exact=False),
    Mode("sageattn_int8_fp16", "_sage_qk_int8_pv_fp16_cuda", _SAGE, exact=False),
    Mode("sageattn_int8_fp16_triton", "_sage_qk_int8_pv_fp16_triton", _SAGE, exact=False),
    Mode("sageattn_int8_fp8", "_sage_qk_int8_pv_fp8_cuda", _SAGE + " Compute capability 9.0 or newer.", exact=False),
    Mode("sageattn_int8_fp8_sm90", "_sage_qk_int8_pv_fp8_cuda_sm90", _SAGE + " A Hopper GPU.", exact=False),
    Mode("sdpa_npu", "_native_npu", "The package torch_npu, an Ascend NPU, and bf16 or fp16."),
    Mode("sdpa_xla", "_native_xla", "The package torch_xla and its device."),
)
MODES: Mapping[str, Mode] = MappingProxyType({mode.name: mode for mode in _ALL})

# Names of WanVideoWrapper for which diffusers has no kernel.
_WITHOUT = ("radial_sage_attention", "sageattn_ultravico", "spargeattn", "spargeattn_tune")


def named(name: str) -> Mode:
    """The mode of one of our names, diffusers' or ComfyUI's; SettingsError for what diffusers cannot do.

    >>> named("sageattn_3").name, named("_flash_3").name
    ('sageattn_3_hub', 'flash_attn_3')
    """
    for mode in MODES.values():
        if name in (mode.name, mode.backend, *mode.aliases):
            return mode
    why = "diffusers has no kernel for it" if name in _WITHOUT else "there is no such way to compute attention"
    raise SettingsError(f"attention_mode is {name!r}; {why}. Take one of {', '.join(MODES)}.")
