"""What the browser is told of plans and runs: plain JSON, for a drawing that shows and counts nothing itself. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wanlab.cost.estimate import Estimate
from wanlab.cost.fits import told as change_told
from wanlab.plans import PlannedRun


def plan_told(run: PlannedRun) -> dict[str, Any]:
    """The steps of a planned run: noise levels, calls, what is reused, where techniques act and windows lie.

    `made` is for each step the share of its calls that are made, None where a cache decides on the way, and `answered` the
    share that a cache answers.
    """
    settings = run.timeline.settings
    return {
        "sigmas": [round(float(sigma), 5) for sigma in run.grid.sigmas],
        "levels": [round(float(sigma), 5) for sigma in settings.levels().sigmas],
        "first": settings.first_step,
        "reused": list(run.reused),
        "passes": list(run.passes),
        "made": [None if share is None else 1 - share for share in run.skipped],
        "techniques": {name: list(acts) for name, acts in run.techniques.items() if name not in ("cache", "context")},
        "answered": list(run.skipped) if "cache" in run.techniques else None,
        "windows": _windows(run) if "context" in run.techniques else None,
        "most": run.model_calls,
        "fewest": run.fewest_calls,
        "work": round(run.work, 4),
        "rounds": 1 if settings.freeinit is None else settings.freeinit.rounds,
    }


def _windows(run: PlannedRun) -> dict[str, Any]:
    """Windows as latent frames with weights, those of a step once for all steps that have the same."""
    kinds: dict[Any, int] = {}
    of_step = [kinds.setdefault(tuple(run.windows(step)), len(kinds)) for step in range(len(run.reused))]
    told = [[[list(frames), [round(weight, 2) for weight in weights]] for frames, weights in windows] for windows in kinds]
    return {"frames": run.timeline.settings.latent_frames, "kinds": told, "step": of_step}


def cost_told(estimate: Estimate) -> dict[str, Any]:
    """Bytes by stage against the device, the verdict, the changes that fit, and seconds with where they come from."""
    changes = [estimate.smallest_change, *estimate.others] if estimate.fits is False else []
    return {
        "stages": [[name, gib, estimate.held[name]] for name, gib in estimate.stages.items()],
        "device": estimate.device_gib,
        "margin": estimate.margin_gib,
        "fits": estimate.fits,
        "verdict": estimate.verdict,
        "changes": [{"told": change_told(change), "change": dict(change)} for change in changes if change],
        "seconds": dict(estimate.seconds),
        "total": estimate.total_seconds,
        "notes": list(estimate.notes),
        "calibrated": estimate.calibrated,
    }


def measured_told(facts: Mapping[str, Any], planned: Mapping[str, float]) -> list[list[Any]]:
    """Rows of what a run took beside what was planned for it: name, unit, planned, measured; None is unknown."""
    on_gpu = "peak_vram_gib" in facts
    memory = facts["peak_vram_gib"] if on_gpu else facts.get("peak_rss_gib")
    seconds = facts["seconds"]
    return [
        ["model calls", "", planned.get("calls"), facts["model_calls"]],
        ["steps reused", "", planned.get("reused"), facts["steps_reused"]],
        ["denoising", "s", planned.get("denoise"), seconds.get("denoise")],
        ["decoding", "s", planned.get("decode"), seconds.get("decode")],
        ["in all", "s", planned.get("seconds"), seconds.get("total")],
        ["GPU memory" if on_gpu else "memory (measured: of Python and all)", "GiB", planned.get("gib"), memory],
    ]


def planned_numbers(run: PlannedRun) -> dict[str, float]:
    """Of a plan what can be held against a finished run."""
    found: dict[str, float] = {"calls": run.model_calls, "reused": sum(run.reused)}
    if run.estimate is not None:
        found |= {"seconds": run.estimate.total_seconds, "gib": run.estimate.peak_gib}
        found |= {name: run.estimate.seconds[name] for name in ("denoise", "decode") if name in run.estimate.seconds}
    return found
