"""The golden numbers of ENGINE: when they move, either something broke, or ENGINE has to be raised (wanlab/names.py).

Raise ENGINE and renew the numbers with `python tests/test_golden.py` when the velocities of the same settings are meant to
be others. New weights are another model and need no new ENGINE, but new numbers here.
"""

import json
from pathlib import Path

import pytest
import torch

from wanlab.model.model import Model
from wanlab.names import ENGINE, step_names
from wanlab.settings import Settings
from wanlab.timeline import Timeline

FILE = Path(__file__).parent / "reference" / "golden.json"
SETTINGS = Settings(width=64, height=64, frames=9, steps=4, seed=11)


def velocities(model: Model) -> list[list[float]]:
    """Mean, standard deviation and three values of the velocity of each step, at the declared cfg, from pure noise."""
    from tempfile import TemporaryDirectory

    from wanlab.denoise import denoise
    from wanlab.store import StepStore

    with TemporaryDirectory() as folder:
        found = [step.velocity.double().flatten() for step in denoise(model, Timeline(SETTINGS), StepStore(Path(folder)))]
    return [[float(v.mean()), float(v.std()), *v[[0, 1234, 3071]].tolist()] for v in found]


def test_velocities_are_those_of_this_engine(model: Model) -> None:
    golden = json.loads(FILE.read_text())
    assert golden["engine"] == ENGINE, "ENGINE was raised: renew the golden numbers with python tests/test_golden.py"
    assert golden["model"] == model.id, "the weights are new: renew the golden numbers with python tests/test_golden.py"
    assert golden["names"] == step_names(model.id, Timeline(SETTINGS))
    # not bit for bit: another processor or torch may round differently
    for now, then in zip(velocities(model), golden["velocities"], strict=True):
        assert now == pytest.approx(then, abs=2e-3)


if __name__ == "__main__":
    from wanlab.model import finding
    from wanlab.settings import ModelSettings

    torch.set_num_threads(1)
    tiny = Model(ModelSettings(), finding.find("tiny"))
    content = {
        "engine": ENGINE,
        "model": tiny.id,
        "names": step_names(tiny.id, Timeline(SETTINGS)),
        "velocities": velocities(tiny),
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n")
