"""Block swap: the same bits as without it, whatever is swapped, prefetched, skipped or interrupted.

Copies are checked by a copier that does what a GPU may do at worst: it copies only when it is waited for, fills a buffer with
NaN as soon as its copy is asked for, and refuses a copy that does not know the last reader of its buffer.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import wanlab
from wanlab.errors import FileError, ModelError, SettingsError
from wanlab.placement import copiers, masters
from wanlab.placement.copiers import Copy, CudaStream, Direct, ReadAhead
from wanlab.placement.layout import ALIGNMENT, layout_of
from wanlab.placement.masters import (
    FileMaster,
    HostBuffer,
    HostMaster,
    Master,
    build_file_master,
    build_host_master,
    write_file_master,
)
from wanlab.placement.moving import OnDemand, resting
from wanlab.placement.spread import spread
from wanlab.placement.swap import BlockSwap
from wanlab.placement.timeline import Row, draw
from wanlab.techniques.technique import patched

CPU = torch.device("cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHECKPOINT = Path(wanlab.tiny_path()) / "transformer/diffusion_pytorch_model.safetensors"


class HazardError(Exception):
    """A buffer was overwritten while it was read."""


class FakeCopier:
    """The worst that a GPU may do: copies are done only when waited for, in their order."""

    def __init__(self) -> None:
        self.queue: deque[tuple[Copy, Tensor, Master]] = deque()
        self.readers: dict[int, Any] = {}  # by buffer: the event after the last reader; None: is being read
        self.buffers: dict[int, int] = {}
        self.lock, self.closed = threading.RLock(), False

    def copy(self, buffer: Tensor, master: Master, after: Any) -> Copy:
        with self.lock:
            if after is None or self.readers.get(buffer.data_ptr()) is not after:
                raise HazardError
            buffer.fill_(0xFF)
            asked = Copy(master.layout.nbytes)
            self.queue.append((asked, buffer, master))
            self.buffers[id(asked)] = buffer.data_ptr()
            return asked

    def finish(self, copy: Copy) -> None:
        with self.lock:
            while copy.ended is None:
                done, buffer, master = self.queue[0]
                done.began = time.perf_counter()
                master.fill(buffer)
                done.ended = time.perf_counter()
                self.queue.popleft()

    def wait(self, copy: Copy) -> None:
        self.finish(copy)
        self.readers[self.buffers[id(copy)]] = None

    def used(self, buffer: Tensor) -> Any:
        self.readers[buffer.data_ptr()] = event = object()
        return event

    def close(self) -> None:
        self.closed = True
        self.queue.clear()


@cache
def original(precision: str) -> nn.Module:
    from diffusers import WanTransformer3DModel

    torch.set_num_threads(1)
    transformer = WanTransformer3DModel.from_pretrained(Path(wanlab.tiny_path()) / "transformer", torch_dtype=DTYPES[precision])
    return copy.deepcopy(transformer.eval().requires_grad_(False))


def tiny(precision: str = "fp32") -> Any:
    return copy.deepcopy(original(precision))


@torch.inference_mode()
def velocity(transformer: Any, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dtype = transformer.patch_embedding.weight.dtype
    latents, text = (torch.randn(size, generator=generator).to(dtype) for size in ((1, 16, 2, 4, 4), (1, 5, 128)))
    return transformer(latents, torch.tensor([500.0]), text, return_dict=False)[0]


@cache
def expected(precision: str, seed: int = 0) -> Tensor:
    return velocity(original(precision), seed)


def swapped(transformer: Any, count: int, **more: Any) -> BlockSwap:
    blocks = transformer.blocks
    kept = {block: build_host_master(blocks[block], pin=False) for block in spread(len(blocks), count)}
    return BlockSwap(blocks, kept, CPU, **more)


def equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) and not one.isnan().any()


class Mixed(nn.Module):
    """A block with every kind of tensor: packed ones, one without shape, an empty one, a shared one, those of a later layer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("fp8", torch.randn(8, 8).to(torch.float8_e4m3fn))
        self.register_buffer("packed_weight", torch.randint(-99, 99, (8, 8), dtype=torch.int8))
        self.register_buffer("blocks", torch.randint(0, 255, (8, 3), dtype=torch.uint8), persistent=False)
        self.register_buffer("scale", torch.rand(()) / 99)
        self.register_buffer("nothing", torch.empty(0, 4))
        self.requires_grad_(False)
        self.add_module("lora", nn.Linear(8, 8, dtype=torch.bfloat16).requires_grad_(False))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.packed_weight.float() * self.scale + self.fp8.float()
        x = torch.tanh(self.second(self.first(x)) @ weight) + self.lora(x.bfloat16()).float()
        return x + self.blocks.float().mean() / 255 + self.nothing.sum()


