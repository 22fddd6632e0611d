"""Plots of runs and the numbers under them, and the meter that measures memory over time."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wanlab as wl
from test_show import Reading
from wanlab.bench import Bench
from wanlab.errors import SettingsError
from wanlab.labels import labels
from wanlab.meter import MOST_SAMPLES, Meter
from wanlab.metrics import psnr
from wanlab.run import Run, perform
from wanlab.settings import Settings
from wanlab.show import Page
from wanlab.show.plots import Errors, Memory, Times, draw_errors, draw_memory_over_time, draw_times
from wanlab.timeline import Timeline

STEPS = 3


def make(shared_bench: Bench, **changes: Any) -> Run:
    return perform(shared_bench, Timeline(Settings(width=32, height=32, frames=5, steps=STEPS, seed=3).but(changes)))


@pytest.fixture(scope="module")
def run(shared_bench: Bench) -> Run:
    return make(shared_bench, prompt="a $circle_{1 & <b>bold</b>")


@pytest.fixture(scope="module")
def fork(run: Run) -> Run:
    return run.fork(1, cfg=1.0)


def cells(page: Page) -> list[str]:
    return [text.strip() for text in Reading(page.html).texts if text.strip()]


def row(page: Page, name: str) -> list[str]:
    found = cells(page)
    at = found.index(name)
    return found[at + 1 : at + 3]


def test_the_seconds_drawn_are_those_of_the_log(run: Run, fork: Run) -> None:
    page = wl.plot_time(run, fork)
    for stage in ("load", "encode", "denoise", "decode", "save"):
        assert row(page, stage) == [f"{one.facts['seconds'][stage]:.4g}" for one in (run, fork)]
    assert row(page, "steps reused") == ["0 of 3", "1 of 3"]
    assert "cfg 3.0 from step 1: " in page.text
    assert "cfg 1.0 from step 1: " in page.text


def test_reused_steps_are_hollow_at_the_seconds_of_the_run_that_made_them() -> None:
    figure = draw_times([Times("a", {"denoise": 2.0}, [0.5, None, 0.7], [True, True, False], compiled=0.3)])
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    reused = lines["reused: seconds of the run that computed it"]
    assert reused.get_markerfacecolor() == "none"
    assert reused.get_ydata()[0] == 0.5
    assert math.isnan(reused.get_ydata()[1])  # unknown, and not 0
    assert lines["a"].get_xdata().tolist() == list(lines["first computed"].get_xdata()) == [2]
    assert "with 300 ms of compiling" in figure.axes[1].texts[-1].get_text()


def test_memory_over_time_is_in_the_runs_facts_and_bounded(run: Run) -> None:
    noted = run.facts["memory"]
    assert list(dict.fromkeys(noted["stage"])) == ["load", "encode", "denoise", "decode", "save"]
    assert noted["seconds"] == sorted(noted["seconds"])
    assert len(noted["seconds"]) == len(noted["gib"]) == len(noted["stage"]) <= MOST_SAMPLES
    for gib, stage in zip(noted["gib"], noted["stage"], strict=True):
        assert 0 < gib <= noted["peaks"][stage] * 1.001
    assert max(noted["peaks"].values()) <= run.facts["peak_rss_gib"] * 1.001
    assert noted["device_gib"] > run.facts["peak_rss_gib"]


def test_memory_is_no_column_of_the_log(shared_bench: Bench, run: Run) -> None:
    assert not [name for name in shared_bench.log.frame() if name.startswith("memory")]


def test_planned_peaks_stand_beside_the_measured_ones(run: Run, fork: Run) -> None:
    page = wl.plot_memory(run, fork)
    stages = wl.plan(run.settings).stages
    assert row(page, "denoise, planned") == [f"{stages['denoise']:.4g}"] * 2
    assert row(page, "denoise, peak") == [f"{one.facts['memory']['peaks']['denoise']:.4g}" for one in (run, fork)]
    assert "on top of what the process had" in page.html


def test_a_run_that_noted_no_memory_is_left_out_and_said(shared_bench: Bench, run: Run) -> None:
    old = Run(shared_bench, run.id, run.timeline, {name: fact for name, fact in run.facts.items() if name != "memory"})
    assert "1 of the runs noted no memory" in wl.plot_memory(run, old).html
    with pytest.raises(SettingsError, match="None of these runs has noted its memory"):
        wl.plot_memory(old)


def test_the_line_of_the_device_is_drawn_where_it_is_near() -> None:
    def named(device_gib: float) -> list[str]:
        memory = Memory("a", [0, 1], [4, 5], ["load", "denoise"], {"load": 5, "denoise": 7}, {"denoise": 6}, 0, device_gib)
        return [line.get_label() for line in draw_memory_over_time([memory]).axes[0].lines]

    assert "the device" in named(8)
    assert "the device" not in named(80)
    assert {"in use", "peak of the stage", "planned"} < set(named(8))


def test_errors_are_relative_to_the_reference(run: Run, fork: Run) -> None:
    page = wl.plot_error(fork, run, reference=run)
    end, goal = fork.latents(STEPS), run.latents(STEPS)
    assert row(page, "latents at the end") == [f"{float((end - goal).norm() / goal.norm()):.4g}", "0"]
    frames = [psnr(one[None], other[None]) for one, other in zip(fork.clip.frames, run.clip.frames, strict=True)]
    assert row(page, "PSNR of the worst frame, dB") == [f"{min(frames):.4g}", "identical"]


def test_errors_at_other_levels_are_drawn_and_zero_is_no_point(shared_bench: Bench, run: Run) -> None:
    other = make(shared_bench, prompt=run.settings.prompt, steps=5)
    assert row(wl.plot_error(other, run, reference=run), "latents at the end")[0] != "0"
    figure = draw_errors([Errors("a", [1, 0.5, 0], [0.0, 0.1, None], [30.0, math.inf])])
    drawn = figure.axes[0].lines[0].get_ydata()
    assert [math.isnan(value) for value in drawn] == [True, False, True]


def test_wrong_runs_are_refused_in_a_sentence(shared_bench: Bench, run: Run) -> None:
    for plot in (wl.plot_time, wl.plot_memory, lambda: wl.plot_error(reference=run)):
        with pytest.raises(SettingsError, match="at least one run"):
            plot()
    with pytest.raises(SettingsError, match="compare one size"):
        wl.plot_error(make(shared_bench, frames=1), reference=run)


def test_runs_are_called_by_what_differs(shared_bench: Bench, run: Run, fork: Run) -> None:
    prompt = run.settings.prompt
    feta = make(shared_bench, prompt=prompt, **{"feta.weight": 2.0})
    assert labels([run, fork, feta]) == [
        "feta off, cfg 3.0 from step 1",
        "feta off, cfg 1.0 from step 1",
        "feta on, cfg 3.0 from step 1",
    ]
    assert labels([run, make(shared_bench, prompt=prompt, cfg=2.0)]) == ["cfg 3.0", "cfg 2.0"]
    assert labels([run, run]) == [run.id, run.id]
    facts = {**run.facts, "model": {**run.facts["model"], "compile.backend": "eager"}}
    compiled = Run(shared_bench, "other", run.timeline, facts)
    assert labels([run, compiled]) == ["compile off", "compile on, compile.backend eager"]


def test_texts_of_people_are_no_formulas_and_no_html(shared_bench: Bench, run: Run, tmp_path: Path) -> None:
    other = make(shared_bench, prompt="$\\frac{1}{$ <script>alert(1)</script>")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for page in (wl.plot_time(run, other), wl.plot_memory(run, other), wl.plot_error(run, other, reference=run)):
            assert not {"script", "b"} & set(Reading(page.html).tags)
            assert "://" not in page.to_html(tmp_path / "plot.html").read_text()


def test_a_plot_is_a_picture_with_its_numbers_in_a_table(run: Run) -> None:
    page = wl.plot_time(run)
    assert page.png.startswith(b"\x89PNG")
    reading = Reading(page.html)
    assert dict(reading.attributes)["src"].startswith("data:image/svg+xml;base64,")
    assert dict(reading.attributes)["alt"] == page.text
    assert reading.tags.count("table") == 1


def test_the_meter_forgets_looks_but_no_peak() -> None:
    meter = Meter(torch.device("cpu"))
    with meter.stage("a"):
        for _ in range(3 * MOST_SAMPLES):
            meter.look()
        held = np.ones(2**23)  # 64 MiB that nobody looks at
        del held
    with meter.stage("b"):
        pass
    noted = meter.facts()
    assert len(noted["seconds"]) <= MOST_SAMPLES
    assert noted["seconds"] == sorted(noted["seconds"])
    assert set(noted["stage"]) == {"a", "b"}
    assert max(meter.peaks.values()) <= meter.peak()["peak_rss_gib"] + 1e-9
    if meter._resets:  # where the system keeps a peak for us
        assert meter.peaks["a"] > max(noted["gib"]) + 0.03
        assert meter.peaks["b"] < meter.peaks["a"]


def test_a_meter_that_saw_no_stage_has_a_peak_and_no_samples_of_any() -> None:
    meter = Meter(torch.device("cpu"))
    assert meter.facts()["gib"] == []
    assert meter.peak()["peak_rss_gib"] > 0
