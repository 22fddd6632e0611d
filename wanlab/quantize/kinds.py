"""The kinds in which a weight can be stored: what each costs, what it needs, and which weights it is for. No torch.

A weight matrix W of shape (out, in) is stored as small numbers q and, for most kinds, scales s, so that W is about s * q. What
tells the kinds apart is how q is spaced, and how many weights share one s:

- fp8: q is a floating point number of 8 bits. e4m3fn keeps 3 bits after the point and reaches from 2^-6 (below that its steps
  stay at 2^-9) to 448; e5m2 keeps 2 bits and reaches from 2^-14 to 57344. Without a scale, weights of a usual size (0.01 to
  0.03) lie at the lower end of e4m3, where it is coarse. The "scaled" kinds stretch them to the upper end first.
- int8: q is a whole number from -127 to 127, one s for each output row.
- gguf: 32 neighbors in a row share one s, in the layout of ggml's files.
- torchao and bitsandbytes: stored and multiplied by these libraries.

Only the large matrices of the blocks are quantized: they hold 98 % of a transformer. Norms, biases, tables, the embedders and
the last projection stay in the base precision (kijai/ComfyUI-WanVideoWrapper does the same): they are small, and errors there
reach every token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wanlab.errors import SettingsError


@dataclass(frozen=True)
class Kind:
    """A way to store a weight matrix.

    `bytes_per_weight` is for a large matrix, where scales that a row or a tensor shares weigh nothing; `stored_bytes` is exact.
    `per` says what has a scale of its own: "tensor", "row", "block32" or the like, "" if there is no scale. `needs` is a
    sentence for people; `wanlab.quantize.formats.unavailable` asks the machine.
    """

    name: str
    bytes_per_weight: float
    per: str
    group: str
    needs: str = ""

    @property
    def packed(self) -> bool:
        """Whether wanlab stores it itself, as a `Packed`; the others are stored by their library."""
        return self.group not in ("torchao", "bitsandbytes")

    @property
    def package(self) -> str:
        """The package that this kind is made or read with, "" for wanlab's own."""
        return self.group if not self.packed else "gguf" if self.needs else ""


# Weights in a block and bytes of a block, by ggml type (ggml/src/ggml-common.h; the test compares with the package gguf).
GGML: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "f32": (1, 4),
        "f16": (1, 2),
        "bf16": (1, 2),
        "q4_0": (32, 18),
        "q4_1": (32, 20),
        "q5_0": (32, 22),
        "q5_1": (32, 24),
        "q8_0": (32, 34),
        "q2_k": (256, 84),
        "q3_k": (256, 110),
        "q4_k": (256, 144),
        "q5_k": (256, 176),
        "q6_k": (256, 210),
        "iq4_nl": (32, 18),
        "iq4_xs": (256, 136),
    }
)


def _ggml(name: str) -> Kind:
    """The kind of a ggml type; types of blocks of 256 are only read from files, through the package gguf."""
    block, size = GGML[name]
    own = name in ("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0")
    per = f"block{block}" if block > 1 else ""
    return Kind(f"gguf_{name}", size / block, per, "gguf", "" if own else "the package gguf")


def _by_name(*kinds: Kind) -> Mapping[str, Kind]:
    return MappingProxyType({kind.name: kind for kind in kinds})


KINDS = _by_name(
    Kind("fp8_e4m3fn", 1, "", "plain"),
    Kind("fp8_e5m2", 1, "", "plain"),
    Kind("fp8_e4m3fn_scaled", 1, "tensor", "scaled"),
    Kind("fp8_e5m2_scaled", 1, "tensor", "scaled"),
    Kind("fp8_e4m3fn_scaled_channel", 1, "row", "scaled"),
    Kind("int8", 1, "row", "int8"),
    _ggml("q8_0"),
    _ggml("q5_0"),
    _ggml("q4_0"),
    Kind("torchao_int8", 1, "row", "torchao", "the package torchao"),
    Kind("torchao_fp8", 1, "row", "torchao", "the package torchao"),
    Kind(
        "torchao_fp8dq", 1, "tensor", "torchao", "the package torchao and a CUDA GPU of compute capability 8.9 (RTX 40, H100)"
    ),
    Kind("torchao_int4", 0.5 + 4 / 128, "block128", "torchao", "the package torchao, a CUDA GPU (capability 8.0) and bf16"),
    Kind("bnb_int8", 1, "row", "bitsandbytes", "the package bitsandbytes"),
    Kind("bnb_nf4", 0.5 + 4 / 64, "block64", "bitsandbytes", "the package bitsandbytes"),
)