def chain(blocks: list[nn.Module], order: list[int] | None = None) -> Tensor:
    x = torch.linspace(-1, 1, 16).view(2, 8)
    for index in range(len(blocks)) if order is None else order:
        x = blocks[index](x)
    return x


def made_up(count: int) -> list[nn.Module]:
    return [Mixed(seed) for seed in range(count)]


# Which blocks


@given(st.integers(1, 60).flatmap(lambda blocks: st.tuples(st.just(blocks), st.integers(0, blocks))))
def test_exactly_so_many_blocks_are_swapped_evenly(numbers: tuple[int, int]) -> None:
    blocks, count = numbers
    found = spread(blocks, count)
    assert found == tuple(int((i + 0.5) * blocks / count) for i in range(count))
    assert len(set(found)) == count
    assert all(0 <= block < blocks for block in found)
    gaps = {after - before for before, after in zip(found, (*found[1:], *(blocks + block for block in found[:1])), strict=True)}
    assert gaps <= ({blocks // count, math.ceil(blocks / count)} if count else set())


def test_more_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"blocks_to_swap is 9; this model has 8 blocks, so it must be 0 to 8"):
        spread(8, 9)


# The same bits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("count", range(1, 9))
def test_velocities_keep_their_bits_and_counters_their_closed_forms(count: int, precision: str) -> None:
    for prefetch in (0, 1, 2, 7):
        transformer = tiny(precision)
        kept = {name: weight.clone() for name, weight in transformer.state_dict().items()}
        parameters = [id(weight) for weight in transformer.parameters()]
        swap = swapped(transformer, count, prefetch=prefetch, copier=FakeCopier())
        for seed in (0, 1, 0):
            assert equal(velocity(transformer, seed), expected(precision, seed))
        slots = min(prefetch + 1, count)
        size = layout_of(transformer.blocks[0]).nbytes
        assert swap.swapped == spread(8, count)
        assert swap.slots == slots
        assert (swap.device_bytes, swap.saved_bytes) == (slots * size, (count - slots) * size)
        assert swap.copies == (count if slots == count else 3 * count + slots - 1)
        assert swap.waits == (3 * count if slots == 1 < count else 1)
        assert swap.bytes_to_device == swap.copies * size
        assert all(torch.equal(weight, kept[name]) for name, weight in transformer.state_dict().items())
        assert parameters == [id(weight) for weight in transformer.parameters()]


def test_without_waiting_for_copies_nothing_is_right() -> None:
    class Hasty(FakeCopier):
        def wait(self, copy: Copy) -> None:
            """Forget it."""

    transformer = tiny()
    swap = swapped(transformer, 4, copier=Hasty())
    assert velocity(transformer).isnan().all()
    assert swap.copies > 4


def test_a_slot_that_is_overwritten_before_its_reader_is_done_is_noticed() -> None:
    class Forgetful(FakeCopier):
        first: ClassVar[dict[int, Any]] = {}

        def used(self, buffer: Tensor) -> Any:
            return self.first.setdefault(buffer.data_ptr(), super().used(buffer))  # always that of the first reader

    transformer = tiny()
    swap = swapped(transformer, 4, copier=Forgetful())
    with pytest.raises(HazardError):
        velocity(transformer)
    assert swap.copies == 2


@given(st.data())
@settings(max_examples=60)
def test_blocks_in_any_order_keep_their_bits(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    order = data.draw(st.lists(st.integers(0, count - 1), max_size=20))
    blocks = made_up(count)
    wanted = chain(blocks, order)
    chosen = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    held: dict[int, Master] = {block: build_host_master(blocks[block], pin=False) for block in chosen}
    swap = BlockSwap(blocks, held, CPU, prefetch=data.draw(st.integers(0, 6)), copier=FakeCopier())
    assert equal(chain(blocks, order), wanted)
    assert swap.copies <= sum(block in chosen for block in order) * swap.slots


def test_all_kinds_of_tensors_go_along_and_lie_aligned() -> None:
    blocks = made_up(3)
    wanted = chain(blocks)
    layout = layout_of(blocks[0])
    assert {place.dtype for place in layout.places} >= {
        torch.float8_e4m3fn,
        torch.int8,
        torch.uint8,
        torch.bfloat16,
        torch.float32,
    }
    assert all(place.offset % ALIGNMENT == 0 for place in layout.places)
    assert sum(place.name.endswith("weight") and place.name[0] in "fs" for place in layout.places) == 1  # shared: once
    swap = BlockSwap(
        blocks, {block: build_host_master(blocks[block], pin=False) for block in range(3)}, CPU, copier=FakeCopier()
    )
    assert equal(chain(blocks), wanted)
    assert swap.bytes_to_device == swap.copies * layout.nbytes


# Blocks that are left out


def test_blocks_that_a_technique_leaves_out_are_not_copied() -> None:
    for left_out in ((3,), (0, 7), tuple(range(1, 8)), tuple(range(8))):
        plain, transformer = tiny(), tiny()
        skip = lambda _, forward: lambda hidden, *rest: hidden  # noqa: E731
        with patched([plain.blocks[block] for block in left_out], "forward", skip):
            wanted = velocity(plain)
        swap = swapped(transformer, 8, prefetch=1, copier=FakeCopier())
        assert equal(velocity(transformer), expected("fp32"))
        before = swap.copies
        with patched([transformer.blocks[block] for block in left_out], "forward", skip):
            for _ in range(3):
                assert equal(velocity(transformer), wanted)
        assert swap.copies - before <= 3 * (8 - len(left_out)) + 3 + 1  # in each pass one was ordered that did not come
        if len(left_out) == 8:
            assert swap.copies == before
        assert equal(velocity(transformer), expected("fp32"))


def test_a_pass_that_computes_only_the_first_block_keeps_it() -> None:
    blocks = made_up(6)
    swap = BlockSwap(
        blocks, {block: build_host_master(blocks[block], pin=False) for block in range(6)}, CPU, copier=FakeCopier()
    )
    chain(blocks, [0] * 9)
    assert swap.copies == 2  # the block, and the one that would have come next


# Interrupts and errors


@contextlib.contextmanager
def interrupted(line: int) -> Iterator[list[int]]:
    """Within, the code of wanlab.placement is interrupted when it has done so many lines."""
    folder, done = str(Path(copiers.__file__).parent), [0]

    def local(frame: Any, event: str, _: Any) -> Any:
        if event == "line":
            done[0] += 1
            if done[0] == line:
                raise KeyboardInterrupt
        return local

    before = sys.gettrace()
    sys.settrace(lambda frame, event, _: local if frame.f_code.co_filename.startswith(folder) else None)
    try:
        yield done
    finally:
        sys.settrace(before)


class Small(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


@pytest.mark.parametrize("way", ["fake", "direct", "thread"])
def test_an_interrupt_at_any_line_leaves_a_model_that_computes_the_same_bits(way: str, tmp_path: Path) -> None:
    blocks: list[nn.Module] = [Small(seed) for seed in range(4)]
    wanted = chain(blocks)
    weights = [block.layer.weight.clone() for block in blocks]
    held: dict[int, Master] = {
        block: write_file_master(blocks[block], tmp_path) if way == "thread" else build_host_master(blocks[block], pin=False)
        for block in (0, 1, 3)
    }
    swap = BlockSwap(blocks, held, CPU, copier=FakeCopier() if way == "fake" else None)
    line, reached = 0, 0
    while reached >= line:
        line += 1
        with contextlib.suppress(KeyboardInterrupt), interrupted(line) as done:
            chain(blocks)
            chain(blocks)
        reached = done[0]
        assert equal(chain(blocks), wanted), f"after an interrupt at line {line}"
        if way != "thread":
            assert all(torch.equal(block.layer.weight, weight) for block, weight in zip(blocks, weights, strict=True))
    assert line > 200
    swap.remove()
    assert equal(chain(blocks), wanted)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_error_inside_a_block_leaves_its_weights_at_home(error: type[BaseException]) -> None:
    transformer = tiny()
    swap = swapped(transformer, 8, prefetch=2, copier=FakeCopier())

    def fail(*_: Any) -> None:
        raise error

    for block in transformer.blocks:
        hook = block.ffn.register_forward_pre_hook(fail)
        with pytest.raises(error):
            velocity(transformer)
        hook.remove()
        assert all(torch.equal(*pair) for pair in zip(transformer.parameters(), original("fp32").parameters(), strict=True))
    assert equal(velocity(transformer), expected("fp32"))
    assert swap.copies > 8


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("place", ["copy", "wait", "used"])
def test_an_error_in_a_copy_leaves_a_model_that_computes_the_same_bits(place: str, error: type[BaseException]) -> None:
    class Failing(FakeCopier):
        left = math.inf

    def failing(self: Failing, *given: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise error
        return getattr(FakeCopier, place)(self, *given)

    setattr(Failing, place, failing)
    transformer, copier = tiny(), Failing()
    swap = swapped(transformer, 5, copier=copier)
    for call in range(1, 6):
        copier.left = call
        with pytest.raises(error):
            velocity(transformer)
        assert equal(velocity(transformer), expected("fp32"))
    assert swap.copies > 25


# Files


@dataclass(frozen=True)
class Stored:
    file: Path
    offset: int
    nbytes: int
    dtype: str


def entries(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, as its format is described: a length, a JSON header, the bytes."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    return {
        name: Stored(file, 8 + length + one["data_offsets"][0], one["data_offsets"][1] - one["data_offsets"][0], one["dtype"])
        for name, one in header.items()
    }


def of_block(file: Path, block: int) -> dict[str, Stored]:
    prefix = f"blocks.{block}."
    return {name.removeprefix(prefix): one for name, one in entries(file).items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny transformer as a file in fp32."""
    file = tmp_path_factory.mktemp("checkpoint") / "weights.safetensors"
    save_file({name: weight.contiguous() for name, weight in original("fp32").state_dict().items()}, file)
    return file


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("where", ["checkpoint", "meta", "scratch"])
def test_blocks_from_files_keep_their_bits(where: str, prefetch: int, checkpoint: Path, tmp_path: Path) -> None:
    transformer = tiny()
    held: dict[int, Master] = {}
    for block in spread(8, 5):
        if where == "meta":
            transformer.blocks[block].to("meta")
        if where == "scratch":
            held[block] = write_file_master(transformer.blocks[block], tmp_path)
        else:
            held[block] = build_file_master(transformer.blocks[block], of_block(checkpoint, block))
    swap = BlockSwap(transformer.blocks, held, CPU, prefetch=prefetch)
    for seed in (0, 1):
        assert equal(velocity(transformer, seed), expected("fp32", seed))
    assert swap.waits == (10 if prefetch == 0 else 1)
    assert list(tmp_path.iterdir()) == []
    weights = [weight for block in swap.modules for weight in block.parameters()]
    assert all(weight.isnan().all() for weight in weights)  # who forgets to bring them will see it
    assert sum(weight.untyped_storage().nbytes() for weight in weights) == 4 * len(weights)
    swap.remove()
    assert equal(velocity(transformer), expected("fp32"))


def test_only_what_the_checkpoint_holds_otherwise_is_written_anew(tmp_path: Path) -> None:
    """The shipped file is in fp16, of which a model in fp16 keeps some weights in fp32."""
    transformer, wanted = tiny("fp16"), expected("fp16")
    written = []
    held: dict[int, Master] = {}
    for block in range(8):
        found = of_block(CHECKPOINT, block)
        for weight in transformer.blocks[block].parameters():
            if weight.dtype == torch.float16:
                weight.fill_(math.nan)  # is not looked at
        held[block] = build_file_master(transformer.blocks[block], found, tmp_path)
        written.append(os.fstat(held[block]._files[-1].fileno()).st_size)  # type: ignore[attr-defined]
    swap = BlockSwap(transformer.blocks, held, CPU)
    assert equal(velocity(transformer), wanted)
    in_fp32 = sum(weight.numel() for weight in original("fp16").blocks[0].parameters() if weight.dtype == torch.float32)
    assert written == [4 * in_fp32] * 8
    assert swap.copies == 9


def test_two_models_with_one_scratch_folder_keep_their_own_weights(tmp_path: Path) -> None:
    one, other = tiny(), tiny()
    for weight in other.blocks.parameters():
        weight.mul_(1.01)
    wanted = velocity(other)
    swaps = [
        BlockSwap(model.blocks, {block: write_file_master(model.blocks[block], tmp_path) for block in range(8)}, CPU)
        for model in (one, other)
    ]
    assert equal(velocity(one), expected("fp32"))
    assert equal(velocity(other), wanted)
    swaps[0].remove(reload=False)
    assert equal(velocity(other), wanted)
    assert velocity(one).isnan().all()


def test_a_file_that_changes_under_us_is_noticed_and_one_that_is_replaced_does_not_matter(
    checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(checkpoint.read_bytes())
    transformer = tiny()
    held: dict[int, Master] = {block: build_file_master(transformer.blocks[block], of_block(file, block)) for block in range(8)}
    swap = BlockSwap(transformer.blocks, held, CPU)
    (tmp_path / "other").write_bytes(b"other")
    os.rename(file, tmp_path / "moved")
    os.replace(tmp_path / "other", file)
    assert equal(velocity(transformer), expected("fp32"))
    with (tmp_path / "moved").open("r+b") as opened:
        opened.truncate(100)
    with pytest.raises(ModelError, match=r"changed while its weights are in use; load the model again"):
        velocity(transformer)
    swap.remove(reload=False)


def test_a_file_that_is_too_short_is_told(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(checkpoint.read_bytes()[:-1_000_000])
    blocks = tiny().blocks
    last = max(range(8), key=lambda block: max(one.offset for one in of_block(file, block).values()))
    master = build_file_master(blocks[last], of_block(file, last))
    with pytest.raises(
        ModelError, match=r"weights.safetensors ends before the weights that its header names; download it again"
    ):
        master.fill(torch.empty(master.layout.nbytes, dtype=torch.uint8))


def test_weights_that_are_stored_otherwise_than_wanted_are_refused(checkpoint: Path) -> None:
    found = of_block(checkpoint, 0)
    with pytest.raises(ModelError, match=r"is stored as F32 in \d+ bytes, but is wanted as BF16"):
        build_file_master(tiny("bf16").blocks[0], found)
    other = found | {"scale_shift_table": replace(found["scale_shift_table"], dtype="I32")}  # as many bytes, other numbers
    with pytest.raises(ModelError, match=r"scale_shift_table is stored as I32"):
        build_file_master(tiny().blocks[0], other)
    del found["ffn.net.2.bias"]
    with pytest.raises(ModelError, match=r"No file holds ffn.net.2.bias"):
        build_file_master(tiny().blocks[0], found)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    block = tiny().blocks[0]
    kept = [weight.clone() for weight in block.parameters()]
    files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(FileError, match=r"cannot be kept in .*: File too large; free some space"):
            write_file_master(block, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.setattr(masters.shutil, "disk_usage", lambda folder: type("", (), {"free": 3 * 2**20 // 10}))
    with pytest.raises(FileError, match=r"a block needs 0 MiB, 0 MiB are free|a block needs 1 MiB, 0 MiB are free"):
        write_file_master(block, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not files or len(list(Path("/proc/self/fd").iterdir())) == files
    assert all(torch.equal(*pair) for pair in zip(block.parameters(), kept, strict=True))


CHILD = """
import os, sys, signal, pathlib, torch, psutil, torch._dynamo
from torch import nn
from wanlab.placement.masters import write_file_master
from wanlab.placement.swap import BlockSwap

torch.set_num_threads(1)
def block():
    return nn.Linear(2048, 4096, bias=False, device="meta").requires_grad_(False)  # 32 MiB

def resident():
    return psutil.Process().memory_info().rss / 2**20

blocks = nn.ModuleList([block() for _ in range(6)])
masters = {}
nn.Linear(2048, 4096)(torch.ones(1, 2048))
before = resident()
for index, one in enumerate(blocks):
    one.to_empty(device="cpu")
    one.weight.fill_(index)
    masters[index] = write_file_master(one, pathlib.Path(sys.argv[1]))
written = resident()
swap = BlockSwap(blocks, masters, torch.device("cpu"), prefetch=1)
sums = [float(one(torch.ones(1, 2048))[0, 0]) for _ in range(2) for one in blocks]
assert sums == [2048.0 * index for _ in range(2) for index in range(6)], sums
print(before, written, resident(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_blocks_on_the_disk_take_no_memory_and_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before, written, after = map(float, done.stdout.split())
    assert written - before < 48  # MiB: one block at a time, of 192
    assert after - before < 2 * 32 + 48
    assert list(tmp_path.iterdir()) == []


# The reading thread


def test_the_thread_hands_what_it_read_to_the_gpu_in_two_buffers_that_it_does_not_overwrite_too_early(tmp_path: Path) -> None:
    for prefetch in (0, 1, 3):
        transformer = tiny()
        held: dict[int, Master] = {block: write_file_master(transformer.blocks[block], tmp_path) for block in (1, 2, 4, 5, 7)}
        held[0] = build_host_master(transformer.blocks[0], pin=False)  # one that is in memory takes its turn
        size = max(master.layout.nbytes for master in held.values())
        onward = FakeCopier()
        swap = BlockSwap(transformer.blocks, held, CPU, prefetch=prefetch, copier=ReadAhead(CPU, onward, size))
        for seed in (0, 1, 0):
            assert equal(velocity(transformer, seed), expected("fp32", seed))
        swap.remove()
        assert onward.closed


def test_what_goes_wrong_in_the_thread_is_raised_and_forgotten() -> None:
    class Broken(HostMaster):
        broken = True

        def fill(self, buffer: Tensor) -> None:
            if self.broken:
                raise FileError("The disk is gone.")
            super().fill(buffer)

    blocks = made_up(4)
    wanted = chain(blocks)
    held: dict[int, Master] = {block: build_host_master(blocks[block], pin=False) for block in range(4)}
    held[2].__class__ = Broken
    swap = BlockSwap(blocks, held, CPU, copier=ReadAhead(CPU))
    for _ in range(2):
        with pytest.raises(FileError, match="The disk is gone"):
            chain(blocks)
    held[2].broken = False  # type: ignore[attr-defined]
    assert equal(chain(blocks), wanted)
    swap.remove()


# Taking it off


@pytest.mark.parametrize("kind", ["host", "file"])
def test_after_remove_nothing_is_left(kind: str, tmp_path: Path) -> None:
    transformer = tiny()
    held: dict[int, Master] = {
        block: write_file_master(transformer.blocks[block], tmp_path)
        if kind == "file"
        else build_host_master(transformer.blocks[block], pin=False)
        for block in range(8)
    }
    swap = BlockSwap(transformer.blocks, held, CPU, prefetch=2)
    velocity(transformer)
    left = [weakref.ref(one) for one in (*held.values(), *(slot.buffer for slot in swap._slots), swap, swap._copier)]
    swap.remove()
    swap.remove()  # once more is no error
    del held, swap
    gc.collect()
    assert [one() for one in left if one() is not None] == []
    assert not [thread for thread in threading.enumerate() if thread.name == "wanlab reads blocks"]
    assert not any({"forward", "_apply"} & set(block.__dict__) for block in transformer.blocks)
    assert equal(velocity(transformer), expected("fp32"))
    transformer.to(torch.float64)


def test_slots_are_free_as_soon_as_the_swap_is_forgotten() -> None:
    transformer = tiny()
    copier = FakeCopier()
    swap = swapped(transformer, 8, copier=copier)
    velocity(transformer)
    slot = weakref.ref(swap._slots[0].buffer)
    del swap
    assert slot() is None
    assert copier.closed
    with pytest.raises(ModelError, match="keep it as long as the model"):
        velocity(transformer)


def test_who_put_a_function_around_a_block_before_remove_still_computes() -> None:
    transformer = tiny()
    swap = swapped(transformer, 8, copier=FakeCopier())
    with patched(transformer.blocks, "forward", lambda _, forward: lambda *given: forward(*given)):
        swap.remove()
        assert equal(velocity(transformer), expected("fp32"))


def test_a_swapped_model_is_not_moved_or_converted() -> None:
    transformer = tiny()
    swap = swapped(transformer, 3, copier=FakeCopier())
    for change in (lambda: transformer.to("meta"), transformer.half, lambda: transformer.to(torch.bfloat16)):
        with pytest.raises(SettingsError, match="cannot be moved or converted while blocks of it are swapped"):
            change()
    swap.remove()
    transformer.half()


def test_weights_of_quantization_libraries_and_later_layers_are_refused() -> None:
    class Strange(nn.Parameter):
        pass

    block = Mixed(0)
    block.first.bias = Strange(torch.zeros(8))
    with pytest.raises(SettingsError, match=r"moves plain tensors only, but first.bias is a Strange"):
        build_host_master(block, pin=False)
    blocks = made_up(2)
    held: dict[int, Master] = {block: build_host_master(blocks[block], pin=False) for block in range(2)}
    blocks[1].add_module("more", nn.Linear(2, 2))
    with pytest.raises(SettingsError, match="changed after it was made ready"):
        BlockSwap(blocks, held, CPU)
    assert equal(chain(blocks), chain(made_up(2)))  # the first was let go of again


# Compiling


@pytest.mark.parametrize("first", ["compile", "swap"])
def test_one_graph_serves_all_slots(first: str) -> None:
    from torch._dynamo.testing import CompileCounter

    torch.compiler.reset()
    counter = CompileCounter()
    blocks: list[nn.Module] = [Small(seed) for seed in range(5)]
    wanted = chain(blocks)

    def compiled() -> None:
        for block in blocks:
            block.forward = torch.compile(block.forward, backend=counter, fullgraph=first == "compile")

    if first == "compile":
        compiled()
    held: dict[int, Master] = {block: build_host_master(blocks[block], pin=False) for block in range(5)}
    swap = BlockSwap(blocks, held, CPU, copier=FakeCopier())
    if first == "swap":
        compiled()
    with torch.inference_mode():
        results = [chain(blocks) for _ in range(3)]
    torch.compiler.reset()
    assert all(equal(result, wanted) for result in results)
    assert counter.frame_count == 1
    assert swap.copies == 16


# The timeline


def test_the_timeline_has_every_call_and_every_byte() -> None:
    transformer = tiny()
    swap = swapped(transformer, 4, copier=FakeCopier())
    before = dict(transformer.blocks[0].__dict__)
    with swap.record() as timeline:
        velocity(transformer)
        velocity(transformer)
    assert transformer.blocks[0].__dict__.keys() == before.keys()
    table = timeline.table()
    assert list(zip(table.forward, table.block, strict=True)) == [(forward, block) for forward in (0, 1) for block in range(8)]
    assert set(table.block[table.swapped]) == set(swap.swapped)
    size = layout_of(transformer.blocks[1]).nbytes
    assert table.bytes_to_device.sum() == swap.bytes_to_device - size  # the last copy is for a pass that did not come
    assert (table.compute_seconds > 0).all()
    assert (table.wait_seconds[~table.swapped] == 0).all()
    ends = table.start_seconds + table.wait_seconds + table.compute_seconds
    assert (table.start_seconds[1:].to_numpy() >= ends[:-1].to_numpy() - 1e-9).all()
    used = table[table.bytes_to_device > 0]
    assert (
        used.copy_start_seconds + used.copy_seconds <= used.start_seconds + used.wait_seconds + 1e-9
    ).all()  # no block computes before its copy is done
    velocity(transformer)
    assert len(timeline.table()) == 16


def test_the_drawing_shows_one_pass_in_two_lanes() -> None:
    nan = math.nan
    rows = [
        Row(1, 0, False, 10.0, 0.0, 2.0, nan, 0.0, 0),
        Row(1, 1, True, 12.0, 1.0, 2.0, 9.0, 4.0, 2**30),  # waits for its copy, which began before this pass
        Row(1, 2, False, 15.0, 0.0, 0.01, nan, 0.0, 0),  # too short for its number
    ]
    [axes] = draw(rows, [(1, 9.0, 4.0), (1, 13.0, 9.0), (1, 3.0, 4.0)], 1).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["compute", "copy"]
    assert [(text.get_text(), text.get_position()[1]) for text in axes.texts] == [("0", 0), ("1", 0), ("1", 1), ("1", 1)]
    hatched = [part for part in axes.collections if part.get_hatch()]
    assert [part.get_paths()[0].get_extents().intervalx.tolist() for part in hatched] == [[2.0, 3.0]]
    assert axes.get_xlim() == pytest.approx((0, 5.01))
    assert axes.get_title(loc="left") == (
        "forward 1: 5.01 s, of which 1.00 s waiting for weights; 1.00 GiB copied in 4.00 s (0.2 GiB/s)"
    )


def test_the_drawing_is_of_the_pass_that_is_asked_for() -> None:
    transformer = tiny()
    swap = swapped(transformer, 4, copier=FakeCopier())
    with swap.record() as timeline:
        with pytest.raises(SettingsError, match="Nothing was recorded"):
            timeline.show()
        velocity(transformer)
        velocity(transformer)
    assert [timeline.show(index).axes[0].get_title(loc="left")[:10] for index in (0, 1, -1, -2)] == [
        f"forward {number}:" for number in (0, 1, 1, 0)
    ]
    with pytest.raises(SettingsError, match=r"forward is 2; 2 were recorded, so it must be -2 to 1"):
        timeline.show(2)


# Modules and parts that are moved as a whole


def test_the_text_embedder_comes_for_its_own_forward_only() -> None:
    transformer = tiny()
    embedder = transformer.condition_embedder.text_embedder
    master = build_host_master(embedder, pin=False)
    moved = OnDemand([embedder], [master], CPU)
    seen: list[int] = []
    embedder.linear_1.register_forward_pre_hook(lambda module, _: seen.append(module.weight.data_ptr()))
    for seed in (0, 1):
        assert equal(velocity(transformer, seed), expected("fp32", seed))
    first, last = master.bytes.data_ptr(), master.bytes.data_ptr() + master.layout.nbytes
    assert [first <= pointer < last for pointer in seen] == [False, False]
    assert first <= embedder.linear_1.weight.data_ptr() < last
    assert (moved.copies, moved.bytes_to_device, moved.saved_bytes) == (2, 2 * master.layout.nbytes, master.layout.nbytes)
    moved.remove()
    assert equal(velocity(transformer), expected("fp32"))


@pytest.mark.parametrize("rest", [True, False])
def test_a_part_is_on_the_device_for_a_stage(rest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    device, to = torch.device("cpu", 0), Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda self, *given: self.clone() if given == (device,) else to(self, *given))
    transformer = tiny()
    swap = swapped(transformer, 2, copier=FakeCopier())
    alone = {id(weight) for block in swap.modules for weight in block.parameters()}
    tensors = [*transformer.parameters(), *transformer.buffers()]
    home = [tensor.data_ptr() for tensor in tensors]
    with resting(transformer, device, rest, without=swap.modules):
        stays = [tensor.data_ptr() == pointer for tensor, pointer in zip(tensors, home, strict=True)]
        assert stays == [id(tensor) in alone for tensor in tensors]
        assert equal(velocity(transformer), expected("fp32"))
    back = [tensor.data_ptr() == pointer for tensor, pointer in zip(tensors, home, strict=True)]
    assert back == ([True] * len(tensors) if rest else stays)
    assert equal(velocity(transformer), expected("fp32"))


def test_a_part_that_does_not_fit_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    device, room = torch.device("cpu", 0), [5]

    def to(tensor: Tensor, *_: Any) -> Tensor:
        room[0] -= 1
        if room[0] < 0:
            raise torch.OutOfMemoryError("full")
        return tensor.clone()

    transformer = tiny()
    home = [tensor.data_ptr() for tensor in transformer.parameters()]
    monkeypatch.setattr(Tensor, "to", to)
    with pytest.raises(torch.OutOfMemoryError), resting(transformer, device, rest=False):
        pytest.fail("it does not begin")
    assert room[0] == -1
    assert [tensor.data_ptr() for tensor in transformer.parameters()] == home


def test_tensors_of_quantization_libraries_are_moved_and_put_back() -> None:
    class Strange(nn.Parameter):
        def to(self, device: Any) -> Any:
            return Strange(self.detach().clone(), requires_grad=False)

    module = nn.Linear(2, 2)
    module.weight = own = Strange(torch.ones(2, 2), requires_grad=False)
    with resting(module, torch.device("cpu", 0), rest=True):
        assert module.weight is not own
        assert torch.equal(module.weight, own)
    assert module.weight is own


# On a GPU


class FakeCuda:
    """Writes down what streams and events are told."""

    def __init__(self, said: list[str], name: str) -> None:
        self.said, self.name = said, name

    def __call__(self, *_: Any, **__: Any) -> FakeCuda:
        return self

    def __getattr__(self, verb: str) -> Callable[..., None]:
        return lambda *given: self.said.append(" ".join([self.name, verb, *(one.name for one in given)]))


def test_a_copy_to_a_gpu_comes_after_the_reader_and_before_the_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    side, main = FakeCuda(said, "side"), FakeCuda(said, "main")
    streams = [main]

    @contextlib.contextmanager
    def within(stream: FakeCuda) -> Iterator[None]:
        streams.append(stream)
        yield
        streams.pop()

    names = iter(["used", "began", "ended"])
    monkeypatch.setattr(torch.cuda, "Stream", side)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: FakeCuda(said, next(names)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: streams[-1])
    monkeypatch.setattr(torch.cuda, "stream", within)
    block = Mixed(0)
    master = build_host_master(block, pin=False)
    copier, buffer = CudaStream(torch.device("cuda", 0)), torch.empty(master.layout.nbytes, dtype=torch.uint8)
    after = copier.used(buffer)
    done = copier.copy(buffer, master, after)
    copier.wait(done)
    copier.finish(done)
    copier.close()
    assert torch.equal(buffer, master.bytes)
    assert said == [
        "used record main",
        "side wait_event used",
        "began record side",
        "ended record side",
        "main wait_event ended",
        "ended synchronize",
        "side synchronize",
    ]


def test_host_memory_is_pinned_to_its_size_and_unpinned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[Any, ...]] = []

    class Cudart:
        failure = 0

        def cudaHostRegister(self, *given: int) -> int:
            said.append(given)
            return self.failure

        def cudaHostUnregister(self, pointer: int) -> int:
            said.append((pointer,))
            return 0

    monkeypatch.setattr(torch.cuda, "cudart", Cudart)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: said.append(()))
    block = Mixed(0)
    master = build_host_master(block, pin=True)
    pointer, size = master.bytes.data_ptr(), master.layout.nbytes
    assert master.buffer.pinned
    assert said == [(pointer, size, 0)]
    master.close()
    del master
    assert said == [(pointer, size, 0), (), (pointer,)]
    monkeypatch.setattr(Cudart, "failure", 2)
    with pytest.warns(UserWarning, match=r"cannot be pinned \(CUDA error 2\).*use_non_blocking"):
        assert not HostBuffer(100, pin=True).pinned


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", ["host", "file"])
@pytest.mark.parametrize("non_blocking", [True, False])
def test_on_a_gpu_velocities_keep_their_bits(kind: str, non_blocking: bool, tmp_path: Path) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    blocks: list[nn.Module] = [nn.Linear(2048, 2048).requires_grad_(False) for _ in range(8)]
    x = torch.randn(4096, 2048, device=device)

    def forward() -> Tensor:
        y = x
        for _ in range(3):
            for block in blocks:
                y = torch.tanh(block(y))
        return y

    for block in blocks:
        block.to(device)
    wanted = forward()
    held: dict[int, Master] = {
        block: write_file_master(blocks[block], tmp_path) if kind == "file" else build_host_master(blocks[block], pin=True)
        for block in spread(8, 6)
    }
    swap = BlockSwap(blocks, held, device, prefetch=1, non_blocking=non_blocking)
    assert equal(forward(), wanted)
    with swap.record() as timeline:
        assert equal(forward(), wanted)
    assert (timeline.table().compute_seconds > 0).all()
    swap.remove()
    assert all(block.weight.device == CPU for block in swap.modules)


def test_the_copier_fits_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, file = build_host_master(Mixed(0), pin=False), write_file_master(Mixed(1), tmp_path)
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeCuda([], "side"))
    monkeypatch.setattr(masters, "_pin", lambda buffer: False)
    found = [
        copiers.copier_for(device, [master], non_blocking)
        for device, master, non_blocking in (
            (CPU, host, True),
            (CPU, file, True),
            (CPU, file, False),
            (gpu, host, True),
            (gpu, file, True),
            (gpu, host, False),
            (torch.device("mps"), host, True),
        )
    ]
    assert [type(one) for one in found] == [Direct, ReadAhead, Direct, CudaStream, ReadAhead, Direct, Direct]
    for one in found:
        one.close()
    assert isinstance(file, FileMaster)
