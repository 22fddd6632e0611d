"""Out of memory: the run stops cleanly, its steps stay, the memory is given back, and the message says what to change."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wanlab.errors import SettingsError
from wanlab.lab import Lab

SMALL: dict[str, Any] = {"width": 32, "height": 32, "frames": 5, "steps": 4, "cfg": 2.0}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    torch.set_num_threads(1)
    return Lab(tmp_path / "lab", load_device="cpu")


def fail_at(module: nn.Module, call: int, error: BaseException, seen: list[weakref.ref[Tensor]]) -> Any:
    """Let this call of the module fail as if the device were full; remember the tensors that it and others got."""
    calls = [0]

    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen.extend(weakref.ref(one) for one in args if isinstance(one, Tensor) and one.numel() > 100)
        calls[0] += 1
        if calls[0] == call:
            raise error

    return module.register_forward_pre_hook(hook)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_a_run_without_memory_keeps_its_steps_and_says_what_to_change(lab: Lab, error: BaseException) -> None:
    fail_at(lab.model.transformer.blocks[3], 5, error, [])
    with pytest.raises(type(error)) as raised:
        lab.run("a red circle", SMALL)
    said = "\n".join(raised.value.__notes__)
    assert "The memory ran out in the stage denoise" in said
    assert "The smallest change that takes less there: text_encoder_device process" in said  # on a CPU all shares the memory
    assert "Stopped after 2 of 4 steps" in said
    row = lab.log.iloc[-1]
    assert row["status"] == "failed"
    assert row["steps_done"] == 2
    again = lab.run("a red circle", SMALL)  # the model is loaded anew, without the hook
    assert (again.status, again.steps_reused) == ("done", 2)


@pytest.mark.parametrize("call", range(1, 9))
def test_nothing_stays_in_memory_whichever_call_fails(lab: Lab, call: int) -> None:
    seen: list[weakref.ref[Tensor]] = []
    transformer = weakref.ref(lab.model.transformer)
    fail_at(lab.model.transformer.blocks[2], call, torch.OutOfMemoryError("full"), seen)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        lab.run("a red circle", SMALL)
    gc.collect()
    assert seen
    assert [one for one in seen if one() is not None] == []
    assert transformer() is None
    assert raised.value.__traceback__ is not None  # the exception is still held, as IPython would


def test_the_way_out_is_of_the_stage_that_lacked_memory(lab: Lab) -> None:
    lab.run("a red circle", SMALL)
    lab.model.vae.decoder.register_forward_pre_hook(lambda *_: fail())
    with pytest.raises(torch.OutOfMemoryError) as raised:
        lab.run("a red circle", {**SMALL, "width": 512, "height": 512, "steps": 1, "frames": 1})
    said = "\n".join(raised.value.__notes__)
    assert "The memory ran out in the stage decode; planned were" in said
    assert "vae_tiling" in said
    assert "blocks_to_swap" not in said


def fail() -> None:
    raise torch.OutOfMemoryError("full")


def test_another_error_is_no_lack_of_memory(lab: Lab) -> None:
    fail_at(lab.model.transformer.blocks[3], 1, RuntimeError("shapes do not fit"), [])
    with pytest.raises(RuntimeError) as raised:
        lab.run("a red circle", SMALL)
    assert "memory" not in "\n".join(raised.value.__notes__)


def test_placement_auto_fits_a_run_into_the_memory_that_is_given(tmp_path: Path) -> None:
    free = Lab(tmp_path / "a", load_device="cpu")
    plan = free.plan("a red circle", **SMALL)
    room = round(plan.peak_vram_gib * 0.97, 4)
    asked = {"device_gib": room, "margin_gib": 0.0, "load_device": "cpu"}
    tight = Lab(tmp_path / "b", placement="auto", **asked)
    assert Lab(tmp_path / "e", **asked).plan("a red circle", **SMALL).fits is False
    planned = tight.plan("a red circle", **SMALL)
    assert planned.fits
    run = tight.run("a red circle", SMALL)
    assert tight.model.blocks_swapped > 0
    assert planned.runs[0].estimate
    assert "placement auto chooses" in planned.runs[0].estimate.notes[0]
    assert run.facts["model"]["blocks_to_swap"] == tight.model.blocks_swapped
    placed = {name: run.facts["model"][name] for name in ("blocks_to_swap", "offload_device", "text_encoder_device")}
    assert Lab(tmp_path / "c", **asked, **placed).plan("a red circle", **SMALL).fits
    assert torch.equal(run.latents(4), free.run("a red circle", SMALL).latents(4))
    wide = Lab(tmp_path / "d", placement="auto", device_gib=1.0, margin_gib=0.0, load_device="cpu")
    wide.run("a red circle", SMALL)
    assert wide.model.blocks_swapped == 0


def test_too_many_blocks_are_refused_before_the_run_has_a_row(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", load_device="cpu", blocks_to_swap=9)
    with pytest.raises(SettingsError, match="blocks_to_swap is 9; this model has 8 blocks"):
        lab.run("a red circle", SMALL)
    assert lab.log.empty
