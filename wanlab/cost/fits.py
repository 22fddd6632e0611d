"""Whether a run fits, and if not, the smallest change that makes it fit. No torch.

Changes are tried from the harmless to the deep: first those that cost time only (tiles for the VAE, parts that wait in
memory, swapped blocks), then number formats, then fewer frames and a smaller picture. Each is taken only as far as
needed: the least blocks, the most frames. If none does it alone, the fewest that do it together are looked for. A
change is a mapping of settings, which `request.but(change)` takes.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wanlab.cost import memory
from wanlab.cost.request import Request
from wanlab.errors import SettingsError

Change = Mapping[str, Any]

QUANTIZATIONS = ("fp8_e4m3fn_scaled", "gguf_q5_0", "gguf_q4_0")  # wanlab's own kinds, which work everywhere
TILES: Change = {"vae_tiling": True}
WAIT: Change = {"force_offload": True}


@dataclass(frozen=True)
class Verdict:
    """Whether a run fits: `fits` is None where the memory of the device is not known.

    `smallest_change` maps settings to values, {} if nothing has to change, None if no change was found. `others` are
    the further changes that would do it alone. `sentence` tells it.
    """

    fits: bool | None
    smallest_change: Change | None
    others: tuple[Change, ...]
    sentence: str


def fits(request: Request) -> bool | None:
    """Whether every stage and the margin are within the memory of the device; None if that is not known."""
    room = request.device_gib
    if room is None:
        return None
    return peak(request) + request.model.margin_gib * memory.GIB <= room * memory.GIB


def peak(request: Request) -> int:
    """Bytes of the hungriest stage."""
    return max(memory.stages(request).values())


def verdict(request: Request) -> Verdict:
    """Whether it fits, and what to change."""
    found, room = fits(request), request.device_gib
    if found is None or room is None:
        return Verdict(None, None, (), "How much memory the device has is not known; set device_gib.")
    begin = f"fits in {room:.3g} GB: "
    if found:
        return Verdict(True, {}, (), begin + "yes")
    alone = [change for change in (kind(request) for kind in KINDS) if change is not None]
    if alone:
        first, *others = alone
        further = f" (or {', or '.join(told(one) for one in others)})" if others else ""
        return Verdict(False, first, tuple(others), f"{begin}no; the smallest change that does: {told(first)}{further}")
    together = _together(request)
    if together is None:
        return Verdict(False, None, (), f"{begin}no; no change of these settings does: take a smaller model or a larger device")
    return Verdict(False, together, (), f"{begin}no; the smallest change that does: {told(together)}")


def smallest_change(request: Request) -> Change | None:
    """The smallest change with which it fits: {} if it does, None if there is none or the device is not known."""
    return verdict(request).smallest_change


def relief(request: Request, stage: str, least: float = 0.05) -> Change | None:
    """The smallest change with which this stage takes less, by at least this part; None if there is none.

    For a run that ran out of memory in it, whatever the plan had said: the other stages were passed, or come later.
    """
    before = memory.stages(request).get(stage)

    def eases(change: Change) -> bool:
        changed = _allowed(request, change)
        return changed is not None and before is not None and memory.stages(changed).get(stage, 0) <= (1 - least) * before

    found = next((change for change in _strongest(request) if eases(change)), None)
    if found is None or "blocks_to_swap" not in found:
        return found
    counts = [_swapped(request, count) for count in _counts(request)]
    return counts[bisect.bisect_left(counts, True, key=eases)]


def told(change: Change) -> str:
    """A change in words: "blocks_to_swap 14 and vae_tiling on"."""
    shown = [name if value is True else f"{name} {value}" for name, value in change.items()]
    if set(change) == {"width", "height"}:
        return f"a picture of {change['width']} x {change['height']}"
    return " and ".join(shown) if len(shown) < 3 else ", ".join(shown[:-1]) + " and " + shown[-1]


def auto_placement(request: Request) -> Change:
    """The settings of cost that placement "auto" chooses: {} if it fits as it is.

    In the order of what they cost: parts that wait in memory while others work, then the text encoder on the CPU, then
    as few swapped blocks as fit, and tiles only if nothing else does it, since they are seen in the clip. If nothing
    fits, the choice with the least memory; `fits` tells. An unknown device changes nothing.
    """
    if fits(request) is not False:
        return {}
    tried: list[Change] = []
    for tiled in ({}, {"vae_tiling": True}):
        wait = {} if request.on_cpu else WAIT  # on a CPU what waits takes the same memory
        for aside in ({}, wait, {**wait, **_aside_of(request)}):
            placed = _allowed(request, {**tiled, **aside})
            if placed is None:
                continue
            tried.append(_new(request, {**tiled, **aside}))
            if fits(placed):
                return tried[-1]
            if aside and (fewest := _swap(placed)):
                return _new(request, {**tiled, **aside, **fewest})
            swapped = {**tiled, **aside, **_swapped(request, request.weights.blocks)}
            tried += [_new(request, swapped)] if _allowed(request, swapped) else []
    return min(tried, key=lambda choice: peak(request.but(choice)))


def _new(request: Request, change: Change) -> Change:
    """Without what is so already."""
    now = {**request.settings.flat(), **request.model.flat()}
    return {name: value for name, value in change.items() if now.get(name) != value}


def _allowed(request: Request, change: Change) -> Request | None:
    """The request with the change; None if the settings do not go together."""
    try:
        return request.but(change)
    except SettingsError:
        return None


def _does(request: Request, change: Change) -> bool:
    changed = _allowed(request, change)
    return changed is not None and bool(fits(changed))


def _first(request: Request, changes: Iterable[Change]) -> Change | None:
    return next((change for change in changes if _does(request, change)), None)


def _weakest(request: Request, changes: Sequence[Change]) -> Change | None:
    """The first of changes that grow stronger with which it fits, found by halving; None if not even the last does it."""
    if not changes or not _does(request, changes[-1]):
        return None
    return changes[bisect.bisect_left(changes, True, key=lambda change: _does(request, change))]


def _counts(request: Request) -> range:
    """Numbers of swapped blocks beyond those that are swapped."""
    return range(request.swapped + 1, request.weights.blocks + 1)


def _swapped(request: Request, count: int) -> Change:
    """So many blocks swapped: on a CPU to the disk, since memory is what there is to save."""
    away = {"offload_device": "disk"} if request.on_cpu and request.model.offload_device == "cpu" else {}
    return {"blocks_to_swap": count, **away}


def _tile(request: Request) -> Change | None:
    return _first(request, [change for change in [TILES] if _new(request, change)])


def _wait(request: Request) -> Change | None:
    return _first(request, [change for change in [WAIT] if _new(request, change) and not request.on_cpu])


def _aside(request: Request) -> Change | None:
    return _first(request, [_aside_of(request)]) if memory.weights(request).text_encoder else None


def _aside_of(request: Request) -> Change:
    """The text encoder on the CPU, or where that is the device, in a process that gives its memory back."""
    return {"text_encoder_device": "process" if request.on_cpu else "cpu"}


def _swap(request: Request) -> Change | None:
    return _weakest(request, [_swapped(request, count) for count in _counts(request)])


def _precise(request: Request) -> Change | None:
    return _first(request, [{"base_precision": "bf16"}]) if request.size == 4 else None


def _quantize(request: Request) -> Change | None:
    return None if request.kind else _first(request, ({"quantization": kind} for kind in QUANTIZATIONS))


def _shorter(request: Request, least: float = 0.3) -> Change | None:
    frames = request.settings.frames
    return _weakest(request, [{"frames": fewer} for fewer in range(frames - 4, 0, -4) if fewer >= least * frames])


def _smaller(request: Request) -> Change | None:
    return _weakest(request, list(_sizes(request)))


def _sizes(request: Request) -> Iterator[Change]:
    """Smaller pictures of about the same form, in multiples of 32 pixels, down to a quarter of the area."""
    wide, high = request.settings.width, request.settings.height
    for part in range(15, 7, -1):
        size = {"width": wide * part // 16 // 32 * 32, "height": high * part // 16 // 32 * 32}
        if min(size.values()) >= 32:
            yield size


KINDS: tuple[Callable[[Request], Change | None], ...] = (_tile, _wait, _aside, _swap, _precise, _quantize, _shorter, _smaller)


def _together(request: Request) -> Change | None:
    """The fewest changes that do it together, from the harmless on.

    If not even all of them do, fewer frames or a smaller picture come with them.
    """
    strong = list(_strongest(request))
    everything = _merged(strong)
    if not _does(request, everything):
        last = _allowed(request, everything)
        more = last and (_shorter(last, least=0.0) or _smaller(last))
        return {**everything, **more} if more else None
    for count in range(2, len(strong) + 1):
        for chosen in itertools.combinations(strong, count):
            if _does(request, _merged(chosen)):
                return _weakened(request, _merged(chosen))
    return None


def _merged(changes: Iterable[Change]) -> Change:
    return {name: value for change in changes for name, value in change.items()}


def _strongest(request: Request) -> Iterator[Change]:
    """Each kind of change by itself, as far as it goes, from the harmless on."""
    if _new(request, TILES):
        yield TILES
    if _new(request, WAIT) and not request.on_cpu:
        yield WAIT
    if memory.weights(request).text_encoder:
        yield _aside_of(request)
    if len(_counts(request)):
        yield _swapped(request, request.weights.blocks)
    if request.size == 4:
        yield {"base_precision": "bf16"}
    if not request.kind:
        yield {"quantization": QUANTIZATIONS[0]}


def _weakened(request: Request, change: Change) -> Change:
    """As few blocks as it still fits with."""
    if "blocks_to_swap" not in change:
        return change
    counts = range(request.swapped + 1, change["blocks_to_swap"] + 1)
    return _weakest(request, [{**change, "blocks_to_swap": count} for count in counts]) or change
