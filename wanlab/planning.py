"""Plans of models, also of those that are not here: what a run would do and take, before anything is downloaded. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wanlab.cost.estimate import estimate
from wanlab.cost.fits import auto_placement, told
from wanlab.cost.request import Configs, Request
from wanlab.cost.seconds import Calibration
from wanlab.model.checkpoint import Checkpoint, facts_of
from wanlab.model.finding import described
from wanlab.model_settings import ModelSettings
from wanlab.plans import Plan, PlannedRun, planned
from wanlab.settings import Settings
from wanlab.timeline import Timeline

if TYPE_CHECKING:
    import pandas


def plan(
    settings: Settings | Mapping[str, Any] | str | None = None,
    *variants: Mapping[str, Any],
    model: str = "tiny",
    **how: Any,
) -> Plan:
    """What a run of these settings would do and take on a model, and then one of each variant (changes by dotted name).

    `model` is one of the published names ("Wan2.1-T2V-14B"), of which no file is needed, or anything that `wl.Lab` takes; `how`
    are settings of the model (`device_gib=24`, `blocks_to_swap=20`). For published models these begin with a GPU and bf16, and
    `settings` that are not given are the official ones; a mapping changes these. Variants may change both.

    >>> plan(model="Wan2.1-T2V-14B", device_gib=24, force_offload=True).smallest_change
    {'blocks_to_swap': 17}
    """
    loader, found, base = _asked(settings, model, how)
    runs: list[PlannedRun] = []
    for variant in ({}, *variants):
        changes, placed = divided(variant)
        how_loaded = loader.but(placed)
        run = planned(facts_of(found, how_loaded), Timeline(base.but(changes)), variant, lambda _: False, set())
        runs.append(estimated(run, found, how_loaded))
    return Plan(tuple(runs))


def dry_run(settings: Settings | Mapping[str, Any] | str | None = None, *, model: str = "tiny", **how: Any) -> pandas.DataFrame:
    """The real classes run on tensors without memory: exact bytes and operations, beside those of the plan's formulas.

    Takes settings as `plan` does, and some seconds, whatever the size; needs torch, but no weights and no GPU. A row each for a
    pass of the transformer and for decoding the clip whole: GiB of work and of weights, in the dry run and by formula, and
    teraflops of one pass.
    """
    import pandas

    from wanlab.cost import activations, parts, vae
    from wanlab.cost.dry_run import dry_run_transformer, dry_run_vae

    loader, found, base = _asked(settings, model, how)
    run = planned(facts_of(found, loader), Timeline(base), {}, lambda _: False, set())
    request = request_of(found, loader, run)
    largest = max(request.calls, key=lambda one: one.frames * one.batch)
    clip, configs, spatial = request.settings, request.configs, request.configs.vae.get("scale_factor_spatial") or 8
    latents = (largest.frames, clip.height // spatial, clip.width // spatial)
    forward = dry_run_transformer(
        configs.transformer,
        latents,
        loader.base_precision,
        request.kind,
        batch=largest.batch,
        image_tokens=request.image_tokens,
    )
    decoded = dry_run_vae(configs.vae, "decode", clip.frames, clip.height, clip.width, loader.vae_precision)
    formula = vae.decode(configs.vae, clip.frames, clip.height, clip.width, parts.SIZES[loader.vae_precision])
    vae_bytes = parts.part("vae", configs.vae, loader.vae_precision)
    work = activations.forward(configs.transformer, request.work(largest), request.weights if request.kind else None)
    found_bytes = {
        "denoise": (forward.peak, max(work.values()), forward.weights, request.weights.whole),
        "decode": (decoded.peak, formula.peak, decoded.weights, vae_bytes),
    }
    flops = {"denoise": forward.flops, "decode": decoded.flops}
    rows = {stage: [*(size / 2**30 for size in sizes), flops[stage] / 1e12] for stage, sizes in found_bytes.items()}
    columns = ["work_gib", "work_by_formula", "weights_gib", "weights_by_formula", "teraflops"]
    return pandas.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("stage")


def divided(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Changes of the run's settings, and those of the model's."""
    own = ModelSettings.model_fields
    placed = {name: value for name, value in changes.items() if name.split(".")[0] in own}
    return {name: value for name, value in changes.items() if name not in placed}, placed


def _asked(
    settings: Settings | Mapping[str, Any] | str | None, model: str, how: Mapping[str, Any]
) -> tuple[ModelSettings, Checkpoint, Settings]:
    """How the model is loaded, what is known of it, and the settings of the run."""
    loader = ModelSettings().but({"model": str(model), **_usual(str(model)), **how})
    found = described(loader)
    if isinstance(settings, Settings):
        return loader, found, settings
    changes = {"prompt": settings} if isinstance(settings, str) else settings or {}
    return loader, found, Settings().but({**found.defaults, **changes})


def _usual(model: str) -> dict[str, Any]:
    """How a model is loaded if nothing is said: published ones on a GPU."""
    return {} if model in ("tiny", "tiny-i2v") else {"load_device": "cuda", "base_precision": "bf16"}


def estimated(
    run: PlannedRun,
    found: Checkpoint,
    model: ModelSettings,
    calibration: Callable[[Request], Calibration | None] = lambda _: None,
) -> PlannedRun:
    """A planned run with its bytes and seconds on this model, placed as "auto" will place it if it is asked."""
    request = request_of(found, model, run)
    chosen = auto_placement(request) if model.placement == "auto" else {}
    placed = request.but(chosen)
    made = estimate(placed, calibration(placed))
    if chosen:
        made = replace(made, notes=(f"placement auto chooses {told(chosen)}.", *made.notes))
    return replace(run, estimate=made)


def request_of(found: Checkpoint, model: ModelSettings, run: PlannedRun) -> Request:
    """What an estimate is asked for: a planned run on this model."""
    configs = found.configs
    return Request(
        settings=run.timeline.settings,
        model=model,
        configs=Configs(
            transformer=configs["transformer"],
            vae=configs.get("vae", {}),
            text_encoder=configs.get("text_encoder"),
            image_encoder=configs.get("image_encoder"),
            stored=found.stored,
            transformers=len(found.transformers),
            expanded=found.expand_timesteps,
        ),
        passes=run.passes_by_size,
    )
