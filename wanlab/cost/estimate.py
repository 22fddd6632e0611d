"""What a run takes, in one answer: bytes and seconds by stage, whether it fits, and what to change. No torch.

>>> from wanlab.settings import ModelSettings, Settings
>>> from wanlab.weights.registry import known
>>> clip = Settings(width=832, height=480, frames=81, steps=50)
>>> how = ModelSettings(base_precision="bf16", load_device="cuda", force_offload=True, device_gib=24)
>>> found = estimate(Request(clip, how, Configs.of(known("Wan2.1-T2V-14B"))))
>>> found.fits, found.smallest_change
(False, {'blocks_to_swap': 14})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wanlab.cost import activations, memory
from wanlab.cost.fits import Change, verdict
from wanlab.cost.request import Configs, Pass, Request
from wanlab.cost.seconds import Calibration, Swap, seconds, source, swap

__all__ = ["Configs", "Estimate", "Request", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    `stages` are GiB at the peak of each stage, `held` those of them that are weights; `device_gib` is what there is, with
    `margin_gib` to be left free. `weights` are GiB of each part of the model on the device, `residency` where
    each block is ("device" or "swapped"), `host_gib` what waits in the computer's memory for a GPU. `stretch` says
    which part of a block sets the transformer's peak. `seconds` are by stage, `swap` what block swap is in a call.
    `fits`, `smallest_change` and `verdict`: see `wanlab.cost.fits.Verdict`. `notes` are sentences for people.
    """

    stages: Mapping[str, float]
    held: Mapping[str, float]
    device_gib: float | None
    margin_gib: float
    weights: Mapping[str, float]
    residency: tuple[str, ...]
    host_gib: float
    stretch: str
    seconds: Mapping[str, float]
    swap: Swap | None
    fits: bool | None
    smallest_change: Change | None
    others: tuple[Change, ...]
    verdict: str
    notes: tuple[str, ...]
    calibrated: bool = False  # whether seconds come from a measurement of this machine

    @property
    def peak_gib(self) -> float:
        """The most memory at one time, in GiB."""
        return max(self.stages.values())

    @property
    def peak_stage(self) -> str:
        """The stage in which that is."""
        return max(self.stages, key=self.stages.__getitem__)

    @property
    def total_seconds(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def estimate(request: Request, calibration: Calibration | None = None) -> Estimate:
    """The estimate of a run.

    `calibration` is that of the same way to load the model; without it seconds come from the card's peak.
    """
    found, told = memory.weights(request), verdict(request)
    largest = max(request.calls, key=lambda one: one.frames * one.batch, default=None)
    swapping = swap(request, largest, calibration) if largest and request.swapped else None
    return Estimate(
        stages={name: held / memory.GIB for name, held in memory.stages(request).items()},
        held={name: held / memory.GIB for name, held in memory.held(request).items()},
        device_gib=request.device_gib,
        margin_gib=request.model.margin_gib,
        weights={
            "transformer": found.transformer / memory.GIB,
            "text_encoder": found.text_encoder / memory.GIB,
            "image_encoder": found.image_encoder / memory.GIB,
            "vae": found.vae / memory.GIB,
        },
        residency=memory.residency(request),
        host_gib=memory.host(request) / memory.GIB,
        stretch=_stretch(request, largest),
        seconds=seconds(request, calibration),
        swap=swapping,
        fits=told.fits,
        smallest_change=told.smallest_change,
        others=told.others,
        verdict=told.sentence,
        notes=tuple(_notes(request, swapping, calibration)),
        calibrated=calibration is not None,
    )


def _stretch(request: Request, largest: Pass | None) -> str:
    if largest is None:
        return ""
    found = activations.forward(request.configs.transformer, request.work(largest))
    return max(found, key=found.__getitem__)


def _notes(request: Request, swapping: Swap | None, calibration: Calibration | None) -> list[str]:
    notes = [source(request, calibration)]
    if swapping and swapping.exposed > 0:
        slower = swapping.exposed / (swapping.blocks * swapping.compute)
        most = f"; up to {swapping.free} blocks would cost nothing" if swapping.overlaps else ""
        notes.append(f"Swapped blocks make a forward {slower:.0%} slower{most}.")
    elif swapping:
        times = f"{swapping.copy:.3g} s against {swapping.compute:.3g} s a block"
        notes.append(f"Copies of swapped blocks hide behind the computing: {times}.")
    if request.model.margin_gib < 0.5 and not request.on_cpu and request.device_gib is not None:
        notes.append(f"CUDA itself takes about 0.5 GiB beside the plan, and margin_gib is {request.model.margin_gib:g}.")
    return notes
