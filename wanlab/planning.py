"""Plans of models, also of those that are not here: what a run would do and take, before anything is downloaded. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wanlab.cost.estimate import Estimate, estimate
from wanlab.cost.fits import auto_placement, told
from wanlab.cost.request import Configs, Request
from wanlab.cost.seconds import Calibration
from wanlab.model.checkpoint import Checkpoint, described, facts_of
from wanlab.model_settings import ModelSettings
from wanlab.plans import Plan, PlannedRun, make_plan
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
    loader = ModelSettings().but({"model": str(model), **_usual(str(model)), **how})
    found = described(loader)
    base = settings if isinstance(settings, Settings) else Settings().but(found.defaults)
    if isinstance(settings, str):
        base = base.but({"prompt": settings})
    elif isinstance(settings, Mapping):
        base = base.but(settings)
    runs: list[PlannedRun] = []
    for variant in ({}, *variants):
        run, placed = divided(variant)
        how_loaded = loader.but(placed)
        asked = [(Timeline(base.but(run)), variant)]
        runs += make_plan(facts_of(found, how_loaded), asked, lambda _: False, estimated(found, how_loaded)).runs
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

    made = plan(settings, model=model, **how)
    loader = ModelSettings().but({"model": str(model), **_usual(str(model)), **how})
    request = request_of(described(loader), loader, made.runs[0])
    largest = max(request.calls, key=lambda one: one.frames * one.batch)
    clip, configs, spatial = request.settings, request.configs, request.configs.vae.get("scale_factor_spatial") or 8
    latents = (largest.frames, clip.height // spatial, clip.width // spatial)
    run = dry_run_transformer(
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
    gib = 2**30
    rows = {
        "denoise": [run.peak / gib, max(work.values()) / gib, run.weights / gib, request.weights.whole / gib, run.flops / 1e12],
        "decode": [decoded.peak / gib, formula.peak / gib, decoded.weights / gib, vae_bytes / gib, decoded.flops / 1e12],
    }
    columns = ["work_gib", "work_by_formula", "weights_gib", "weights_by_formula", "teraflops"]
    return pandas.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("stage")


def divided(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Changes of the run's settings, and those of the model's."""
    own = ModelSettings.model_fields
    placed = {name: value for name, value in changes.items() if name.split(".")[0] in own}
    return {name: value for name, value in changes.items() if name not in placed}, placed


def _usual(model: str) -> dict[str, Any]:
    """How a model is loaded if nothing is said: published ones on a GPU."""
    return {} if model in ("tiny", "tiny-i2v") else {"load_device": "cuda", "base_precision": "bf16"}


def estimated(
    found: Checkpoint,
    model: ModelSettings,
    texts_known: bool = False,
    calibration: Callable[[Request], Calibration | None] = lambda _: None,
) -> Callable[[PlannedRun], Estimate]:
    """What tells the bytes and seconds of a planned run on this model, placed as "auto" will place it if it is asked."""

    def estimate_of(run: PlannedRun) -> Estimate:
        request = request_of(found, model, run, texts_known)
        chosen = auto_placement(request) if model.placement == "auto" else {}
        placed = request.but(chosen)
        made = estimate(placed, calibration(placed))
        return replace(made, notes=(f"placement auto chooses {told(chosen)}.", *made.notes)) if chosen else made

    return estimate_of


def request_of(found: Checkpoint, model: ModelSettings, run: PlannedRun, texts_known: bool = False) -> Request:
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
        texts_known=texts_known,
    )
