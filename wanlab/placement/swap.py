"""Block swap: some blocks have no place of their own on the device. They take turns in a few buffers, their slots.

The idea is WanVideoWrapper's `blocks_to_swap`, by which Wan 14B (26 GiB in bf16) runs on a small GPU. What is different here:

- The weights stay where they are (`masters`) and are only copied to the device. They do not change, so copying them back, as
  the wrapper does, would be work for nothing.
- The next blocks are copied while the present one is computed: with `prefetch` p there are p + 1 slots. The order is a circle,
  so that the first block of the next pass is on its way when a pass ends.
- The swapped blocks lie evenly among the others (`spread`), so that each copy has the time of several blocks to hide behind.
- Exactly as many blocks as asked for are swapped.

Copies are hidden if they take less time than the computing. At 81 frames a block of Wan 14B computes for 250 ms on an RTX
4090 and is copied in 28 ms, so that all 40 blocks can be swapped at no cost; with one frame it is not so. Saved are
(swapped - slots) x bytes of a block.

A block that is left out (by skip-layer guidance or a cache) is not asked for, and nothing is copied for it but what had been
ordered before. If the block that is asked for is in no slot, it takes the one whose block is next wanted latest.

Everything is done in such an order that an interrupt at any point leaves slots whose content is known, or known to be unknown.
One thread may compute at a time.

CUDA graphs (compile mode reduce-overhead) read weights at fixed addresses, so they cannot be used with block swap.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wanlab.errors import ModelError
from wanlab.placement.copiers import Copier, Copy, Mark, copier_for, mark
from wanlab.placement.masters import Master
from wanlab.placement.parked import Parked
from wanlab.placement.timeline import Timeline


class _Slot:
    """A buffer on the device. `block` is whose weights `copy` brings or has brought; None: unknown bytes.

    `free` is the event after which it may be overwritten; None: not known, so that all that was computed has to be done.
    """

    def __init__(self, buffer: Tensor) -> None:
        self.buffer = buffer
        self.views: dict[int, list[Tensor]] = {}  # by block
        self.block: int | None = None
        self.copy: Copy | None = None
        self.free: Any = None


class BlockSwap:
    """Swaps those of the `blocks` that have a master; all others must be on the device already. Keep it as long as the model.

    `copies`, `bytes_to_device` and `waits` count from the beginning; a wait is a call of a block that was in no slot when it
    was asked for, so that nothing hid its copy.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        masters: Mapping[int, Master],
        device: torch.device,
        *,
        prefetch: int = 1,
        non_blocking: bool = True,
        copier: Copier | None = None,
    ) -> None:
        self.device, self.swapped = device, tuple(sorted(masters))
        self.copies = self.bytes_to_device = self.waits = 0
        self._blocks, self._prefetch = list(blocks), min(prefetch, max(len(masters) - 1, 0))
        self._copier: Copier = copier or copier_for(device, list(masters.values()), non_blocking)
        sizes = [master.layout.nbytes for master in masters.values()]
        with torch.inference_mode(False):
            buffers = [torch.empty(max(sizes), dtype=torch.uint8, device=device) for _ in range(self._prefetch + 1) if sizes]
        self._slots = [_Slot(buffer) for buffer in buffers]
        self.device_bytes = sum(buffer.nbytes for buffer in buffers)
        self.saved_bytes = sum(sizes) - self.device_bytes
        self._displaced: set[int] = set()  # blocks whose tensors may point into a slot
        self._timeline: Timeline | None = None
        self._parked: dict[int, Parked] = {}
        # Copies end before the slots' memory can be given to others, also if nobody calls `remove`.
        self._close = weakref.finalize(self, self._copier.close)
        try:
            for block in self.swapped:
                self._parked[block] = Parked(blocks[block], masters[block], *self._hooks(block))
        except BaseException:
            self.remove(reload=False)
            raise

    @property
    def slots(self) -> int:
        """Number of buffers on the device."""
        return len(self._slots)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules of the swapped blocks."""
        return tuple(self._blocks[block] for block in self.swapped)

    def remove(self, *, reload: bool = True) -> None:
        """Make the blocks plain modules again, with their weights in host memory, and free the slots.

        Blocks from files are read into memory; with `reload` off they stay without weights, for a model that is thrown away.
        """
        self._close()
        self._slots.clear()
        parked, self._parked = self._parked, {}
        with contextlib.ExitStack() as undo:  # if one cannot be read the others are released all the same
            for one in parked.values():
                undo.callback(one.release, reload)

    @contextlib.contextmanager
    def record(self) -> Iterator[Timeline]:
        """Within, the timeline gets what every block waits, copies and computes."""
        timeline = self._timeline = Timeline(self.device, self.swapped)
        others = [index for index in range(len(self._blocks)) if index not in self._parked]
        try:
            with contextlib.ExitStack() as timed:
                for index in others:
                    timed.enter_context(_timed(self._blocks[index], index, timeline))
                yield timeline
        finally:
            self._timeline = None

    def _hooks(self, block: int) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        """What is done before and after a block's forward."""
        known = weakref.ref(self)  # the blocks do not keep us, so slots are free as soon as we are forgotten

        def enter() -> Any:
            swap = known()
            if swap is None:
                raise ModelError("The block swap of this model is gone; keep it as long as the model, or call its `remove`.")
            return swap, *swap._enter(block)

        def leave(entered: Any) -> None:
            swap, *more = entered
            swap._leave(block, *more)

        return enter, leave

    def _enter(self, block: int) -> tuple[_Slot, Mark, Mark]:
        """Let the block's tensors be its weights on the device, and order those of the next blocks."""
        asked = mark(self.device) if self._timeline else None
        for other in tuple(self._displaced):  # left by an interrupt
            self._rest(other)
        slot = self._bring(block)
        try:
            self._displaced.add(block)
            self._parked[block].at(self._views_in(slot, block))
            self._bring_next(block, slot)
        except BaseException:
            self._rest(block)
            raise
        return slot, asked, mark(self.device) if self._timeline else None

    def _leave(self, block: int, slot: _Slot, asked: Mark, began: Mark) -> None:
        """Send the block's tensors home."""
        try:
            slot.free = self._copier.used(slot.buffer)
        finally:
            self._rest(block)
        if self._timeline and began is not None:
            self._timeline.add(block, asked, began, mark(self.device), slot.copy)

    def _bring(self, block: int) -> _Slot:
        """The slot that holds the block; what is computed from now on comes after its copy."""
        slot = next((slot for slot in self._slots if slot.block == block), None)
        if slot is None:
            self.waits += 1
            slot = self._latest(block)
            self._begin(slot, block)
        assert slot.copy is not None
        slot.free = None
        try:
            self._copier.wait(slot.copy)
        except Exception:
            slot.block = None
            raise
        return slot

    def _bring_next(self, block: int, busy: _Slot) -> None:
        """Begin the copies of the next blocks, into slots that hold what is wanted later."""
        at = self.swapped.index(block)
        for ahead in range(1, self._prefetch + 1):
            wanted = self.swapped[(at + ahead) % len(self.swapped)]
            if all(slot.block != wanted for slot in self._slots):
                self._begin(self._latest(block, busy), wanted)

    def _latest(self, block: int, busy: _Slot | None = None) -> _Slot:
        """The slot to give away when `block` is at work: an empty one, or the one whose block comes latest in the circle."""

        def distance(slot: _Slot) -> int:
            count = len(self.swapped)
            return count if slot.block is None else (self.swapped.index(slot.block) - self.swapped.index(block)) % count

        return max((slot for slot in self._slots if slot is not busy), key=distance)

    def _begin(self, slot: _Slot, block: int) -> None:
        """Begin to copy a block into a slot, after what was computed from it."""
        master = self._parked[block].master
        if slot.free is None:
            slot.free = self._copier.used(slot.buffer)
        slot.block = None
        slot.copy = self._copier.copy(slot.buffer, master, slot.free)
        slot.block = block
        self.copies += 1
        self.bytes_to_device += master.layout.nbytes
        if self._timeline:
            self._timeline.copying(block, slot.copy)

    def _views_in(self, slot: _Slot, block: int) -> list[Tensor]:
        if block not in slot.views:
            slot.views[block] = self._parked[block].master.layout.views(slot.buffer)
        return slot.views[block]

    def _rest(self, block: int) -> None:
        self._parked[block].rest()
        self._displaced.discard(block)


@contextlib.contextmanager
def _timed(module: nn.Module, block: int, timeline: Timeline) -> Iterator[None]:
    """Within, the timeline hears of each call of a block that is not swapped."""
    own, forward = module.__dict__.get("forward"), module.forward

    def timed(*given: Any, **named: Any) -> Any:
        began = mark(timeline.device)
        try:
            return forward(*given, **named)
        finally:
            timeline.add(block, began, began, mark(timeline.device), None)

    module.forward = timed
    try:
        yield
    finally:
        module.__dict__.pop("forward", None)
        if own is not None:
            module.forward = own
