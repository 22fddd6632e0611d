"""The store gives back what was put in, or says that it has nothing: never something else."""

import random
from pathlib import Path

import pytest
import torch

from wanlab.errors import FileError, SettingsError
from wanlab.store import StepStore, Stored

NAME = "0123456789abcdef" * 2


@pytest.fixture
def store(tmp_path: Path) -> StepStore:
    return StepStore(tmp_path / "steps")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_comes_back_bit_equal(store: StepStore, dtype: torch.dtype) -> None:
    velocity = torch.randn(1, 16, 3, 4, 4).to(dtype)
    store.put(NAME, Stored(velocity, 1.25, {"feta": 1.5}, (0.5, 0.0, 0.25)))
    found = store.get(NAME)
    assert found is not None
    assert (found.seconds, found.notes, found.block_seconds) == (1.25, {"feta": 1.5}, (0.5, 0.0, 0.25))
    assert found.velocity.dtype == dtype
    assert torch.equal(found.velocity, velocity)
    assert NAME in store


def test_nothing_is_found_under_another_name(store: StepStore) -> None:
    assert store.get(NAME) is None
    assert NAME not in store


def test_every_flipped_bit_is_found(store: StepStore) -> None:
    store.put(NAME, Stored(torch.randn(1, 16, 1, 2, 2), 0.5))
    (file,) = store.folder.glob("*/*")
    content, rng = file.read_bytes(), random.Random(0)
    places = [*range(len(content) - 256), *(rng.randrange(len(content)) for _ in range(200))]
    for place in places:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
        with pytest.warns(UserWarning, match="is damaged"):
            assert store.get(NAME) is None, place


@pytest.mark.parametrize("size", [0, 7, 8, 60, -1])
def test_a_torn_file_is_found(store: StepStore, size: int) -> None:
    store.put(NAME, Stored(torch.randn(1, 16, 1, 2, 2), 0.5))
    (file,) = store.folder.glob("*/*")
    file.write_bytes(file.read_bytes()[:size])
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.get(NAME) is None


def test_a_file_under_the_name_of_another_step_is_not_taken(store: StepStore) -> None:
    store.put(NAME, Stored(torch.randn(1, 16, 1, 2, 2), 0.5))
    (file,) = store.folder.glob("*/*")
    file.rename(file.with_name(f"{'01' * 16}.safetensors"))
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.get("01" * 16) is None


def test_truncating_the_file_of_a_step_in_use_does_no_harm(store: StepStore) -> None:
    velocity = torch.randn(1, 16, 1, 2, 2)
    store.put(NAME, Stored(velocity, 0.5))
    found = store.get(NAME)
    next(store.folder.glob("*/*")).write_bytes(b"")
    assert found is not None
    assert torch.equal(found.velocity, velocity)


def test_trim_keeps_the_newest_steps_within_the_size(store: StepStore) -> None:
    import os

    names = [f"{k:02x}" * 16 for k in range(10)]
    for age, name in enumerate(names):
        store.put(name, Stored(torch.zeros(1, 16, 4, 16, 16), 0.0))
        file = store.folder / name[:2] / f"{name}.safetensors"
        os.utime(file, (1e9 + age, 1e9 + age))
    one = store.gib / 10
    freed = store.trim(3.5 * one)
    assert [name in store for name in names] == [False] * 7 + [True] * 3
    assert freed == pytest.approx(7 * one)


@pytest.mark.parametrize("gib", [-1, float("nan")])
def test_trim_to_no_size_deletes_nothing(store: StepStore, gib: float) -> None:
    store.put(NAME, Stored(torch.zeros(1, 16, 1, 2, 2), 0.0))
    with pytest.raises(SettingsError, match="must be 0 or more"):
        store.trim(gib)
    assert NAME in store


def test_a_full_disk_is_a_named_error_and_leaves_nothing(store: StepStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        store.put(NAME, Stored(torch.zeros(1, 16, 1, 2, 2), 60.0))
    assert not list(store.folder.glob("*/*")) + list(store.folder.glob("*/.*"))
