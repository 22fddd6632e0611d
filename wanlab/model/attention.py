"""What computes attention: which ways there are on this machine, found out by trying, and setting one for one model.

Whether a kernel works here is known only after it has worked: some are installed and were built for another PyTorch, some are
accepted by name and fail when they run (sdpa_cudnn and sdpa_efficient on a CPU), some take no float32. So each is called once
with a few tokens, on the device, in the number format and with the heads of the model, and what it returns is looked at.
Kernels of the hub are not tried: that would download and run them.

diffusers' own `set_attention_backend` also makes its choice that of the whole process, and so of every other model that made
none. Here the choice is written on the attention processors of one model, sdpa too, so that models in one process do not hear
of each other.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

from wanlab.attention_modes import MODES, Mode, named
from wanlab.document import Shown, table_html
from wanlab.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from pandas import DataFrame

WHEN_USED = "is fetched from the hub when it is used"
_TOKENS = 128  # a kernel's smallest piece of work


@dataclass(frozen=True)
class Found:
    """Whether a mode works here: `here` is "yes", "no" or "when used", and `why` the reason if it is not "yes"."""

    mode: Mode
    here: str
    why: str = ""


@dataclass(frozen=True)
class Available(Shown):
    """Every mode with what was found out about it; the last expression of a cell shows it as a table."""

    found: tuple[Found, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The modes that work here."""
        return tuple(one.mode.name for one in self.found if one.here == "yes")

    def table(self) -> DataFrame:
        """A row a mode: mode, here ("yes", "no", "when used"), why_not, exact (False: rounded to 8 bits on the way), needs."""
        import pandas

        return pandas.DataFrame(
            {
                "mode": [one.mode.name for one in self.found],
                "here": [one.here for one in self.found],
                "why_not": [one.why for one in self.found],
                "exact": [one.mode.exact for one in self.found],
                "needs": [one.mode.needs for one in self.found],
            }
        )

    def _repr_html_(self) -> str:
        rows = [
            (one.mode.name, [one.here, one.why, "" if one.mode.exact else "approximate", one.mode.needs]) for one in self.found
        ]
        return table_html(rows, ["here", "why not", "", "needs"])


def availability(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, heads: int = 2, head_dim: int = 128
) -> Available:
    """Try every mode on this device, in this number format, with heads of this shape. Downloads nothing, leaves nothing set."""
    return Available(tuple(_found(mode, torch.device(device), dtype, heads, head_dim) for mode in MODES.values()))


def set_attention(
    transformer: Any, mode: str, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> None:
    """Compute this transformer's attention in this mode; no other model is affected.

    `device` and `dtype` are where and in what it will compute, if that is not where its weights are now. For a name that ends
    in _hub this downloads the kernel and runs it. SettingsError if the mode does not work here, with the reason.
    """
    asked = named(mode)
    device = torch.device(device or transformer.device)
    dtype = dtype or transformer.patch_embedding.weight.dtype
    shape = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    processors = [found for found in map(_processor, transformer.modules()) if found is not None]
    if not processors:
        raise ModelError("This transformer has no attention whose computation diffusers could choose.")
    found = _found(asked, device, dtype, *shape, fetch=True)
    if found.here != "yes":
        others = ", ".join(availability(device, dtype, *shape).names)
        raise SettingsError(
            f"attention_mode is {mode!r}, which does not work here ({found.why.rstrip('.')}). It needs: {asked.needs} "
            f"Take one of {others}."
        )
    for processor in processors:
        processor._attention_backend = AttentionBackendName(asked.backend)


def _processor(module: Any) -> Any:
    """The processor of an attention, None for other modules."""
    processor = module.__dict__.get("processor")
    return processor if hasattr(processor, "_attention_backend") else None


def _found(mode: Mode, device: torch.device, dtype: torch.dtype, heads: int, head_dim: int, fetch: bool = False) -> Found:
    """What comes of trying a mode; one of the hub is tried only if it may be fetched."""
    backend = AttentionBackendName(mode.backend)
    try:
        attention_dispatch._check_attention_backend_requirements(backend)
        if mode.fetched:
            if not fetch:
                return Found(mode, "when used", WHEN_USED)
            attention_dispatch._maybe_download_kernel_for_backend(backend)
    except Exception as error:  # whatever a package raises that is too old, built for another PyTorch or not to be fetched
        return Found(mode, "no", _reason(error))
    try:
        good = _works(backend, device, dtype, (1, _TOKENS, heads, head_dim))
    except Exception as error:
        number = str(dtype).removeprefix("torch.")
        return Found(mode, "no", f"it fails on {device} in {number}: {_reason(error)}")
    return Found(mode, "yes") if good else Found(mode, "no", "what it computes here is not attention.")


def _works(backend: AttentionBackendName, device: torch.device, dtype: torch.dtype, shape: Sequence[int]) -> bool:
    """Whether tokens that are all alike to each other get the mean of all values, (b, tokens, heads, dim)."""
    alike = torch.zeros(*shape, dtype=dtype, device=device)
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # flex: that it is not compiled
        out = dispatch_attention_fn(alike, alike, values, backend=backend)
    mean = values.float().mean(1, keepdim=True)
    return out.shape == alike.shape and bool(((out.float() - mean).abs() < 0.05).all())


def _reason(error: Exception) -> str:
    """What an error says, in short: its first line, without diffusers' introduction."""
    lines = str(error).strip().splitlines()
    said = re.sub(r"^.* is not usable because (of )?", "", lines[0]) if lines else type(error).__name__
    return said[:1].upper() + said[1:]
