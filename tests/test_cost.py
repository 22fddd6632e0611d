"""What a run takes: against published figures, and the laws of what fits. None of it needs torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wanlab.cost import activations, fits, memory, parts, seconds, vae
from wanlab.cost.cards import CARDS, card, card_for, this_machine
from wanlab.cost.estimate import Configs, Request, estimate
from wanlab.cost.fits import auto_placement, relief, verdict
from wanlab.cost.request import Pass, passes_of
from wanlab.errors import SettingsError
from wanlab.settings import ModelSettings, Settings
from wanlab.weights.registry import all_known, known

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
GB = 1e9
TINY = Path(__file__).parents[1] / "wanlab" / "tiny" / "weights"


def rows(table: str) -> Any:
    return pytest.mark.parametrize("row", PUBLISHED[table], ids=lambda row: row.get("what") or row.get("model") or row["way"])


def config(folder: Path, part: str) -> dict[str, Any]:
    return dict(json.loads((folder / part / "config.json").read_text(encoding="utf-8")))


def tiny() -> Configs:
    return Configs(*(config(TINY, part) for part in ("transformer", "vae", "text_encoder")))


def request_of(model: str = "Wan2.1-T2V-14B", settings: Mapping[str, Any] | None = None, **loader: Any) -> Request:
    """480p and 81 frames on a GPU in bf16, unless said otherwise."""
    clip = Settings(width=832, height=480, frames=81, steps=50).but(settings or {})
    how = ModelSettings(**{"base_precision": "bf16", "load_device": "cuda", **loader})
    return Request(clip, how, tiny() if model == "tiny" else Configs.of(known(model)))


# --- published figures


@rows("operations")
def test_operations_are_the_published_ones_to_the_printed_digits(row: dict[str, Any]) -> None:
    found = seconds.flops(known(row["model"]).transformer, row["tokens"])
    for name in ("linear", "attention", "cross", "whole"):
        assert round(getattr(found, name) / 1e12, 1) == row[name]


@rows("roofline")
def test_roofline_is_the_published_one(row: dict[str, Any]) -> None:
    step = 2 * seconds.flops(known(row["model"]).transformer, row["tokens"]).whole
    assert step / 790e12 == pytest.approx(row["h200"], rel=0.01)
    assert step / 165e12 == pytest.approx(row["rtx4090"], rel=0.01)


@rows("activations_gb")
def test_activations_are_the_traced_ones_within_two_percent(row: dict[str, Any]) -> None:
    t, h, w = row["latents"]
    found = activations.forward(known(row["model"]).transformer, activations.Work(t * h * w // 4))
    assert max(found.values()) / GB == pytest.approx(row["gb"], rel=0.02)


@rows("vae_gb")
def test_peaks_of_the_vae_are_the_published_ones(row: dict[str, Any]) -> None:
    config, size = known("Wan2.1-T2V-14B").vae, parts.SIZES[row["precision"]]
    tiles = vae.Tiles(256, 192) if row["tiled"] else None
    found = getattr(vae, row["way"])(config, *row["size"], size, tiles).peak
    assert found / GB == pytest.approx(row["gb"], rel=0.1)


@rows("vae_operations")
def test_operations_of_the_vae_are_the_published_ones(row: dict[str, Any]) -> None:
    tiles = vae.Tiles(256, 192) if row["tiled"] else None
    found = getattr(vae, row["way"])(known("Wan2.1-T2V-14B").vae, *row["size"], 4, tiles).flops
    assert found / 1e12 == pytest.approx(row["tf"], rel=0.02)


@rows("blocks_mib")
def test_blocks_have_the_logged_bytes_within_a_thousandth(row: dict[str, Any]) -> None:
    found = parts.transformer(known(row["model"]).transformer, row["base_precision"], row["kind"])
    assert found.block * row["blocks"] / 2**20 == pytest.approx(row["mib"], rel=1e-3)


@rows("peaks_gb")
def test_published_peaks_are_planned_within_a_tenth(row: dict[str, Any]) -> None:
    frames, height, width = row["size"]
    clip = {"frames": frames, "height": height, "width": width}
    if "loader" in row:
        image = {"image": "0" * 32} if "I2V" in row["model"] else {}
        found = memory.stages(request_of(row["model"], {**clip, **image}, **row["loader"]))[row["stage"]]
    else:  # a mixture that wanlab has not: the authors' code with weights in fp32
        asked = request_of(row["model"], clip)
        work = asked.work(Pass(asked.settings.latent_frames))
        more = row["residual"] * work.tokens * activations.width(asked.configs.transformer)
        found = parts.transformer(asked.configs.transformer, row["weights"]).whole + memory.denoising(asked) + more
    assert found / GB == pytest.approx(row["gb"], rel=0.1)


@rows("break_even")
def test_break_even_tokens_are_the_published_ones(row: dict[str, Any]) -> None:
    found = seconds.break_even_tokens(known(row["model"]).transformer, row["bytes"], row["link_gb"] * 1e9, row["tflops"] * 1e12)
    assert found == pytest.approx(row["tokens"], rel=0.02)


@rows("free_blocks")
def test_so_many_blocks_are_swapped_at_no_cost(row: dict[str, Any]) -> None:
    config = known(row["model"]).transformer
    compute = seconds.flops(config, row["tokens"]).whole / 40 / (row["tflops"] * 1e12)
    copy = 702.8e6 / (row["link_gb"] * 1e9)
    swap = seconds.Swap(compute, copy, 40, 40, overlaps=True)
    assert abs(swap.free - row["free"]) <= 1
    assert 1 + swap.exposed / (40 * compute) == pytest.approx(row["slower"], rel=0.05)
    assert seconds.Swap(compute, copy, 40, swap.free, overlaps=True).exposed == 0
    if swap.free < 40:
        assert seconds.Swap(compute, copy, 40, swap.free + 1, overlaps=True).exposed > 0


def test_swap_without_prefetch_is_copies_and_computing_one_after_the_other() -> None:
    swap = seconds.Swap(compute=0.25, copy=0.028, blocks=40, swapped=20, overlaps=False)
    assert swap.exposed == pytest.approx(20 * 0.028)


def test_seconds_of_a_usual_run_are_near_the_published_ones() -> None:
    """Official code on an RTX 4090, 1.3B: 261 s; diffusers on an H100, I2V-14B: 9.77 s a step."""
    small = Request(request_of().settings, request_of().model, Configs.of(known("Wan2.1-T2V-1.3B")), card("RTX 4090"))
    assert sum(seconds.seconds(small).values()) == pytest.approx(261.4, rel=0.15)
    large = Request(request_of().settings, request_of().model, Configs.of(known("Wan2.1-I2V-14B-480P")), card("H100"))
    assert seconds.seconds(large)["denoise"] / 50 == pytest.approx(9.77, rel=0.15)


# --- laws


@pytest.mark.parametrize("model", ["tiny", *(one.name for one in all_known() if one.runs)])
def test_more_swapped_blocks_never_take_more_memory(model: str) -> None:
    asked = request_of(model, {"frames": 17})
    blocks = asked.weights.blocks
    peaks = [memory.stages(asked.but({"blocks_to_swap": count}))["denoise"] for count in range(1, blocks + 1)]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < peaks[0]
    saved = asked.weights.block * blocks - asked.weights.slots(blocks, 1)
    assert memory.stages(asked)["denoise"] - peaks[-1] == saved * asked.configs.transformers + (
        asked.weights.slots(blocks, 1) * (asked.configs.transformers - 1)
    )


def test_tiles_never_take_more_memory_at_480p_and_above() -> None:
    for size in ((480, 832), (720, 1280)):
        for frames in (1, 5, 17, 81):
            clip = {"height": size[0], "width": size[1], "frames": frames}
            whole, tiled = (memory.stages(request_of(settings=clip, vae_tiling=on))["decode"] for on in (False, True))
            assert tiled < whole


def test_offload_and_quantization_and_fewer_frames_take_less() -> None:
    asked = request_of()
    base = memory.stages(asked)
    for change in (
        {"force_offload": True},
        {"quantization": "fp8_e4m3fn_scaled"},
        {"quantization": "gguf_q4_0"},
        {"frames": 41},
    ):
        assert all(
            held < base[stage] for stage, held in memory.stages(asked.but(change)).items() if stage != "encode text"
        ) or (set(change) == {"frames"})
        assert memory.stages(asked.but(change))["denoise"] < base["denoise"]


def test_a_window_and_not_the_clip_sets_the_memory() -> None:
    whole = request_of(settings={"frames": 81})
    long = request_of(settings={"frames": 241, "context.frames": 81})
    plain = request_of(settings={"frames": 241})
    assert memory.denoising(long) == memory.denoising(whole)
    assert memory.denoising(plain) > 2.85 * memory.denoising(whole)


def test_two_branches_at_once_take_twice_the_activations() -> None:
    one, both = (memory.denoising(request_of(settings={"batched_cfg": on})) for on in (False, True))
    assert both == pytest.approx(2 * one, rel=0.01)


def test_a_cache_keeps_a_residual_for_each_call() -> None:
    plain = request_of()
    residual = plain.tokens(21) * 5120 * 2
    for kind, kept in (("teacache", 1), ("firstblock", 2), ("taylorseer", 2)):
        more = memory.denoising(request_of(settings={"cache.kind": kind})) - memory.denoising(plain)
        assert more == (2 * kept + 1) * residual  # two branches, and what entered the blocks
    assert memory.denoising(request_of(settings={"cache.kind": "easycache"})) == memory.denoising(plain)


def test_passes_count_the_calls_of_every_step_by_size() -> None:
    assert passes_of(Settings(steps=7)) == {Pass(5): 14}
    assert passes_of(Settings(steps=7, cfg=1)) == {Pass(5): 7}
    assert passes_of(Settings(steps=7, batched_cfg=True)) == {Pass(5, 2): 7}
    windows = Settings(steps=7, frames=33).but({"context.frames": 17, "context.anchor": "causal"})
    assert passes_of(windows) == {Pass(5): 14, Pass(6): 28}


def test_residency_names_as_many_blocks_as_are_swapped() -> None:
    for count in (0, 1, 14, 40):
        found = memory.residency(request_of(blocks_to_swap=count))
        assert found.count("swapped") == count
        assert len(found) == 40


def test_more_blocks_than_there_are_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match="blocks_to_swap is 41; this model has 40 blocks"):
        estimate(request_of(blocks_to_swap=41))


def test_on_a_cpu_only_the_disk_saves_memory() -> None:
    on_cpu = request_of(load_device="cpu", base_precision="bf16")
    swapped, to_disk = (on_cpu.but({"blocks_to_swap": 40, "offload_device": where}) for where in ("cpu", "disk"))
    assert memory.stages(swapped)["denoise"] >= memory.stages(on_cpu)["denoise"]
    assert memory.stages(to_disk)["denoise"] < memory.stages(on_cpu)["denoise"] - 25 * GB


def test_known_texts_need_no_text_encoder() -> None:
    asked = request_of()
    told = Request(asked.settings, asked.model, asked.configs, texts_known=True)
    assert "encode text" not in memory.stages(told)
    assert memory.stages(asked)["denoise"] - memory.stages(told)["denoise"] == pytest.approx(11.36 * GB, rel=0.001)


# --- what fits


def test_the_smallest_change_of_the_issue() -> None:
    found = estimate(request_of(force_offload=True, device_gib=24))
    assert found.fits is False
    assert found.smallest_change == {"blocks_to_swap": 14}
    assert {"quantization": "fp8_e4m3fn_scaled"} in found.others
    assert found.verdict.startswith("fits in 24 GB: no; the smallest change that does: blocks_to_swap 14 (or quantization fp8")


CASES = [
    (model, gib, how)
    for model in ("Wan2.1-T2V-1.3B", "Wan2.1-T2V-14B", "Wan2.1-I2V-14B-720P")
    for gib in (8, 12, 16, 24, 48, 80)
    for how in ({}, {"force_offload": True}, {"quantization": "fp8_e4m3fn_scaled"}, {"load_device": "cpu"})
]


@pytest.mark.parametrize(("model", "gib", "how"), CASES)
def test_the_smallest_change_really_fits_and_one_less_does_not(model: str, gib: float, how: dict[str, Any]) -> None:
    asked = request_of(model, device_gib=gib, **how)
    found = verdict(asked)
    assert found.fits == (fits.peak(asked) / 2**30 + 1 <= gib)
    if found.fits:
        assert found.smallest_change == {}
        return
    if found.smallest_change is None:  # the text encoder alone is larger
        assert asked.on_cpu
        assert gib < 16
        return
    for change in (found.smallest_change, *found.others):
        assert fits.fits(asked.but(change))
        if len(change) > 1 and set(change) != {"width", "height"}:
            for name in change:
                assert not fits.fits(asked.but({other: value for other, value in change.items() if other != name}))
        if change.get("blocks_to_swap", 0) > 1:
            assert not fits.fits(asked.but({**change, "blocks_to_swap": change["blocks_to_swap"] - 1}))
        if "frames" in change and change["frames"] + 4 < asked.settings.frames:
            assert not fits.fits(asked.but({**change, "frames": change["frames"] + 4}))


@pytest.mark.parametrize(("model", "gib", "how"), CASES)
def test_auto_placement_fits_where_placement_can(model: str, gib: float, how: dict[str, Any]) -> None:
    asked = request_of(model, device_gib=gib, **how)
    chosen = auto_placement(asked)
    placed = asked.but(chosen)
    best = asked.but({"vae_tiling": True, "force_offload": True, "blocks_to_swap": asked.weights.blocks})
    best = best.but(
        {"text_encoder_device": "process" if asked.on_cpu else "cpu", **({"offload_device": "disk"} if asked.on_cpu else {})}
    )
    assert fits.fits(placed) == fits.fits(best)
    if fits.fits(placed) and chosen.get("blocks_to_swap", 0) > 1:
        assert not fits.fits(asked.but({**chosen, "blocks_to_swap": chosen["blocks_to_swap"] - 1}))
    if fits.fits(placed) and "vae_tiling" in chosen:
        assert not fits.fits(best.but({"vae_tiling": False}))


def test_an_unknown_device_is_not_guessed() -> None:
    found = estimate(request_of())
    assert found.fits is None
    assert found.smallest_change is None
    assert "device_gib" in found.verdict
    assert auto_placement(request_of()) == {}


def test_a_margin_is_left_free() -> None:
    asked = request_of("Wan2.1-T2V-1.3B", force_offload=True)
    peak = fits.peak(asked) / 2**30
    assert fits.fits(asked.but({"device_gib": peak + 2, "margin_gib": 1.9}))
    assert not fits.fits(asked.but({"device_gib": peak + 2, "margin_gib": 2.1}))


# --- the answer


def test_an_estimate_tells_where_its_seconds_come_from() -> None:
    guess = estimate(request_of(device_gib=24, blocks_to_swap=20))
    assert "estimated from the peak of RTX 4090" in guess.notes[0]
    assert guess.swap is not None
    assert guess.swap.exposed == 0
    measured = seconds.Calibration(block=0.1, rest=0.2, blocks=40, tokens=32760, batch=1, operations=1678.37028e12)
    found = estimate(request_of(), measured)
    assert found.seconds["denoise"] == pytest.approx(100 * 4.2, rel=0.001)
    assert "calibrated" in found.notes[0]


def test_cards_cover_the_usual_sizes() -> None:
    sizes = {one.memory_gib for one in CARDS.values()}
    assert {8, 12, 16, 24, 48, 80, 141} <= sizes
    assert card_for(24).name == "RTX 4090"
    assert card_for(6).memory_gib == 6
    assert not card("A100 80GB").fp8
    assert card("rtx 4090").fp8
    with pytest.raises(SettingsError, match="no card 'RTX 9999'"):
        card("RTX 9999")
    assert this_machine().cpu


def test_estimates_need_no_torch() -> None:
    code = """
import sys
from wanlab.cost.estimate import Configs, Request, estimate
from wanlab.settings import ModelSettings, Settings
from wanlab.weights.registry import known
estimate(Request(Settings(), ModelSettings(load_device="cuda", device_gib=8), Configs.of(known("Wan2.1-T2V-14B"))))
assert not {"torch", "diffusers", "transformers"} & set(sys.modules), "torch was loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- when it does not fit all the same


def test_relief_is_the_least_that_eases_the_stage_in_which_the_memory_ran_out() -> None:
    asked = request_of(force_offload=True, device_gib=80)
    assert relief(asked, memory.DECODE) == {"vae_tiling": True}
    assert relief(asked, memory.ENCODE_TEXT) == {"text_encoder_device": "cpu"}
    found = relief(asked, memory.DENOISE)
    assert found is not None
    count = found["blocks_to_swap"]
    most = 0.95 * memory.stages(asked)[memory.DENOISE]
    assert memory.stages(asked.but({"blocks_to_swap": count}))[memory.DENOISE] <= most
    assert memory.stages(asked.but({"blocks_to_swap": count - 1}))[memory.DENOISE] > most
    assert relief(asked.but({"vae_tiling": True}), memory.DECODE) is None
    assert relief(asked, "save") is None
