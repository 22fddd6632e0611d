"""A dry run: the real classes compute with tensors that have a shape and no content, and every byte is counted.

`FakeTensorMode` of torch runs any code on such tensors, on any device, without weights, memory or a GPU. A dispatch
mode around it sees each operation, so it knows which storages are alive at every moment and how much is multiplied. The
peak is exact for what torch allocates; what a kernel takes for itself inside an operation, such as the workspace of a
convolution, is not seen.

The same counting works around real tensors, which is how the tests compare the dry run with a real one.

The memory of a forward does not depend on the number of blocks, and their arithmetic is proportional to it, so two
blocks are run whatever the model has. VAEs are run whole and not in tiles: a run in tiles takes minutes, since each
blended line is an operation.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from wanlab.cost.activations import TEXT_TOKENS
from wanlab.errors import SettingsError
from wanlab.quantize.kinds import GGML, kept_in_fp32, kind_of
from wanlab.quantize.linear import quantize_linears
from wanlab.quantize.packed import Packed
from wanlab.weights.dtypes import PRECISIONS

Attach = Callable[[Any], contextlib.AbstractContextManager[Any]]


class Live(TorchDispatchMode):
    """Counts bytes of tensors that are alive, and arithmetic, of all that happens within.

    `known` are tensors that are there before: they are not counted. `peak` is the most bytes that were alive at one
    time, `bytes` are alive now, `flops` counts a multiply-add as two.

    >>> with Live() as live:
    ...     _ = torch.zeros(256) + torch.zeros(256)
    >>> live.peak
    3072
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.peak = self.bytes = 0
        self.flops = 0.0
        self._seen: dict[int, weakref.ref[Any]] = {}
        for tensor in known:
            self._watch(tensor, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Under inference mode compositions arrive whole, and would hide what they allocate. The kernels' own are taken: those
        # written in Python for tracing allocate more than the real ones.
        if func.namespace == "aten" and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSED):
            with self:
                return func._op_dk(_COMPOSED, *args, **kwargs)
        out = func(*args, **kwargs)
        self.flops += _flops(func, args, kwargs, out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._watch(leaf)
        return out

    def _watch(self, tensor: Tensor, size: int | None = None) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        held = storage.nbytes() if size is None else size

        def gone(_: Any) -> None:
            self.bytes -= held
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.bytes += held
        self.peak = max(self.peak, self.bytes)


_aten = torch.ops.aten
_COMPOSED = torch._C.DispatchKey.CompositeImplicitAutograd
_CPU_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu  # unknown to torch's own counter


def _flops(func: Any, args: Any, kwargs: Any, out: Any) -> float:
    packet = getattr(func, "_overloadpacket", None)
    if packet is _CPU_ATTENTION:
        return float(sdpa_flop_count(*(tensor.shape for tensor in args[:3])))
    count = flop_registry.get(packet)
    return float(count(*args, **kwargs, out_val=out)) if count else 0.0


@dataclass(frozen=True)
class DryRun:
    """What a dry run found: `peak` bytes beside weights and inputs, and `flops` (a multiply-add is two).

    `weights` are bytes; those of one `block` are for transformers only.
    """

    peak: int
    flops: float
    weights: int
    block: int = 0


def dry_run(compute: Callable[[], Any], known: Iterable[Tensor] = ()) -> DryRun:
    """Call a function on fake tensors, which were made in a `FakeTensorMode` that is on; `known` are the weights and inputs."""
    known = list(known)
    with torch.no_grad(), Live(known) as live:
        compute()
    return DryRun(live.peak, live.flops, sum(tensor.untyped_storage().nbytes() for tensor in known))


def dry_run_transformer(
    config: Mapping[str, Any],
    latents: tuple[int, int, int],
    base_precision: str = "bf16",
    kind: str = "",
    *,
    batch: int = 1,
    image_tokens: int = 0,
    attach: Attach = contextlib.nullcontext,
    device: str = "cpu",
) -> DryRun:
    """One forward over latents (t, h, w).

    `batch` branches at once; the linear layers of the blocks in a `kind` of quantization, "" for none. `attach` makes a context
    in which the transformer is changed, such as that of a technique. `device` "cuda" takes the ways of a GPU, and needs a torch
    that was built for it. Raises SettingsError for a kind whose weights are objects of a library.
    """
    layers = int(config["num_layers"])
    one, two = (
        _forward(config, min(count, layers), latents, base_precision, kind, batch, image_tokens, attach, device)
        for count in (1, 2)
    )
    block, flops = two.weights - one.weights, two.flops - one.flops
    more = layers - min(2, layers)
    return DryRun(two.peak, two.flops + more * flops, two.weights + more * block, block)


def dry_run_vae(config: Mapping[str, Any], way: str, frames: int, height: int, width: int, precision: str = "fp32") -> DryRun:
    """Decoding (`way` "decode") or encoding ("encode") a clip of this size, whole."""
    dtype, scale = PRECISIONS[precision], config.get("scale_factor_spatial") or 8
    with FakeTensorMode():
        vae = _skeleton(AutoencoderKLWan, config, lambda name: dtype, "cpu")
        if way == "decode":
            given = torch.empty(1, config["z_dim"], (frames - 1) // 4 + 1, height // scale, width // scale, dtype=dtype)
            found = dry_run(lambda: vae.decode(given, return_dict=False), [given, *_tensors(vae)])
        else:
            given = torch.empty(1, 3, frames, height, width, dtype=dtype)
            found = dry_run(lambda: vae.encode(given).latent_dist.mode(), [given, *_tensors(vae)])
    return DryRun(found.peak, found.flops, found.weights - given.untyped_storage().nbytes())


def _forward(
    config: Mapping[str, Any],
    layers: int,
    latents: tuple[int, int, int],
    base_precision: str,
    kind: str,
    batch: int,
    image_tokens: int,
    attach: Attach,
    device: str,
) -> DryRun:
    dtype = PRECISIONS[base_precision]
    with FakeTensorMode():
        model = _skeleton(
            WanTransformer3DModel,
            {**config, "num_layers": layers},
            lambda name: torch.float32 if kept_in_fp32(name) else dtype,
            device,
        )
        if kind:
            quantize_linears(
                model, kind, packed=lambda kind, weight: empty_packed(kind, (weight.shape[0], weight.shape[1]), device)
            )
        given = {
            "hidden_states": torch.empty(batch, config["in_channels"], *latents, dtype=dtype, device=device),
            "timestep": torch.empty(batch, device=device),
            "encoder_hidden_states": torch.empty(batch, TEXT_TOKENS, config["text_dim"], dtype=dtype, device=device),
        }
        if image_tokens:
            pictures = 2 if config.get("pos_embed_seq_len") else 1  # one after the other
            shape = batch * pictures, image_tokens // pictures, config["image_dim"]
            given["encoder_hidden_states_image"] = torch.empty(*shape, dtype=dtype, device=device)
        with attach(model):
            found = dry_run(lambda: model(**given, return_dict=False), [*given.values(), *_tensors(model)])
        return DryRun(found.peak, found.flops, sum(tensor.untyped_storage().nbytes() for tensor in _weights(model)))


def _skeleton(make: Any, config: Mapping[str, Any], dtype: Callable[[str], torch.dtype], device: str) -> Any:
    """A module of this configuration whose parameters are fake, each in its own number format.

    They are replaced and not converted: `.to(dtype)` fails on fake tensors.
    """
    module = make.from_config({name: value for name, value in config.items() if not name.startswith("_")})
    for place, owner in module.named_modules():
        for name, tensor in owner._parameters.items():
            if tensor is not None:
                made = torch.empty(tensor.shape, dtype=dtype(f"{place}.{name}".lstrip(".")), device=device)
                owner._parameters[name] = nn.Parameter(made, requires_grad=False)
        for name, tensor in owner._buffers.items():
            if tensor is not None:
                owner._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    return module.eval()


def empty_packed(kind: str, shape: tuple[int, int], device: str = "cpu") -> Packed:
    """A packed weight of this shape with any content. SettingsError for the kinds of libraries."""
    found, (rows, columns) = kind_of(kind), shape
    if not found.packed:
        raise SettingsError(
            f"quantization is {kind}, whose weights are objects of {found.group}; a dry run knows wanlab's own kinds."
        )
    if found.group == "gguf":
        block, size = GGML[kind.removeprefix("gguf_")]
        return Packed(kind, shape, {"blocks": torch.empty(rows, columns // block * size, dtype=torch.uint8, device=device)})
    stored = torch.int8 if kind == "int8" else torch.float8_e5m2 if "e5m2" in kind else torch.float8_e4m3fn
    parts = {"weight": torch.empty(shape, dtype=stored, device=device)}
    if found.per:
        parts["scale"] = torch.empty((rows, 1) if found.per == "row" else (), device=device)
    return Packed(kind, shape, parts)


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """What is stored in a file: parameters, and the buffers of quantized layers."""
    yield from module.parameters()
    yield from (buffer for name, buffer in module.named_buffers() if ".packed_" in name)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
