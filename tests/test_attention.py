"""Ways to compute attention: every one of diffusers has a name, is tried without a trace, and is set for one model alone."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from wanlab.attention_modes import MODES, named
from wanlab.errors import ModelError, SettingsError
from wanlab.model.attention import WHEN_USED, Available, Found, availability, set_attention
from wanlab.model.model import Model
from wanlab.outline import Outline
from wanlab.settings import Settings
from wanlab.techniques import Moment, predicted
from wanlab.timeline import Timeline

EXACT_ON_A_CPU = ("sdpa", "sdpa_math", "sdpa_flash", "flex")


@pytest.fixture
def transformer(model: Model) -> WanTransformer3DModel:
    """A copy of the tiny transformer, to be changed, that made no choice yet."""
    copied = copy.deepcopy(model.transformer)
    for processor in copied.attn_processors.values():
        processor._attention_backend = None
    return copied


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends that compute attention from now on, a call each."""
    used: list[str] = []

    def watched(name: AttentionBackendName, compute: Any) -> Any:
        def call(**kwargs: Any) -> Any:
            used.append(name.value)
            return compute(**kwargs)

        return call

    registry = _AttentionBackendRegistry
    monkeypatch.setattr(registry, "_backends", {name: watched(name, one) for name, one in registry._backends.items()})
    return used


@pytest.fixture
def diffusers_default() -> Iterator[None]:
    """The backend of the process is afterwards what it was."""
    before = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry._active_backend = before


def velocity(transformer: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    latents, text = torch.randn(1, 16, 3, 4, 4, generator=generator), torch.randn(1, 512, 4096, generator=generator)
    text = text[..., : transformer.config.text_dim]
    with torch.inference_mode():
        return transformer(latents, torch.tensor([900]), text, return_dict=False)[0]


def test_every_backend_of_diffusers_has_one_name_and_every_name_a_backend() -> None:
    assert sorted(mode.backend for mode in MODES.values()) == sorted(one.value for one in AttentionBackendName)
    assert all(name == mode.name and mode.needs.endswith(".") for name, mode in MODES.items())


def test_fetched_are_those_that_diffusers_downloads() -> None:
    fetched = {mode.backend for mode in MODES.values() if mode.fetched}
    assert fetched == {one.value for one in attention_dispatch._HUB_KERNELS_REGISTRY}


def test_other_names_lead_to_one_mode() -> None:
    names = [name for mode in MODES.values() for name in {mode.name, mode.backend, *mode.aliases}]
    assert len(names) == len(set(names))
    assert all(named(name).name in MODES for name in names)
    comfy = "sdpa flash_attn_2 flash_attn_3 sageattn sageattn_3 sageattn_compiled comfy"
    assert [named(name).backend for name in comfy.split()] == (
        ["native", "flash", "_flash_3", "sage", "sage_blackwell_hub", "sage", "native"]
    )


@pytest.mark.parametrize(
    ("name", "why"), [("spargeattn", "diffusers has no kernel for it"), ("sdp", "there is no such way to compute attention")]
)
def test_names_without_a_kernel_are_refused_in_a_sentence(name: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"^attention_mode is '{name}'; {why}. Take one of sdpa, .*xla.$"):
        named(name)


def test_what_works_here_is_found_out_without_a_trace_and_without_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(attention_dispatch, "_maybe_download_kernel_for_backend", refuse)
    before = _AttentionBackendRegistry._active_backend, torch.get_rng_state(), torch.is_inference_mode_enabled()
    found = {one.mode.name: one for one in availability("cpu", torch.float32, 2, 12).found}
    after = _AttentionBackendRegistry._active_backend, torch.get_rng_state(), torch.is_inference_mode_enabled()
    assert before[0] is after[0]
    assert torch.equal(before[1], after[1])
    assert before[2] == after[2]
    assert list(found) == list(MODES)
    assert {name for name in EXACT_ON_A_CPU if found[name].here == "yes"} == set(EXACT_ON_A_CPU)
    for name in ("sdpa_cudnn", "sdpa_efficient"):  # accepted by name, and fail when they run
        assert found[name].here == "no"
        assert found[name].why.startswith("it fails on cpu in float32: ")
    assert all((one.here == "yes") == (one.why == "") for one in found.values())


def test_kernels_of_the_hub_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_dispatch, "is_kernels_available", lambda: True)
    monkeypatch.setattr(attention_dispatch, "is_kernels_version", lambda *_: True)
    found = {one.mode.name: one for one in availability().found if one.mode.fetched}
    assert len(found) == 8
    assert {(one.here, one.why) for one in found.values()} == {("when used", WHEN_USED)}


