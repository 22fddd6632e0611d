"""LoRAs through the lab: how they are given, live equals merged, strengths by step act and are named where they differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import wanlab as wl
from wanlab.denoise import denoise
from wanlab.errors import ModelError, SettingsError
from wanlab.model.model import Model
from wanlab.names import step_names
from wanlab.settings import ModelSettings, Settings
from wanlab.store import StepStore
from wanlab.timeline import Timeline

PROMPT = "a red circle moves right on a blue background"
STEPS = 4
SMALL: dict[str, Any] = {"width": 32, "height": 32, "frames": 5, "steps": STEPS, "seed": 3, "cfg": 1.0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LoRA of rank 4 on some layers of all blocks, large enough to be seen."""
    seeded, tensors = torch.Generator().manual_seed(1), {}
    for block in range(8):
        for layer, (out, into) in {"self_attn.q": (128, 128), "cross_attn.o": (128, 128), "ffn.0": (512, 128)}.items():
            name = f"diffusion_model.blocks.{block}.{layer}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(4, into, generator=seeded) / into**0.5
            tensors[f"{name}.lora_B.weight"] = torch.randn(out, 4, generator=seeded) / 20
    path = tmp_path_factory.mktemp("loras") / "some.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Model]:
    def make(*loras: Any, **settings: Any) -> Model:
        return wl.Lab(tmp_path / "lab", load_device="cpu", loras=list(loras), **settings).model

    return make


def velocity(model: Model) -> Tensor:
    seeded = torch.Generator().manual_seed(5)
    latents, text = torch.randn(1, 16, 2, 4, 4, generator=seeded), torch.randn(1, 12, 128, generator=seeded)
    return model.velocity(latents, torch.tensor([700.0]), text.to(model.dtype))


