"""Runs are written as ComfyUI workflows, and come back as they were, but for what is said to be left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wanlab as wl
from wanlab.bench import Bench
from wanlab.comfy import Workflow
from wanlab.comfy.tables import KINDS
from wanlab.declare import switches
from wanlab.run import perform
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.timeline import Timeline

# Settings that have no place in WanVideoWrapper's nodes, whatever they are.
NOWHERE = {"start_sigma", "start_step", "lora_strength", "cache.speed_up", "cache.interval", "context.closed_loop"}
NOWHERE |= {"context.anchor", "nag.start_percent", "nag.end_percent", "clip_embed_strength", "vace_strength"}
NOWHERE |= {"noise_aug_strength", "start_latent_strength", "end_latent_strength"}  # without a picture
NOWHERE_GROUPS = {"apg"}
# Settings of which some values have a place.
SOMETIMES: dict[str, Callable[[Settings], bool]] = {
    "context.fuse": lambda one: one.flat()["context.fuse"] in ("linear", "pyramid"),
    "context.schedule": lambda one: one.flat()["context.schedule"] != "batched",
    "freeinit.filter": lambda one: one.flat()["freeinit.filter"] != "box",
    "cache.threshold": lambda one: one.flat()["cache.threshold"] is not None,
    "cache.max_skip": lambda one: one.flat()["cache.kind"] == "magcache" and one.flat()["cache.max_skip"] is not None,
    "cache.start_percent": lambda one: _on_a_step(one.flat()["cache.start_percent"], one.steps),
    "cache.end_percent": lambda one: _on_a_step(one.flat()["cache.end_percent"], one.steps),
    "end_step": lambda one: one.end_step < one.steps,
}


def _on_a_step(percent: float, steps: int) -> bool:
    return round(percent * steps) / steps == percent


def value_of(name: str, known: Any) -> st.SearchStrategy[Any]:
    """Values of one setting as it is declared."""
    if known.choices:
        return st.sampled_from(known.choices)
    if known.kind is bool:
        return st.booleans()
    if name in ("frames", "context.frames"):
        return st.integers(0, 20).map(lambda n: 4 * n + 1)
    if name == "steps":
        return st.integers(1, 30)
    if name == "slg.blocks":
        return st.sampled_from(["4", "9, 10", "0,1"])
    if known.kind is int:
        step = known.multiple_of or 1
        return st.integers(int(known.low) // step, min(int(known.high) // step, 200 if name != "seed" else 2**64)).map(
            lambda n: max(int(known.low), n * step)
        )
    if known.kind is float:
        grid = st.integers(0, 40).map(lambda n: round(known.low + (min(known.high, 30) - known.low) * n / 40, 4))
        return st.none() | grid if known.optional else grid
    return st.text(max_size=20)


@st.composite
def asked(draw: st.DrawFn) -> Settings:
    """Any settings: each that is drawn is kept if it goes with the ones before."""
    found = Settings()
    known = declared()
    for name in ["steps", *draw(st.lists(st.sampled_from(sorted(known)), max_size=14, unique=True))]:
        if name in ("sigmas", "samples"):
            continue
        try:
            found = found.but({name: draw(value_of(name, known[name]))})
        except wl.SettingsError:
            continue
    return found


@settings(max_examples=60)
@given(wanted=asked(), api=st.booleans())
def test_settings_come_back_but_for_what_is_left_out(wanted: Settings, api: bool) -> None:
    workflow = wl.to_comfy(wanted, api=api)
    found = wl.from_comfy(json.loads(json.dumps(workflow)))
    before, after = wanted.flat(), found.settings.flat()
    left_out = {entry.input for entry in workflow.left_out}
    for name, value in before.items():
        group = name.partition(".")[0]
        if name in left_out or (group in left_out and group in switches(Settings)):
            continue
        assert after[name] == value, name
    places = {name for name in left_out if name in before} - NOWHERE - {"schedule", "image", "end_image"}
    assert {name for name in places if name not in SOMETIMES or SOMETIMES[name](wanted)} == set()
    groups = left_out & set(switches(Settings)) - NOWHERE_GROUPS
    assert groups <= {"cache", "cfg_zero"}
    assert "cache" not in groups or before["cache.kind"] in ("firstblock", "taylorseer")


@pytest.mark.parametrize("api", [False, True])
@pytest.mark.parametrize("schedule", [*declared()["schedule"].choices])
@pytest.mark.parametrize("solver", [*declared()["solver"].choices])
def test_every_schedule_of_every_solver_comes_back(solver: str, schedule: str, api: bool) -> None:
    wanted = Settings().but({"steps": 4, "solver": solver, "schedule": schedule, "shift": 5.0})
    assert wl.from_comfy(wl.to_comfy(wanted, api=api)).settings == wanted


def test_noise_levels_come_back() -> None:
    wanted = Settings().but({"steps": 3, "sigmas": (1.0, 0.8, 0.3)})
    assert wl.from_comfy(wl.to_comfy(wanted)).settings == wanted


def test_a_changed_solver_is_no_longer_that_of_the_run() -> None:
    workflow = wl.to_comfy(Settings(), api=True)
    [sampler] = [one for one in workflow.values() if one["class_type"] == "WanVideoSampler"]
    sampler["inputs"]["scheduler"] = "dpm++"
    assert wl.from_comfy(workflow).settings.schedule == "wan_dpmpp"


@pytest.mark.parametrize(
    "model",
    [
        {"model": "tiny"},
        {"model": "Wan-AI/Wan2.1-T2V-14B-Diffusers", "base_precision": "bf16", "quantization": "fp8_e4m3fn_scaled"},
        {"model": "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "loras": [{"file": "l.safetensors", "expert": "low", "merge": True}]},
        {"model": "Wan-AI/Wan2.1-VACE-1.3B-diffusers"},
        {"model": "a.safetensors", "text_encoder": "t.safetensors", "vae": "v.safetensors", "vae_precision": "bf16"},
        {"model": "a.safetensors", "blocks_to_swap": 20, "prefetch_blocks": 2, "use_non_blocking": False},
        {"model": "a.safetensors", "compile": {"mode": "max-autotune", "whole": True}},
        {"model": "a.safetensors", "vae_tiling": True, "vae_tile": 272, "vae_tile_stride": 144},
        {"model": "a.safetensors", "loras": [{"file": "x.safetensors", "strength": 0.5, "blocks": "0-9,12", "merge": True}]},
        {"model": "a.safetensors", "loras": ["x.safetensors:0.25", {"file": "y.safetensors", "strength": tuple([0.5] * 20)}]},
        {"model": "high.safetensors", "transformer_2": "low.safetensors"},
    ],
)
@pytest.mark.parametrize("api", [False, True])
def test_the_model_comes_back(model: dict[str, Any], api: bool) -> None:
    wanted = ModelSettings().but(model)
    found = wl.from_comfy(wl.to_comfy(Settings().but({"shift": 5.0}), wanted, api=api)).model
    free = {"boundary_ratio"} if wanted.transformer_2 else set()
    assert {name: value for name, value in found.flat().items() if name not in free} == {
        name: value for name, value in wanted.flat().items() if name not in free
    }


def test_what_has_no_place_is_told_in_a_note() -> None:
    workflow = wl.to_comfy(Settings().but({"apg": True, "start_sigma": 0.9, "context.fuse": "flat"}))
    told = {entry.input: entry.reason for entry in workflow.left_out}
    assert set(told) >= {"apg", "start_sigma", "context.fuse"}
    [note] = [node for node in workflow["nodes"] if node["type"] == "Note"]
    assert all(f"- {name} = " in note["widgets_values"][0] for name in told)


def test_the_editors_form_is_consistent() -> None:
    wanted = Settings().but(
        {"feta": True, "context": True, "cache": True, "slg": True, "nag": True, "image": "a.png", "cfg_zero": True}
    )
    workflow = wl.to_comfy(wanted, ModelSettings().but({"loras": ["a.safetensors"], "compile": True, "blocks_to_swap": 2}))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"]) == workflow["last_node_id"]
    assert len(workflow["links"]) == workflow["last_link_id"]
    for number, origin, slot, target, place, kind in workflow["links"]:
        assert number in nodes[origin]["outputs"][slot]["links"]
        assert nodes[origin]["outputs"][slot]["type"] == kind == nodes[target]["inputs"][place]["type"]
        assert nodes[target]["inputs"][place]["link"] == number
    for node in nodes.values():
        if node["type"] not in ("Note", "VHS_VideoCombine"):
            seeds = sum(box.name in ("seed", "noise_seed") for box in KINDS[node["type"]].boxes)
            assert len(node["widgets_values"]) == len(KINDS[node["type"]].boxes) + seeds
    json.dumps(workflow, allow_nan=False)


def test_nodes_do_not_lie_on_each_other() -> None:
    wanted = Settings().but({"feta": True, "context": True, "cache": True, "apg": True, "nag": True, "image": "a.png"})
    workflow = wl.to_comfy(wanted, ModelSettings().but({"loras": ["a.safetensors", "b.safetensors"], "compile": True}))
    spots = [(*node["pos"], node["pos"][0] + node["size"][0], node["pos"][1] + node["size"][1]) for node in workflow["nodes"]]
    for k, (left, top, right, bottom) in enumerate(spots):
        for other in spots[k + 1 :]:
            assert other[0] >= right or other[2] <= left or other[1] >= bottom or other[3] <= top


def test_the_servers_form_names_every_input_that_its_nodes_ask_for() -> None:
    workflow = wl.to_comfy(Settings().but({"feta": True}), api=True)
    for node in workflow.values():
        kind = KINDS[node["class_type"]]
        if node["class_type"] != "VHS_VideoCombine":
            assert {box.name for box in kind.boxes} <= set(node["inputs"])
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert value[0] in workflow


def test_a_workflow_is_written_and_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    workflow = wl.to_comfy(Settings(), path=path)
    assert isinstance(workflow, Workflow)
    assert json.loads(path.read_text()) == workflow
    assert wl.from_comfy(path).settings == Settings()


def test_a_run_becomes_a_workflow(bench: Bench, small: Callable[..., Settings], tmp_path: Path) -> None:
    run = perform(bench, Timeline(small(steps=2)))
    workflow = run.to_comfy(tmp_path / "run.json")
    assert wl.from_comfy(tmp_path / "run.json").settings == run.settings
    assert wl.from_comfy(run.to_comfy(api=True)).settings == run.settings
    fork = run.fork(1, cfg=1.5)
    assert "from step 1" in {entry.input for entry in fork.to_comfy().left_out}
    assert "from step 1" not in {entry.input for entry in workflow.left_out}
