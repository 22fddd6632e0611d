"""Compiling: nothing changes but the speed, every compilation is counted, and settings that change while running make none.

Most tests compile with the backend "eager", which traces and guards as inductor does and then runs the graph as it is, so that
results are bit-equal and a compilation takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from wanlab.denoise import Step, denoise
from wanlab.errors import SettingsError
from wanlab.model.compiling import Compiled, Compiles, conflicts
from wanlab.model.model import Model
from wanlab.settings import Settings
from wanlab.store import StepStore
from wanlab.techniques.technique import patched
from wanlab.timeline import Timeline

Make = Callable[..., Settings]


@dataclass(frozen=True)
class Options:
    backend: str = "eager"
    mode: str = "default"
    dynamic: bool | None = False
    fullgraph: bool = False
    whole: bool = False
    recompile_limit: int = 64


@dataclass(frozen=True)
class Loading:
    """What `conflicts` reads of the model's settings."""

    compile: Options | None
    load_device: str = "cuda"
    quantization: str = "disabled"


@pytest.fixture(autouse=True)
def three_blocks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model with three of its blocks, which is enough to see that they share what is compiled."""
    monkeypatch.setitem(model.transformer._modules, "blocks", model.transformer.blocks[:3])


@pytest.fixture
def compiled(model: Model) -> Iterator[Callable[..., Compiled]]:
    """Compiles the transformer of the tiny model, for the time of the test."""
    made: list[Compiled] = []

    def make(**changes: Any) -> Compiled:
        made.append(Compiled(model.transformer, Options(**changes)))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def run(model: Model, tmp_path: Path) -> Callable[..., list[Step]]:
    """The steps of a run, none of them stored before."""

    def steps(settings: Settings | Timeline) -> list[Step]:
        timeline = settings if isinstance(settings, Timeline) else Timeline(settings)
        return list(denoise(model, timeline, StepStore(tmp_path / "steps"), fresh=True))

    return steps


def velocity(model: Model, frames: int = 3) -> torch.Tensor:
    latents = torch.randn(1, 16, frames, 4, 4, generator=torch.Generator().manual_seed(0))
    return model.velocity(latents, torch.tensor(900), model.encode("a red circle"))


def equal(ours: list[Step], theirs: list[Step]) -> bool:
    return all(torch.equal(one.velocity, other.velocity) for one, other in zip(ours, theirs, strict=True))


# Settings, what is changed in the middle of the run, and the graphs that it takes: blocks are compiled once, and once more
# where a technique makes them another function for one of the branches.
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "step and cfg": ({}, {"cfg": 2.0}, 1),
    "feta": ({"feta.weight": 8.0}, {"feta.weight": 3.3}, 1),
    "feta of two branches": ({"feta.weight": 8.0, "batched_cfg": True}, {"feta.weight": 2.0}, 1),
    "nag": ({"nag": True, "negative_prompt": "a red star"}, {"nag.scale": 4.2, "nag.tau": 1.5, "nag.alpha": 0.4}, 2),
    "nag, another text": ({"nag": True, "cfg": 1.0}, {"negative_prompt": "a red star"}, 1),
    "slg": ({"slg.blocks": "1"}, {"slg.blocks": "0, 2"}, 1),
    "riflex": ({"riflex.index": 2}, {"cfg": 2.0}, 1),
    "moving windows and feta": (
        {"context.frames": 9, "context.overlap": 4, "context.schedule": "uniform_looped", "feta.weight": 5.0},
        {"feta.weight": 6.0},
        1,
    ),
    "firstblock": ({"cache.kind": "firstblock", "cache.threshold": 0.9}, {"cfg": 2.0}, 1),
}


@pytest.mark.parametrize("row", list(ROWS))
def test_what_changes_while_running_compiles_nothing_anew(
    small: Make, run: Callable[..., list[Step]], compiled: Callable[..., Compiled], row: str
) -> None:
    base, change, graphs = ROWS[row]
    settings = small(frames=17, steps=4, **base)
    timeline = Timeline(settings).fork(2, change)
    plain = run(timeline)
    ours = compiled()
    steps = run(timeline)
    assert equal(steps, plain)
    assert [step.calls for step in steps] == [step.calls for step in plain]
    assert [step.notes for step in steps] == [step.notes for step in plain]
    assert (ours.compiles.graphs, ours.compiles.breaks) == (graphs, 0)
    first = ours.compiles
    run(settings.but({"seed": 4, **({"riflex.index": 3} if row == "riflex" else {})}))
    assert ours.compiles.since(first) == Compiles()  # another run finds all that it needs


@pytest.mark.parametrize("row", ["step and cfg", "feta", "nag"])
def test_the_whole_transformer_as_one_graph_gives_and_counts_the_same(
    small: Make, run: Callable[..., list[Step]], compiled: Callable[..., Compiled], row: str
) -> None:
    base, change, graphs = ROWS[row]
    timeline = Timeline(small(frames=9, steps=4, **base)).fork(2, change)
    plain = run(timeline)
    ours = compiled(whole=True)
    steps = run(timeline)
    assert equal(steps, plain)
    assert [step.calls for step in steps] == [step.calls for step in plain]
    assert all(step.block_seconds == () for step in steps)  # there are no blocks in one graph
    assert (ours.compiles.graphs, ours.compiles.breaks) == (graphs, 0)


def test_it_is_undone_without_a_trace(model: Model, compiled: Callable[..., Compiled]) -> None:
    transformer = model.transformer
    names, plain = list(transformer.state_dict()), velocity(model)
    for changes in ({}, {"whole": True}, {"backend": "cudagraphs"}):
        ours = compiled(**changes)
        assert list(transformer.state_dict()) == names
        assert not [name for name, _ in transformer.named_modules() if "_orig_mod" in name]
        ours.remove()
        ours.remove()
        assert not [module for module in transformer.modules() if "forward" in module.__dict__]
        assert not transformer._forward_pre_hooks
        assert torch.equal(velocity(model), plain)
        assert ours.compiles.graphs == 0


def test_hooks_of_blocks_stay_outside(model: Model, compiled: Callable[..., Compiled]) -> None:
    """As block swap needs it: a hook that comes after the compilation is called, before and after every block."""
    compiled()
    velocity(model)
    seen: list[tuple[str, int]] = []
    hooks = []
    for index, block in enumerate(model.transformer.blocks):
        hooks.append(block.register_forward_pre_hook(lambda *_, k=index: seen.append(("before", k))))
        hooks.append(block.register_forward_hook(lambda *_, k=index: seen.append(("after", k))))
    try:
        velocity(model)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [(when, k) for k in range(len(model.transformer.blocks)) for when in ("before", "after")]


def test_another_size_is_compiled_once_and_the_table_says_why(model: Model, compiled: Callable[..., Compiled]) -> None:
    ours = compiled()
    for frames in (2, 3, 2, 3):
        velocity(model, frames)
    compiles = ours.compiles
    assert (compiles.graphs, compiles.recompiles, compiles.breaks) == (2, 1, 0)
    assert compiles.facts() == {"graphs": 2, "recompiles": 1, "breaks": 0, "seconds": compiles.seconds}
    assert compiles.seconds > 0
    table = compiles.table()
    assert list(table["recompiles"]) == [0, 1]
    assert table["why"][0] == ""
    assert "size mismatch" in table["why"][1]
    assert list(Compiles().table().columns) == list(table.columns)


def test_sizes_that_are_dynamic_are_compiled_once(model: Model, compiled: Callable[..., Compiled]) -> None:
    plain = [velocity(model, frames) for frames in (2, 3, 4, 5)]
    ours = compiled(dynamic=True)
    assert all(torch.equal(velocity(model, frames), one) for frames, one in zip((2, 3, 4, 5), plain, strict=True))
    assert ours.compiles.graphs == 1


def test_a_number_that_python_keeps_is_compiled_for_every_value(model: Model, compiled: Callable[..., Compiled]) -> None:
    """What the techniques avoid, and that the counter would tell."""

    class Scaled(WanAttnProcessor):
        scale = 1.0

        def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().__call__(*args, **kwargs) * self.scale

    ours, scaled = compiled(), Scaled()
    with patched([block.attn1 for block in model.transformer.blocks], "processor", lambda *_: scaled):
        for scale in (1.0, 1.1, 1.2):
            scaled.scale = scale
            velocity(model)
    assert (ours.compiles.graphs, ours.compiles.recompiles) == (3, 2)


def test_models_do_not_count_for_each_other(model: Model, compiled: Callable[..., Compiled]) -> None:
    first = compiled(recompile_limit=1)
    velocity(model)
    assert first.at_limit
    first.remove()
    second = compiled(recompile_limit=2)
    velocity(model, 2)
    assert (first.compiles.graphs, second.compiles.graphs, second.compiles.recompiles) == (1, 1, 0)
    assert not second.at_limit


def test_beyond_the_limit_it_computes_without_compiling(model: Model, compiled: Callable[..., Compiled]) -> None:
    plain = [velocity(model, frames) for frames in (2, 3, 4)]
    before = torch._dynamo.config.recompile_limit
    ours = compiled(recompile_limit=2)
    assert all(torch.equal(velocity(model, frames), one) for frames, one in zip((2, 3, 4), plain, strict=True))
    assert ours.compiles.graphs == 2
    assert ours.at_limit
    assert torch._dynamo.config.recompile_limit == before


class Breaking(WanAttnProcessor):
    """Self-attention with something in it that cannot be traced."""

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        torch._dynamo.graph_break()
        return super().__call__(*args, **kwargs)


def test_what_cannot_be_traced_is_counted_or_refused(model: Model, compiled: Callable[..., Compiled]) -> None:
    plain = velocity(model)
    attentions = [block.attn1 for block in model.transformer.blocks]
    with patched(attentions, "processor", lambda *_: Breaking()):
        ours = compiled()
        assert torch.equal(velocity(model), plain)
        assert ours.compiles.breaks > 0
        assert ours.compiles.graphs > 1
        assert ours.compiles.recompiles == 0
        ours.remove()
        compiled(fullgraph=True)
        with pytest.raises(SettingsError) as refused:
            velocity(model)
    assert str(refused.value).startswith("compile.fullgraph is True, and something cannot be part of a graph (")
    assert str(refused.value).endswith("take fullgraph off.")
    assert "\n" not in str(refused.value)


def test_a_graph_too_many_is_refused_where_all_must_be_graphs(model: Model, compiled: Callable[..., Compiled]) -> None:
    compiled(fullgraph=True, recompile_limit=1)
    velocity(model, 2)
    with pytest.raises(SettingsError, match=r"^compile.recompile_limit is 1, and .*raise the limit, or take fullgraph off\.$"):
        velocity(model, 3)


def test_without_a_compiler_there_is_one_sentence_with_the_way_out(model: Model, compiled: Callable[..., Compiled]) -> None:
    import torch._inductor.config

    compiled(backend="inductor")
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}),
        pytest.raises(SettingsError, match=r"^compile.backend is 'inductor', which failed here \(.*\); turn compile off\.$"),
    ):
        velocity(model)


def test_an_error_of_the_computation_comes_through_as_it_is(model: Model, compiled: Callable[..., Compiled]) -> None:
    compiled()
    velocity(model)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = model.transformer.blocks[1].register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            velocity(model)
    finally:
        hook.remove()


def test_memory_that_is_out_while_compiling_is_told_as_such(
    model: Model, compiled: Callable[..., Compiled], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    ours = compiled()
    monkeypatch.setattr(ours, "_backend", full)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        velocity(model)


def test_settings_that_do_not_go_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert conflicts(Loading(None)) == ""
    assert conflicts(Loading(Options("inductor", "max-autotune"))) == ""
    assert "only inductor has modes" in conflicts(Loading(Options("eager", "max-autotune")))
    assert "load_device 'cpu' has none" in conflicts(Loading(Options("cudagraphs"), "cpu"))
    for capability, refused in (((8, 6), True), ((8, 9), False), ((10, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        sentence = conflicts(Loading(Options("inductor"), quantization="fp8_e4m3fn_scaled"))
        assert bool(sentence) == refused
        assert not sentence or "compute capability 8.6" in sentence
        assert conflicts(Loading(Options("inductor"), quantization="fp8_e5m2")) == ""


@pytest.mark.slow
def test_inductor_gives_the_same_and_compiles_blocks_once(
    model: Model, small: Make, run: Callable[..., list[Step]], compiled: Callable[..., Compiled]
) -> None:
    timeline = Timeline(small(frames=9, steps=4, **{"feta.weight": 8.0})).fork(2, {"feta.weight": 3.0})
    plain = run(timeline)
    ours = compiled(backend="inductor")
    for one, other in zip(run(timeline), plain, strict=True):
        torch.testing.assert_close(one.velocity, other.velocity, atol=1e-5, rtol=1e-5)
    assert (ours.compiles.graphs, ours.compiles.breaks) == (1, 0)
