"""What the tests share: the tiny model, loaded once, and settings that take a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# A machine that is busy with other things is slow, which is no fault of what is tested.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

if TYPE_CHECKING:
    from wanlab.bench import Bench
    from wanlab.lab import Lab
    from wanlab.model.model import Model
    from wanlab.settings import Settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes test, a file stays together, so that its fixtures are made once; notebooks go one by one."""
    for item in items:
        if item.path.name != "test_notebooks.py":
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture(scope="session")
def model() -> Model:
    """The tiny model in fp32 on the CPU, with one thread: two of them wait for each other on a busy machine."""
    import torch

    from wanlab.model import finding
    from wanlab.model.model import Model
    from wanlab.settings import ModelSettings

    torch.set_num_threads(1)
    return Model(ModelSettings(), finding.find("tiny"))


def _bench_in(folder: Path, model: Model) -> Bench:
    """A bench in this folder, around the one loaded model."""
    from wanlab.bench import Bench

    bench = Bench(folder, model.settings)
    bench.__dict__["model"] = model
    return bench


@pytest.fixture(scope="module")
def shared_bench(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench in a folder that the tests of a file share."""
    return _bench_in(tmp_path_factory.mktemp("lab"), model)


@pytest.fixture
def make_bench(model: Model, tmp_path: Path) -> Callable[[], Bench]:
    """Benches in the same folder, as two kernels would have, around the one loaded model."""
    return lambda: _bench_in(tmp_path / "lab", model)


@pytest.fixture
def bench(make_bench: Callable[[], Bench]) -> Bench:
    """A bench in a new folder."""
    return make_bench()


@pytest.fixture
def lab(bench: Bench) -> Lab:
    """A lab in a new folder."""
    from wanlab.lab import Lab

    lab = Lab(bench.folder)
    lab._bench = bench
    return lab


@pytest.fixture
def small() -> Callable[..., Settings]:
    """Settings of a run of a few tokens and steps; changes by name."""
    from wanlab.settings import Settings

    def make(**changes: Any) -> Settings:
        return Settings(width=32, height=32, frames=5, steps=6, seed=3).but(changes)

    return make


@pytest.fixture
def calls(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The timesteps of all passes of the model from now on."""
    seen: list[float] = []
    velocity = model.velocity

    def counted(latents: Any, timestep: Any, text: Any, **told: Any) -> Any:
        seen.append(float(timestep))
        return velocity(latents, timestep, text, **told)

    monkeypatch.setattr(model, "velocity", counted)
    return seen
