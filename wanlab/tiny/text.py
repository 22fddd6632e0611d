"""The tiny text side: a tokenizer made of the captions' words, and a UMT5 encoder trained on captions alone.

The encoder stands in for Wan's pretrained UMT5-XXL and is frozen afterwards, as there. Every token is trained to tell
all attributes of the scene; trained together with the transformer instead, object and background colours were swapped
in about a third of the clips.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from wanlab.tiny import clips
from wanlab.tiny.training import Fit, Ranks, Rates

WIDTH = 128
# Words that people try, and those of the usual negative prompts, so that they are one token each.
OTHER_WORDS = [
    "an",
    "two",
    "and",
    "with",
    "the",
    "then",
    "of",
    "slowly",
    "fast",
    "moving",
    "motion",
    "video",
    "clip",
    "picture",
    "blurry",
    "low",
    "worst",
    "quality",
    "static",
    "still",
    "ugly",
    "distorted",
    "deformed",
    "overexposed",
    "subtitles",
    "jpeg",
    "no",
    "bad",
    "heart",
    "diamond",
    "ring",
    "gold",
    "silver",
    "brown",
    "bright",
    "dark",
    "light",
    "very",
    "jumps",
]
NEGATIVE_PROMPTS = (
    "",
    "",
    "",
    "blurry, low quality",
    "static, blurry, ugly",
    "worst quality, distorted",
    "low quality",
    "bad, deformed, ugly, static picture",
)


# The words of each attribute, for what reads them off tokens.
VALUES = {
    "shape": clips.SHAPES,
    "color": tuple(clips.COLORS),
    "background": tuple(clips.BACKGROUNDS),
    "motion": tuple(clips.MOTIONS),
    "size": tuple(clips.SIZES),
}


def words_of(attributes: Iterable[str]) -> int:
    """How many words these attributes have together."""
    return sum(len(VALUES[name]) for name in attributes)


def reading_loss(guesses: Tensor, attributes: Sequence[str], scenes: Sequence[clips.Scene], mask: Tensor) -> Tensor:
    """How badly tokens tell the attributes of their scenes: cross-entropies, summed over the attributes.

    `guesses` (b, n, words) are the logits of the words of all `attributes`; the mean is over tokens where `mask` (b, n) is 1.
    """
    total = guesses.new_zeros(())
    for name, guess in zip(attributes, guesses.split([len(VALUES[name]) for name in attributes], -1), strict=True):
        target = torch.tensor([VALUES[name].index(getattr(scene, name)) for scene in scenes], device=guesses.device)
        error = F.cross_entropy(guess.mT, target[:, None].expand_as(mask), reduction="none")
        total = total + (error * mask).sum() / mask.sum()
    return total


def make_tokenizer(folder: Path, seed: int = 0) -> None:
    """Save a Unigram tokenizer: a piece for each word of the captions, characters for everything else."""
    rng = random.Random(seed)
    words: Counter[str] = Counter()
    for _ in range(8000):
        words.update(clips.caption(clips.random_scene(rng), rng).replace(",", " ").replace(".", " ").split())
    for word in (*OTHER_WORDS, *clips.COLORS, *clips.BACKGROUNDS, *clips.SHAPES):
        words[word] = max(words[word], 3)
    total = sum(words.values())
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("\u2581", -8.0), (",", -3.0), (".", -3.0)]
    pieces += [("\u2581" + word, math.log(count / total)) for word, count in sorted(words.items())]
    letters = (chr(code) for code in range(33, 127))
    pieces += [(letter, -12.0) for letter in letters if letter == letter.lower() and letter not in ",."]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
        padding_side="right",
    ).save_pretrained(folder)


class _Reader(nn.Module):
    """The encoder and, for its training only, a linear head that reads every attribute from every token."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder = UMT5EncoderModel(
            UMT5Config(
                vocab_size=vocabulary,
                d_model=WIDTH,
                d_kv=32,
                num_heads=4,
                d_ff=256,
                num_layers=2,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
                pad_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=0,
            )
        )
        nn.init.normal_(self.encoder.get_input_embeddings().weight)
        self.head = nn.Linear(WIDTH, words_of(VALUES))

    def loss(self, ids: Tensor, mask: Tensor, scenes: list[clips.Scene]) -> Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return reading_loss(self.head(states + 0.3 * torch.randn_like(states)), tuple(VALUES), scenes, mask)


def train(folder: Path, steps: int, seed: int = 0) -> None:
    """Write `folder`/tokenizer and `folder`/text_encoder (about a minute on a CPU core)."""
    make_tokenizer(folder / "tokenizer", seed)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    torch.manual_seed(seed)
    ranks = Ranks.join()
    reader = _Reader(len(tokenizer)).to(ranks.device)
    rates = Rates(adam=2e-3, muon=0.0, warmup=30, hold=0.3, average=0.98)
    fit = Fit(reader, folder / "text_training", ranks, rates, lambda name, weight: False, seed)

    def loss(step: int, rng: random.Random) -> Tensor:
        scenes = [clips.random_scene(rng) for _ in range(128)]
        batch = tokenizer([clips.caption(scene, rng) for scene in scenes], padding=True, return_tensors="pt").to(ranks.device)
        return reader.loss(batch.input_ids, batch.attention_mask, scenes)

    fit.run(loss, steps)
    fit.swap()
    reader.encoder.save_pretrained(folder / "text_encoder")
