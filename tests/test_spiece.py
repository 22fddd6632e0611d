"""The tokenizer within a file of ComfyUI's: the same tokens as SentencePiece itself, without it."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wanlab.errors import ModelError
from wanlab.model.finding import find
from wanlab.model.parts import tokenizer
from wanlab.model.spiece import read_tokenizer, tokenizer_of
from wanlab.settings import ModelSettings
from wanlab.tiny import tiny_path

sentencepiece = pytest.importorskip("sentencepiece")

WORDS = [
    *"abcdefgh",
    "red",
    "circle",
    "moves",
    "right",
    "on",
    "blue",
    "background",
    "façade",
    "über",
    "红色",
    "的",
    "圆",
    "spins",
]
TEXTS = [
    "a red circle moves right",
    "  two   blanks  and one at the end ",
    "ﬁve ½ ① \uff46\uff55\uff4c\uff4c width",
    "unknown letters: ж 龍 🦆",
    "红色的圆",
    "tabs\tand\nlines",
    "",
]


@pytest.fixture(scope="module")
def content() -> bytes:
    """A small model, made as UMT5's was: unigram, bytes for unknown letters, letters normalized."""
    drawn, written = random.Random(0), io.BytesIO()
    lines = [" ".join(drawn.choice(WORDS) for _ in range(8)) for _ in range(2000)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=320,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return written.getvalue()


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_sentencepiece(content: bytes, text: str) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=content).encode(text)
    assert tokenizer_of(content)(text).input_ids == [*theirs, 1]


def test_random_texts_too(content: bytes) -> None:
    ours, theirs = tokenizer_of(content), sentencepiece.SentencePieceProcessor(model_proto=content)
    drawn = random.Random(1)
    letters = "abcdeé ﬁ红  ж½"
    for _ in range(300):
        text = "".join(drawn.choice(letters) for _ in range(drawn.randrange(1, 30)))
        assert ours(text).input_ids == [*theirs.encode(text), 1], text


def test_it_is_read_from_the_file_of_a_text_encoder_and_pads(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "umt5.safetensors"
    save_file({"spiece_model": torch.frombuffer(bytearray(content), dtype=torch.uint8), "shared.weight": torch.zeros(2)}, file)
    batch = read_tokenizer(file)(["a red circle"], padding="max_length", max_length=12, return_tensors="pt")
    assert batch.input_ids.shape == (1, 12)
    assert batch.input_ids[0, int(batch.attention_mask.sum()) :].eq(0).all()
    assert batch.input_ids[0, int(batch.attention_mask.sum()) - 1] == 1


def test_what_is_no_tokenizer_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    for damaged in (b"", b"\x0a\xff", content[:1000], b"\x07" * 30):
        with pytest.raises(ModelError, match="its tokenizer cannot be read"):
            tokenizer_of(damaged)
    file = tmp_path / "none.safetensors"
    save_file({"shared.weight": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match="has no tokenizer within; give tokenizer="):
        read_tokenizer(file)


def test_a_checkpoint_finds_the_tokenizer_within_its_text_encoder(content: bytes, tmp_path: Path) -> None:
    tiny = Path(tiny_path())
    weights = load_file(tiny / "text_encoder" / "model.safetensors")
    file = tmp_path / "umt5.safetensors"
    config = (tiny / "text_encoder" / "config.json").read_text()
    blob = {"spiece_model": torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    save_file(weights | blob, file, {"config": config})
    found = find(ModelSettings(model=str(tiny), text_encoder=str(file)))
    assert found.parts["tokenizer"] == tiny / "tokenizer"  # the model's own, which is there
    transformer = tmp_path / "transformer.safetensors"
    described = {"config": (tiny / "transformer" / "config.json").read_text()}
    save_file(load_file(tiny / "transformer" / "diffusion_pytorch_model.safetensors"), transformer, described)
    alone = find(ModelSettings(model=str(transformer), text_encoder=str(file), vae=str(tiny / "vae")))
    assert alone.parts["tokenizer"] == file
    assert tokenizer(alone)("a red circle").input_ids == tokenizer_of(content)("a red circle").input_ids
