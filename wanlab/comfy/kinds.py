"""What wanlab knows of a kind of node: its boxes and sockets, and what becomes of each. No torch.

A box holds a value of the node's own; a socket hangs on another node (a box can be turned into one). From these declarations
come the names of values in the editor's files, what is read from them and what is not and why, what is written, and
docs/comfyui.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class At(Protocol):
    """The node that is read, as the readings of its boxes see it."""

    role: str  # what the node is for: what the sockets say through which it was reached

    def value(self, name: str) -> Any:
        """What another box of the same node holds; None if it is not known."""

    def linked(self, name: str) -> bool:
        """Whether a socket of the same node hangs on something."""

    def behind(self, name: str) -> Mapping[str, Any]:
        """The values of the node on which a socket of the same node hangs; none if it hangs on nothing."""

    def hint(self, name: str) -> Any:
        """What wanlab itself wrote beside the node's values; None if it did not."""

    def asked(self, name: str) -> Any:
        """What a setting is, of those read so far."""

    def note(self, sentence: str) -> None:
        """Say that what is taken from this box means something else in wanlab."""


class Refused(Exception):
    """A value that is not taken, with the reason as a sentence."""


class Many(dict[str, Any]):
    """The settings that one box becomes, where it is several, or none (it is as wanlab does anyway)."""


# What hangs on these sockets of a sampler says how many steps there are, so it is read before the sampler's own boxes.
LEADING = ("sigmas", "scheduler", "sampler_inputs", "noise", "guider", "sampler")


class Instead(Many):
    """Settings that are taken though another node gave another value before."""


Read = Callable[[Any, At], Any]


@dataclass(frozen=True)
class Box:
    """A value of the node's own, and what becomes of it.

    `becomes` names the setting or several; "" is not taken, for the reason `why`, but goes without saying while it is
    as `default` or `same` say, which is what wanlab does. `read` makes the setting's value of it; without it `why` says
    which other box reads this one along.
    """

    name: str
    default: Any
    becomes: str = ""
    why: str = ""
    read: Read | None = None
    same: tuple[Any, ...] = ()

    def goes_without_saying(self, value: Any) -> bool:
        """Whether the value asks for nothing."""
        return any(isinstance(value, bool) == isinstance(one, bool) and value == one for one in (self.default, *self.same))


@dataclass(frozen=True)
class Socket:
    """What hangs on another node: `role` says what that is for ("" as this node), or `why` it is not taken."""

    name: str
    role: str = ""
    why: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of node.

    `older` are lists of its boxes in versions that had others; `hands_on` is the socket it only hands on; `lost` says why
    nothing of it is taken.
    """

    about: str
    boxes: tuple[Box, ...] = ()
    sockets: tuple[Socket, ...] = ()
    older: tuple[tuple[str, ...], ...] = ()
    samples: bool = False
    saves: bool = False
    hands_on: str = ""
    lost: str = ""

    @property
    def leads(self) -> bool:
        """Whether its own boxes are read first: samplers, since what hangs on them counts in their steps."""
        return any(socket.name in ("image_embeds", "latent_image", "sampler_inputs") for socket in self.sockets)

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """The names of its boxes in the order of the editor's lists, the newest first."""
        return (tuple(box.name for box in self.boxes), *self.older)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What the boxes hold in a new node."""
        return {box.name: box.default for box in self.boxes}

    def box(self, name: str) -> Box | None:
        """The box of this name."""
        return next((box for box in self.boxes if box.name == name), None)


def take(name: str, default: Any, becomes: str, read: Read | None = None, why: str = "") -> Box:
    """A box that becomes a setting, as it is or by `read`."""
    return Box(name, default, becomes, why, read or _as_it_is(becomes))


def along(name: str, default: Any, becomes: str, why: str) -> Box:
    """A box that another one's reading reads along."""
    return Box(name, default, becomes, why)


def out(name: str, default: Any, why: str, *same: Any) -> Box:
    """A box that is not taken."""
    return Box(name, default, "", why, None, same)


def as_number(value: Any) -> Any:
    """A whole number that the file writes as 3.0 is 3; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_it_is(becomes: str) -> Read:
    return lambda value, at: value