def close(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


# --- How they are given ---


def test_every_form_means_the_same(file: Path) -> None:
    forms: list[Any] = [
        [f"{file}:0.5"],
        [(file, 0.5)],
        [(str(file), 0.5)],
        [{"file": str(file), "strength": 0.5}],
        {"file": str(file), "strength": 0.5},
        f"{file}:0.5",
        ((file, 0.5),),
    ]
    [settings] = {ModelSettings().but({"loras": form}) for form in forms}
    usual = {"blocks": "all", "merge": False, "expert": "both"}
    assert settings.loras[0].model_dump() == {"file": str(file), "strength": 0.5, **usual}
    assert {ModelSettings().but({"loras": form}) for form in ([file], [str(file)], file, str(file))} == {
        ModelSettings().but({"loras": [(file, 1.0)]})
    }
    assert ModelSettings().but({"loras": f"{file}, {file}:-0.5"}).loras[1].strength == -0.5


@pytest.mark.parametrize(
    ("loras", "sentence"),
    [
        ([""], r"^loras\[0\]\.file is ''; it must be a file\.$"),
        ([("a.safetensors", 11)], r"^loras\[0\]\.strength is 11(\.0)?; it must be from -10 to 10\.$"),
        ([("a.safetensors", [1, 20])], r"^loras\[0\]\.strength is .*; each of its values must be from -10 to 10\.$"),
        ([{"file": "a.safetensors", "blocks": "some"}], r"^loras\[0\]\.blocks is 'some'; it must be all, or numbers of blocks"),
        ([{"file": "a.safetensors", "weight": 1}], r"^loras\[0\]: weight is not a setting; "),
        ([{"file": "a", "strength": [1, 0], "merge": True}], r"^loras\[0\]: a strength for each step needs merge off"),
        ([3], r"each of them must be a file, \(file, strength\) or a mapping"),
    ],
)
def test_a_wrong_form_is_one_sentence(loras: Any, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        ModelSettings().but({"loras": loras})


def test_a_file_that_is_not_there_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^loras has 'none\.safetensors'; there is no such file\."):
        wl.Lab(tmp_path / "lab", loras=["none.safetensors"], load_device="cpu").run(PROMPT, **SMALL)
    assert not list((tmp_path / "lab").rglob("run.json"))


def test_a_file_for_something_else_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    save_file({"other.lora_A.weight": torch.zeros(4, 8), "other.lora_B.weight": torch.zeros(8, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"^x\.safetensors changes nothing of this model"):
        wl.Lab(tmp_path / "lab", loras=[tmp_path / "x.safetensors"], load_device="cpu").run(PROMPT, **SMALL)
    assert not list((tmp_path / "lab").rglob("run.json"))


# --- Live and merged ---


@pytest.mark.parametrize("blocks", ["all", "0-2,5"])
@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_live_is_merged(strength: float, blocks: str, file: Path, load: Callable[..., Model], model: Model) -> None:
    how = {"file": str(file), "strength": strength, "blocks": blocks}
    live, merged = load(how), load({**how, "merge": True})
    close(velocity(live), velocity(merged))
    assert (velocity(live) - velocity(model)).abs().max() > 1e-3
    assert len({live.id, merged.id, model.id}) == 3


def test_a_chain_is_the_sum(file: Path, load: Callable[..., Model]) -> None:
    close(velocity(load((file, 0.5), (file, 0.5))), velocity(load(file)))


def test_strength_zero_is_absent_to_the_bit(file: Path, load: Callable[..., Model], model: Model) -> None:
    assert torch.equal(velocity(load((file, 0.0))), velocity(model))


def test_another_file_strength_or_filter_is_another_model_and_another_name_of_the_file_is_not(
    file: Path, load: Callable[..., Model], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    assert load(file).id == load(copy).id
    loras: list[Any] = [file, (file, 0.5), {"file": str(file), "blocks": "1"}, "tiny-style", (file, [1.0] * STEPS)]
    assert len({load(lora).id for lora in loras}) == len(loras)


def test_merging_into_weights_that_are_quantized_in_the_file_is_refused(file: Path, tmp_path: Path) -> None:
    from foreign import write_original
    from wanlab.tiny import tiny_path

    tiny = Path(tiny_path())
    scaled = write_original(tiny / "transformer", tmp_path / "m.safetensors", dtype="e4m3fn", scale_key="scale_weight")
    parts = {"text_encoder": str(tiny / "text_encoder"), "vae": str(tiny / "vae"), "load_device": "cpu"}
    merged = wl.Lab(tmp_path / "lab", model=scaled, loras=[{"file": str(file), "merge": True}], **parts).model
    with pytest.raises(SettingsError, match=r"merge on, but the file holds its weights as fp8_e4m3fn_scaled.*take merge off"):
        merged.transformer  # noqa: B018
    live, plain = (wl.Lab(tmp_path / "lab", model=scaled, loras=loras, **parts).model for loras in ([file], []))
    assert (velocity(live) - velocity(plain)).abs().max() > 1e-3


# --- By step ---


def velocities(model: Model, tmp_path: Path, **changes: Any) -> list[Tensor]:
    """Those of a new run of four steps in a store of its own, all started at the same latents: the first guess stands alone."""
    store = StepStore(tmp_path / f"steps {len(list(tmp_path.iterdir()))}")
    timeline = Timeline(Settings(prompt=PROMPT, **SMALL).but(changes))
    return [step.velocity for step in denoise(model, timeline, store)]


def test_a_strength_for_each_step_acts_on_its_step(file: Path, load: Callable[..., Model], tmp_path: Path) -> None:
    """Steps 0 and 1 as with it, then as without; only while the runs agree can their velocities be compared bit for bit."""
    listed = velocities(load((file, [1.0, 1.0, 0.0, 0.0])), tmp_path)
    on, off = velocities(load(file), tmp_path), velocities(load((file, 0.0)), tmp_path)
    assert [torch.equal(one, other) for one, other in zip(listed, on, strict=True)] == [True, True, False, False]
    late = velocities(load((file, [0.0, 0.0, 1.0, 1.0])), tmp_path)
    assert [torch.equal(one, other) for one, other in zip(late, off, strict=True)] == [True, True, False, False]


def test_lora_strength_multiplies_and_may_be_a_list(file: Path, load: Callable[..., Model], tmp_path: Path) -> None:
    one = load(file)
    halves = [0.5, 0.5, 1.0, 0.0]
    for ours, theirs in zip(
        velocities(one, tmp_path, lora_strength=halves), velocities(load((file, halves)), tmp_path), strict=True
    ):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(
        velocities(load((file, 0.5)), tmp_path, lora_strength=-2.0), velocities(load((file, -1.0)), tmp_path), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(velocities(one, tmp_path)[0], velocities(load(file), tmp_path)[0])  # nothing of the last run is left


def test_a_run_that_begins_later_takes_the_strength_of_its_step(file: Path, load: Callable[..., Model], tmp_path: Path) -> None:
    """Both lists are along the whole schedule."""
    later = {"start_step": 2, "add_noise": True}
    listed = velocities(load((file, [1.0, 1.0, 0.0, 0.0])), tmp_path, **later)
    off = velocities(load((file, 0.0)), tmp_path, **later)
    assert all(torch.equal(one, other) for one, other in zip(listed, off, strict=True))
    assert len(listed) == 2
    run = velocities(load(file), tmp_path, lora_strength=[1.0, 1.0, 0.0, 0.0], **later)
    assert all(torch.equal(one, other) for one, other in zip(run, off, strict=True))


def test_names_hold_the_strength_of_the_step_and_one_is_absent() -> None:
    def names(**changes: Any) -> list[str]:
        return step_names("model", Timeline(Settings(prompt=PROMPT, **SMALL).but(changes)))

    plain = names()
    assert names(lora_strength=1) == names(lora_strength=[1.0] * STEPS) == plain
    assert not set(names(lora_strength=0.5)) & set(plain)
    shared = [one == other for one, other in zip(names(lora_strength=[1, 1, 0.5, 1]), plain, strict=True)]
    assert shared == [True, True, False, False]  # and what comes after a step that differs
    one, two = names(lora_strength=[0.5, 0.7, 1, 1]), names(lora_strength=[0.5, 0.7, 1, 0])
    assert [a == b for a, b in zip(one, two, strict=True)] == [True, True, True, False]


def test_runs_share_the_steps_on_which_the_strength_agrees(file: Path, tmp_path: Path) -> None:
    lab = wl.Lab(tmp_path / "lab", loras=[file], load_device="cpu")
    lab.run(PROMPT, **SMALL)
    second = lab.run(PROMPT, lora_strength=[1, 1, 0, 0], **SMALL)
    assert second.steps_reused == 2
    fork = second.fork(3, lora_strength=2.0)
    assert fork.steps_reused == 3
    assert lab.run(PROMPT, lora_strength=[1, 1, 0, 2], **SMALL).steps_reused == STEPS


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "no LoRA": ([], {"lora_strength": 0.5}, r"^lora_strength is 0\.5, but the model has no LoRA"),
    "all merged": (
        [{"file": "tiny-style", "merge": True}],
        {"lora_strength": [1, 1, 1, 0.5]},
        r"^lora_strength is 0\.5, but all LoRAs are merged into the weights",
    ),
    "a short list": ([("tiny-style", [1.0, 0.5])], {}, r"^loras\[0\]\.strength has 2 values, and the run has 4 steps"),
    "a list of the run": (
        ["tiny-style"],
        {"lora_strength": [1.0, 0.5, 0.0]},
        r"^lora_strength .* the 4 steps, and this one has 3\.$",
    ),
    "blocks that are not there": (
        [{"file": "tiny-style", "blocks": "7-9"}],
        {},
        r"blocks.*'7-9'; this model has the blocks 0 to 7",
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(row: str, tmp_path: Path) -> None:
    loras, changes, sentence = REFUSED[row]
    lab = wl.Lab(tmp_path / "lab", loras=loras, load_device="cpu")
    with pytest.raises(SettingsError, match=sentence):
        lab.run(PROMPT, **{**SMALL, **changes})
    assert not list((tmp_path / "lab").rglob("run.json"))


def test_a_fork_to_a_strength_without_a_lora_is_refused(tmp_path: Path) -> None:
    run = wl.Lab(tmp_path / "lab", load_device="cpu").run(PROMPT, **SMALL)
    with pytest.raises(SettingsError, match=r"^lora_strength is 0\.5, but the model has no LoRA"):
        run.fork(2, lora_strength=0.5)


# --- What is told ---


def test_the_report_and_the_sizes_are_those_of_the_files(file: Path, load: Callable[..., Model], model: Model) -> None:
    other = load((file, 0.5), "tiny-style")
    report = other.lora_report
    assert report is not None
    assert not report.unmatched + report.wrong_shape + report.warnings
    summary = report.summary()
    assert list(summary.lora) == ["some.safetensors", "style.safetensors"]
    assert list(summary.how) == ["live", "live"]
    sizes = other.lora_sizes().table()
    assert len(sizes)
    assert model.lora_report is None


def test_a_lab_opens_a_run_with_the_loras_that_made_it(file: Path, tmp_path: Path) -> None:
    run = wl.Lab(tmp_path / "lab", loras=[(file, 0.5)], load_device="cpu").run(PROMPT, **SMALL)
    opened = wl.Lab(tmp_path / "lab", load_device="cpu").open(run.id)
    assert torch.equal(opened.latents(STEPS), run.latents(STEPS))
    assert opened._bench.model_id == run._bench.model_id
