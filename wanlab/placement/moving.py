"""What is moved as a whole: small modules for their own forward (`OnDemand`), and parts of the model for a stage of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wanlab.placement.copiers import Direct
from wanlab.placement.masters import Master
from wanlab.placement.parked import Parked


class OnDemand:
    """Modules that live on the host and come to the device for their own forward: the text and the image embedder.

    Their buffer is made for the call and given back after it, so they take no memory while the blocks compute. They run once
    in a pass, before the blocks, so there is nothing that a copy could hide behind (4 ms for the 90 MiB of Wan 14B). `copies`
    and `bytes_to_device` count from the beginning.
    """

    def __init__(self, modules: Sequence[nn.Module], masters: Sequence[Master], device: torch.device) -> None:
        self.device = device
        self.copies = self.bytes_to_device = 0
        self.saved_bytes = sum(master.layout.nbytes for master in masters)
        self._copier = Direct(device)
        self._parked: list[Parked] = []
        try:
            for module, master in zip(modules, masters, strict=True):
                self._parked.append(Parked(module, master, *self._hooks(len(self._parked))))
        except BaseException:
            self.remove(reload=False)
            raise

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules."""
        return tuple(one.module for one in self._parked)

    def remove(self, *, reload: bool = True) -> None:
        """Make them plain modules again, with their weights in host memory; with `reload` off those of files stay NaN."""
        parked, self._parked = self._parked, []
        with contextlib.ExitStack() as undo:
            for one in parked:
                undo.callback(one.release, reload)
        self._copier.close()

    def _hooks(self, index: int) -> tuple[Callable[[], Parked], Callable[[Parked], None]]:
        """What is done before and after a module's forward."""

        def enter() -> Parked:
            parked = self._parked[index]
            layout = parked.master.layout
            with torch.inference_mode(False):
                buffer = torch.empty(layout.nbytes, dtype=torch.uint8, device=self.device)
            self._copier.copy(buffer, parked.master, None)
            self.copies += 1
            self.bytes_to_device += layout.nbytes
            try:
                parked.at(layout.views(buffer))
            except BaseException:
                parked.rest()
                raise
            return parked

        return enter, Parked.rest


@contextlib.contextmanager
def resting(module: nn.Module, device: torch.device, rest: bool, without: Sequence[nn.Module] = ()) -> Iterator[None]:
    """Within, the module is on the device; afterwards it is where it was, if `rest` (the setting force_offload) is on.

    Its tensors on the host are kept, so that nothing is copied back: weights do not change. Modules in `without`, those that a
    `BlockSwap` moves, are left alone. If the device has no room for all of it, everything is as before.
    """
    left_alone = {id(tensor) for one in without for tensor in (*one.parameters(), *one.buffers())}
    undo = contextlib.ExitStack()
    try:
        for owner in module.modules():
            for table in (owner._parameters, owner._buffers):
                for name, tensor in table.items():
                    if tensor is not None and id(tensor) not in left_alone and tensor.device != device:
                        undo.callback(_move(table, name, tensor, device))
        yield
    except BaseException:
        undo.close()
        raise
    if rest:
        undo.close()
    undo.pop_all()


def _move(table: dict[str, Any], name: str, tensor: Tensor, device: torch.device) -> Callable[[], None]:
    """Move a tensor to the device, and return what undoes it. Those of quantization libraries are replaced by others."""
    if type(tensor) not in (Tensor, nn.Parameter):
        moved: Any = tensor.to(device)
        wrap = isinstance(tensor, nn.Parameter) and not isinstance(moved, nn.Parameter)
        table[name] = nn.Parameter(moved, requires_grad=False) if wrap else moved
        return lambda: table.__setitem__(name, tensor)
    host = tensor.data
    tensor.data = host.to(device)

    def back() -> None:
        tensor.data = host

    return back
