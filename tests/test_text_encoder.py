"""Prompts are embedded once: kept on the disk by encoder and text, computed where it is wanted, the same everywhere."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import wanlab as wl
from foreign import tensors_of, write_original
from wanlab.errors import ModelError, SettingsError
from wanlab.model import text as text_module
from wanlab.model.model import Model
from wanlab.tiny import tiny_path

TINY = Path(tiny_path("tiny"))
PROMPTS = ("a red circle moves right on a blue background", "", "zwei grüne Quadrate")
SMALL: dict[str, Any] = {"width": 32, "height": 32, "frames": 5, "steps": 1, "cfg": 1.0}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Model]:
    """Models of new kernels in one folder."""

    def make(folder: str = "lab", model: str | Path = TINY, **settings: Any) -> Model:
        return wl.Lab(tmp_path / folder, model=model, **{"load_device": "cpu", **settings}).model

    return make


def files(folder: Path) -> list[Path]:
    return sorted((folder / "lab" / "embeddings").glob("*"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_text_that_was_read_before_needs_no_encoder(precision: str, load: Callable[..., Model], tmp_path: Path) -> None:
    first, second = (load(base_precision=precision) for _ in range(2))
    wanted = [first.encode(prompt) for prompt in PROMPTS]
    assert first.text.loaded
    found = [second.encode(prompt) for prompt in PROMPTS]
    assert not second.text.loaded
    for one, other in zip(wanted, found, strict=True):
        assert one.dtype == other.dtype == first.dtype
        assert one.shape == (1, 512, 128)
        assert torch.equal(one, other)
    assert len(files(tmp_path)) == len(PROMPTS)


def test_a_run_with_a_known_prompt_loads_no_encoder(tmp_path: Path) -> None:
    wl.Lab(tmp_path, load_device="cpu").run(PROMPTS[0], **SMALL)
    lab = wl.Lab(tmp_path, load_device="cpu")
    lab.run(PROMPTS[0], seed=8, **SMALL)
    assert not lab.model.text.loaded


def test_embeddings_are_those_of_the_pipeline(model: Model) -> None:
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(TINY, dtype=torch.float32)
    with torch.inference_mode():
        embedded = [
            pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=512)[0] for prompt in PROMPTS
        ]
    for prompt, theirs in zip(PROMPTS, embedded, strict=True):
        torch.testing.assert_close(model.encode(prompt), theirs, rtol=0, atol=1e-5)


def test_other_encoders_precisions_and_texts_are_kept_apart(load: Callable[..., Model], tmp_path: Path) -> None:
    tensors = tensors_of(TINY / "text_encoder")
    tensors["encoder.final_layer_norm.weight"] *= 2
    shutil.copytree(TINY, tmp_path / "other")
    save_file(tensors, tmp_path / "other" / "text_encoder" / "model.safetensors", metadata={"format": "pt"})
    models = [load(), load(base_precision="bf16"), load(base_precision="fp16"), load(model=tmp_path / "other")]
    embedded = [[model.encode(prompt) for prompt in PROMPTS[:2]] for model in models]
    assert all(model.text.loaded for model in models)
    assert len(files(tmp_path)) == len(models) * 2
    assert not torch.equal(embedded[0][0], embedded[3][0])


def test_what_the_encoder_does_not_depend_on_shares_embeddings(load: Callable[..., Model], tmp_path: Path) -> None:
    load().encode(PROMPTS[0])
    settings: list[dict[str, Any]] = [{"quantization": "int8"}, {"vae_precision": "bf16"}, {"blocks_to_swap": 3}]
    assert not any((other := load(**each)).encode(PROMPTS[0]) is None or other.text.loaded for each in settings)


@pytest.mark.parametrize("harm", ["cut off", "flipped", "empty", "of something else", "unreadable"])
def test_a_damaged_file_is_computed_again(harm: str, load: Callable[..., Model], tmp_path: Path) -> None:
    wanted = load().encode(PROMPTS[0])
    [file] = files(tmp_path)
    content = file.read_bytes()
    if harm == "unreadable":
        file.unlink()
        file.mkdir()
    else:
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        file.write_bytes({"cut off": content[:-4], "flipped": flipped, "empty": b"", "of something else": b"x" * 99}[harm])
    if harm == "unreadable":
        assert load().text._kept.get(PROMPTS[0]) is None  # type: ignore[union-attr]
        return
    other = load()
    assert torch.equal(other.encode(PROMPTS[0]), wanted)
    assert other.text.loaded
    assert file.read_bytes() == content
    assert load().text._kept.get(PROMPTS[0]) is not None  # type: ignore[union-attr]


def test_many_texts_are_embedded_in_one_go_and_known_ones_not_again(
    load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    other, computed = load(), []
    whole = other.text._computed
    monkeypatch.setattr(other.text, "_computed", lambda text: (computed.append(text), whole(text))[1])
    other.text.prepare([*PROMPTS, PROMPTS[0]])
    other.text.prepare(PROMPTS)
    other.encode(PROMPTS[1])
    assert computed == list(PROMPTS)


def test_where_it_computes_is_its_own(load: Callable[..., Model]) -> None:
    wanted = load("one").encode(PROMPTS[0])
    for number, settings in enumerate(({"text_encoder_device": "cpu"}, {"force_offload": True})):
        assert torch.equal(load(f"lab{number}", **settings).encode(PROMPTS[0]), wanted)


def test_a_text_that_is_too_long_is_refused_before_anything_is_embedded(load: Callable[..., Model], tmp_path: Path) -> None:
    other = load(text_encoder_device="process")
    with pytest.raises(SettingsError, match=r"^prompt has \d+ tokens; the text encoder reads 512\. Shorten it\.$"):
        other.text.prepare(["a", "a red circle " * 300])
    assert not files(tmp_path)


# --- A process of its own ---


@pytest.mark.slow
def test_a_process_embeds_the_same_and_leaves_nothing_here(load: Callable[..., Model], tmp_path: Path) -> None:
    """And it does not run the notebook that it is asked from."""
    wanted = [load("here").encode(prompt) for prompt in PROMPTS]
    notebook = tmp_path / "notebook.py"
    notebook.write_text("raise SystemExit('the notebook was run')")
    settings = {"loras": ["tiny-style:0.5"], "compile.backend": "eager", "quantization": "int8"}
    other = load("lab", text_encoder_device="process", **settings)
    main = sys.modules["__main__"]
    file = main.__dict__.get("__file__")
    main.__file__ = str(notebook)
    try:
        other.text.prepare(PROMPTS)
    finally:
        main.__file__ = file
    assert not other.text.loaded
    for prompt, embedding in zip(PROMPTS, wanted, strict=True):
        assert torch.equal(other.encode(prompt), embedding)
    assert not other.text.loaded


def test_the_process_is_told_the_settings_and_only_what_is_unknown(
    load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And what it says last when it fails is told."""
    load().encode(PROMPTS[0])
    asked: list[Any] = []

    def failed(line: list[str], *, input: str, **_: Any) -> Any:
        asked.append((line, json.loads(input)))
        return type("Done", (), {"returncode": 1, "stderr": "Traceback ...\nMemoryError: 11 GB\n"})

    monkeypatch.setattr(text_module.subprocess, "run", failed)
    other = load(text_encoder_device="process", base_precision="fp32")
    with pytest.raises(
        ModelError, match=r"^The text encoder's process failed \(MemoryError: 11 GB\); take text_encoder_device"
    ):
        other.text.prepare(PROMPTS)
    [(line, told)] = asked
    assert line == [sys.executable, "-m", "wanlab.model.encode"]
    assert told["texts"] == list(PROMPTS[1:])
    assert told["folder"] == str(tmp_path / "lab" / "embeddings")
    assert told["settings"]["text_encoder_device"] == ""


def test_a_process_that_leaves_nothing_is_an_error(load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    done = type("Done", (), {"returncode": 0, "stderr": ""})
    monkeypatch.setattr(text_module.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ModelError, match=r"left no embedding of 'a'; take text_encoder_device 'cpu'\."):
        load(text_encoder_device="process").encode("a")


def test_a_file_of_the_encoder_is_told_by_its_content(load: Callable[..., Model], tmp_path: Path) -> None:
    file = write_original(TINY / "transformer", tmp_path / "model.safetensors")
    parts = {"text_encoder": str(TINY / "text_encoder"), "vae": str(TINY / "vae")}
    load().encode(PROMPTS[0])
    other = load(model=file, **parts)
    other.encode(PROMPTS[0])
    assert not other.text.loaded  # the same encoder as the folder's
