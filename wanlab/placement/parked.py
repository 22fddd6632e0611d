"""A parked module: its weights lie in a master, and its tensors point there, or for a moment into a buffer on the device.

Only the pointers of tensors change, never the tensors: parameters keep their identity, so optimized graphs, hooks and other
holders of them stay right.

The module's `forward` is replaced, not hooked: techniques that leave a block out put their function around `forward`, and what
they leave out must not be copied. A module's hooks would run before they are asked. For the same reason a block is compiled
first and parked then (`block.forward = torch.compile(block.forward)`): moving weights stays outside of the graph. The other
order computes the same, but is refused if the graph must be whole (fullgraph).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from wanlab.errors import SettingsError
from wanlab.placement.layout import layout_of, tensors_of
from wanlab.placement.masters import HostMaster, Master, point


class Parked:
    """A module and its master. `enter` is called before each forward, and what it returns is given to `leave` after it."""

    def __init__(self, module: nn.Module, master: Master, enter: Callable[[], Any], leave: Callable[[Any], None]) -> None:
        if layout_of(module) != master.layout:
            raise SettingsError(
                "Weights of a block changed after it was made ready for swapping; add LoRAs and quantize before."
            )
        self.module, self.master = module, master
        point(module, master.resting())
        self._tensors = list(tensors_of(module).values())
        self._resting = master.resting()
        self._own = module.__dict__.get("forward")  # a compiled one; None: that of the class
        self._parked = _parked(module.forward, enter, leave, self._active())
        module.forward = self._parked
        module._apply = _refuse  # type: ignore[method-assign]

    def _active(self) -> Callable[[], bool]:
        """Whether the module is parked still, for whoever has put a function around ours and goes on to call it."""
        self._state = state = [True]
        return lambda: state[0]

    def at(self, views: list[Tensor]) -> None:
        """Let the module's tensors be these views into a buffer on the device."""
        for tensor, view in zip(self._tensors, views, strict=True):
            tensor.data = view

    def rest(self) -> None:
        """Let the module's tensors be what they are while it is not computed."""
        self.at(self._resting)

    def release(self, reload: bool) -> None:
        """Undo what was done to the module, and close the master.

        Its weights are host tensors then. Those of a file are read, or if `reload` is off stay NaN, for a model that is
        thrown away.
        """
        self.rest()
        self._state[0] = False
        self.module.__dict__.pop("_apply", None)
        if self.module.__dict__.get("forward") is self._parked:
            self.module.__dict__.pop("forward")
            if self._own is not None:
                self.module.forward = self._own
        try:
            if reload and not isinstance(self.master, HostMaster):
                self.at(self.master.layout.views(_read(self.master)))
        finally:
            self.master.close()


def _parked(
    forward: Callable[..., Any], enter: Callable[[], Any], leave: Callable[[Any], None], active: Callable[[], bool]
) -> Callable[..., Any]:
    """What is called instead of `forward`."""
    enter, leave = torch.compiler.disable(enter), torch.compiler.disable(leave)

    @torch.compiler.disable(recursive=False)  # of what is called here only `forward` is compiled
    @wraps(forward, updated=())  # a compiled function has an attribute by which torch would look through ours
    def parked(*given: Any, **named: Any) -> Any:
        if not active():
            return forward(*given, **named)
        entered = enter()
        try:
            return forward(*given, **named)
        finally:
            leave(entered)

    return parked


def _read(master: Master) -> Tensor:
    with torch.inference_mode(False):
        buffer = torch.empty(master.layout.nbytes, dtype=torch.uint8)
    master.fill(buffer)
    return buffer


def _refuse(*_: Any, **__: Any) -> None:
    raise SettingsError(
        "The model cannot be moved or converted while blocks of it are swapped; set load_device and base_precision when it is "
        "loaded, or remove the block swap first."
    )
