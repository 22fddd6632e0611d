"""Trains LoRAs of the tiny transformer, and keeps them in the files that people meet.

A LoRA (Hu et al. 2021, arXiv 2106.09685) leaves every weight W as it is and adds a product of two thin matrices,
y = (W + B A) x: A ("down") is (rank, in), B ("up") is (out, rank) and begins at zero, so that training begins with the
model itself. Here the Linear layers of the blocks get one. The file has the form of most LoRAs of Wan2.1: the names of
Wan's own code with a prefix, a pair of matrices and `alpha`; what is added is strength * alpha / rank * B A. Its
metadata tell under "wanlab" which settings suit it.

lora_steps.py and lora_style.py train one each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wanlab.lora.apply import Lora, LoraSet
from wanlab.lora.deltas import read
from wanlab.quantize.kinds import is_quantized
from wanlab.tiny import tiny_path
from wanlab.tiny.training import Ranks, Rates
from wanlab.weights.name_maps import BLOCK

RANK = 16
RATES = Rates(adam=1e-3, muon=0.01, hold=0.3, average=0.995)
PREFIX = "diffusion_model."
# diffusers' names of the linear layers of a text-to-video block, and those of Wan's own code.
ORIGINAL = {
    ours: original
    for original, ours in BLOCK.items()
    if is_quantized(f"blocks.0.{ours}.weight", (1, 1)) and not ours.startswith("attn2.add_")
}


class LoraLinear(nn.Module):
    """A frozen Linear and its trained addition, with alpha = rank: y = (W + B A) x + b."""

    def __init__(self, base: nn.Module, rank: int) -> None:
        super().__init__()
        assert isinstance(base, nn.Linear)
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, base.in_features, device=base.weight.device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out). W + B A is made first: these matrices are small, and the tokens are many."""
        return F.linear(x, self.base.weight + self.up @ self.down, self.base.bias)


def _layers(model: WanTransformer3DModel) -> Iterator[tuple[str, str]]:
    """Every Linear layer of the blocks: its path in the model, and its name in a file."""
    for index in range(len(model.blocks)):
        for ours, original in ORIGINAL.items():
            yield f"blocks.{index}.{ours}", f"{PREFIX}blocks.{index}.{original}"


def _trained(model: WanTransformer3DModel) -> Iterator[tuple[str, LoraLinear]]:
    """The layers of a model from `add_lora`, with their names in a file."""
    for path, key in _layers(model):
        layer = model.get_submodule(path)
        assert isinstance(layer, LoraLinear), f"{path} has no LoRA"
        yield key, layer


def add_lora(model: WanTransformer3DModel, rank: int = RANK) -> WanTransformer3DModel:
    """Freeze the model and give its blocks a LoRA to train; the same model, changed."""
    model.requires_grad_(False)
    for path, _ in list(_layers(model)):
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, LoraLinear(model.get_submodule(path), rank))
    return model


def save_lora(model: WanTransformer3DModel, file: Path, suits: Mapping[str, Any]) -> None:
    """Write the LoRA of a model from `add_lora`, in float16; `suits` are the settings of a run that it is meant for."""
    tensors = {}
    for key, layer in _trained(model):
        tensors[f"{key}.lora_down.weight"] = layer.down.detach().half().cpu().contiguous()
        tensors[f"{key}.lora_up.weight"] = layer.up.detach().half().cpu().contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(float(len(layer.down)), dtype=torch.float16)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, {"base": "tiny", "wanlab": json.dumps(dict(suits))})


@torch.no_grad()
def load_lora(model: WanTransformer3DModel, file: Path) -> WanTransformer3DModel:
    """Go on from the LoRA in `file`: read it into a model from `add_lora`."""
    with safe_open(file, "pt") as stored:
        for key, layer in _trained(model):
            layer.down.copy_(stored.get_tensor(f"{key}.lora_down.weight"))
            layer.up.copy_(stored.get_tensor(f"{key}.lora_up.weight"))
    return model


@torch.no_grad()
def merge_lora(model: WanTransformer3DModel, file: Path, strength: float = 1.0) -> WanTransformer3DModel:
    """Add the LoRA in `file` to the weights of a plain model; the same model, changed."""
    loras = LoraSet([Lora(read(file), strength)])
    for name, weight in model.named_parameters():
        weight.copy_(loras.merge(name, weight))
    return model


def plain_transformer() -> WanTransformer3DModel:
    """The shipped tiny transformer in float32, to be used and not to be trained."""
    model = WanTransformer3DModel.from_pretrained(Path(tiny_path()) / "transformer", dtype=torch.float32)
    return model.eval().requires_grad_(False)


def wait(ranks: Ranks) -> None:
    """Go on when all ranks are here."""
    ranks.average([torch.zeros(1)])