# What a file may hold and nobody asks for: the other types of ggml.
FILE_KINDS = _by_name(*(_ggml(name) for name in GGML if f"gguf_{name}" not in KINDS))

_LINEAR = re.compile(r"(vace_)?blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0|add_[kv]_proj)|ffn\.(net\.0\.proj|net\.2))\.weight")

# WanTransformer3DModel._keep_in_fp32_modules of diffusers 0.42, and the one name more of WanAnimateTransformer3DModel.
_FP32 = frozenset(("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3", "motion_synthesis_weight"))


def kind_of(name: str) -> Kind:
    """The kind of this name, one that can be asked for or one that files hold. Raises SettingsError."""
    found = KINDS.get(name) or FILE_KINDS.get(name)
    if found is None:
        raise SettingsError(f"quantization is {name!r}; there is no such kind. Give disabled or one of {', '.join(KINDS)}.")
    return found


def stored_bytes(kind: str, shape: tuple[int, ...]) -> int:
    """Bytes of a weight (out, in) in this kind: all tensors that it is made of, so with its scales.

    Raises SettingsError for a row that does not divide into the kind's blocks; `is_quantized` says so beforehand.
    """
    rows, columns = shape
    if not divides(kind, columns):
        raise SettingsError(
            f"quantization is {kind}, which stores {_block(kind)} neighbors of a row together; a row of {columns} does not "
            "divide into these. Leave such a weight in the base precision."
        )
    found, weights = kind_of(kind), rows * columns
    if found.group == "gguf":
        block, size = GGML[kind.removeprefix("gguf_")]
        return weights // block * size
    if kind == "torchao_int4":  # torch's int4 kernel wants multiples of 8 rows and 1024 columns; bf16 scale and zero a block
        rows, columns = -rows % 8 + rows, -columns % 1024 + columns
        return rows * columns // 2 + rows * columns // _block(kind) * 4
    if kind == "bnb_nf4":  # flat, an fp32 scale a block, and the table of its 16 values
        return -(-weights // 2) + 4 * -(-weights // _block(kind)) + 64
    if kind == "torchao_int8":  # a zero point a row, which is 0
        return weights + 5 * rows
    return weights + 4 * {"": 0, "tensor": 1, "row": rows}[found.per]


def _block(kind: str) -> int:
    """How many neighbors share a scale, 1 for kinds without blocks."""
    per = kind_of(kind).per
    return int(per.removeprefix("block")) if per.startswith("block") else 1


def divides(kind: str, columns: int) -> bool:
    """Whether a row of so many weights divides into the kind's blocks. Blocks of bnb_nf4 run on over the ends of rows."""
    return kind == "bnb_nf4" or columns % _block(kind) == 0


def is_quantized(name: str, shape: tuple[int, ...], kind: str = "") -> bool:
    """Whether the parameter of this diffusers name is stored in a quantized kind when one is asked for.

    These are the weights of the Linear layers of attention and feed-forward in `blocks` and `vace_blocks`. With a `kind`, its
    blocks have to divide a row too.

    >>> is_quantized("blocks.3.attn1.to_q.weight", (128, 128)), is_quantized("proj_out.weight", (64, 128))
    (True, False)
    >>> is_quantized("blocks.3.ffn.net.2.weight", (128, 500), "gguf_q4_0")
    False
    """
    return len(shape) == 2 and _LINEAR.fullmatch(name) is not None and (not kind or divides(kind, shape[1]))


def kept_in_fp32(name: str) -> bool:
    """Whether the parameter of this diffusers name stays in fp32 in any base precision, as `from_pretrained` has it."""
    return not _FP32.isdisjoint(name.split("."))