def test_a_kernel_that_computes_something_else_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {**_AttentionBackendRegistry._backends, AttentionBackendName._NATIVE_MATH: lambda query, **_: query}
    monkeypatch.setattr(_AttentionBackendRegistry, "_backends", broken)
    (math,) = (one for one in availability().found if one.mode.name == "sdpa_math")
    assert (math.here, math.why) == ("no", "what it computes here is not attention.")


def test_the_table_says_yes_or_why_not_and_escapes() -> None:
    available = Available((Found(MODES["sdpa"], "yes"), Found(MODES["sageattn"], "no", "<script>no package")))
    assert available.names == ("sdpa",)
    table = available.table()
    assert list(table.columns) == ["mode", "here", "why_not", "exact", "needs"]
    assert table.set_index("mode")["here"].to_dict() == {"sdpa": "yes", "sageattn": "no"}
    shown = available._repr_html_()
    assert "<script>" not in shown
    for text in ("sdpa", "yes", "&lt;script&gt;no package", "approximate", MODES["sageattn"].needs):
        assert text in shown


@pytest.mark.parametrize("mode", EXACT_ON_A_CPU)
def test_exact_modes_give_the_same_velocity(transformer: Any, backends: list[str], mode: str) -> None:
    plain = velocity(transformer)
    set_attention(transformer, mode)
    backends.clear()
    torch.testing.assert_close(velocity(transformer), plain, atol=5e-5, rtol=1e-4)
    assert backends == [MODES[mode].backend] * 2 * len(transformer.blocks)  # self-attention and cross-attention


@pytest.mark.usefixtures("diffusers_default")
def test_it_is_set_for_one_model_alone(transformer: Any, backends: list[str]) -> None:
    other = copy.deepcopy(transformer)
    set_attention(transformer, "sdpa_math")
    backends.clear()
    velocity(other)
    assert set(backends) == {"native"}
    # and what diffusers sets for another model, and so for the process, is not heard of by one that made a choice
    set_attention(transformer, "sdpa")
    copy.deepcopy(other).set_attention_backend("_native_math")
    backends.clear()
    velocity(other)
    assert set(backends) == {"_native_math"}
    backends.clear()
    velocity(transformer)
    assert set(backends) == {"native"}


@pytest.mark.parametrize(
    ("changes", "self_attention", "cross_attention"),
    [({"feta.weight": 8.0}, 1, 1), ({"nag": True, "negative_prompt": "a red star"}, 1, 2)],
)
def test_processors_of_techniques_compute_in_the_mode_of_the_model(
    model: Model, transformer: Any, backends: list[str], changes: dict[str, Any], self_attention: int, cross_attention: int
) -> None:
    settings = Settings(width=32, height=32, frames=9, steps=4, cfg=1).but(changes)
    own = SimpleNamespace(transformer_at=lambda _: transformer, encode=model.encode, device=model.device)
    own.velocity = lambda latents, timestep, text: transformer(
        latents, timestep.expand(1), encoder_hidden_states=text, return_dict=False
    )[0]
    set_attention(transformer, "sdpa_math")
    backends.clear()
    moment = Moment(0, torch.tensor(900), settings, own, Outline(Timeline(settings), model.facts), {})  # type: ignore[arg-type]
    given = SimpleNamespace(of=lambda *_: {})
    with torch.inference_mode():
        predicted(moment, torch.zeros(1, 16, 3, 4, 4), given)  # type: ignore[arg-type]
    assert backends == ["_native_math"] * len(transformer.blocks) * (self_attention + cross_attention)


def test_a_mode_that_does_not_work_here_is_refused_in_a_sentence_and_nothing_is_set(
    transformer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_SAGE_ATTN", False)
    monkeypatch.setattr(attention_dispatch, "is_kernels_available", lambda: False)
    set_attention(transformer, "sdpa_math")
    for mode in ("sdpa_cudnn", "flash_attn_3_hub", "sageattn"):
        with pytest.raises(SettingsError) as refused:
            set_attention(transformer, mode)
        sentence = str(refused.value)
        assert sentence.startswith(f"attention_mode is '{mode}', which does not work here (")
        assert MODES[mode].needs in sentence
        assert "Take one of sdpa, sdpa_math, sdpa_flash, flex" in sentence
        assert "\n" not in sentence
    assert {one._attention_backend for one in transformer.attn_processors.values()} == {AttentionBackendName._NATIVE_MATH}


def test_a_model_without_attention_is_refused() -> None:
    other = torch.nn.Module()
    other.config = SimpleNamespace(num_attention_heads=1, attention_head_dim=8)  # type: ignore[assignment]
    other.patch_embedding = torch.nn.Linear(1, 1)
    with pytest.raises(ModelError, match="no attention"):
        set_attention(other, "sdpa", device="cpu")
