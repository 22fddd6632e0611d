"""The command line: what it says, what it leaves behind, and that it needs no torch for what needs none."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wanlab.__main__ import main
from wanlab.comfy import to_comfy
from wanlab.knobs import LAB_FOLDER, changes_from
from wanlab.log import RunLog
from wanlab.parsers import parsers
from wanlab.settings import Settings
from wanlab.tiny import tiny_path

SMALL = ["--steps", "2", "--frames", "5", "--width", "32", "--height", "32", "--device", "cpu"]


class Said:
    """What one call of the command line answered."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str | Path) -> None:
        try:
            self.status: Any = main([str(word) for word in words])
        except SystemExit as leaving:  # argparse's own way out
            self.status = leaving.code
        self.out, self.err = capsys.readouterr()


def add(lab: Path, prompt: str = "a circle", **facts: Any) -> str:
    """A finished run in the log, with settings and facts by name."""
    settings = {name: facts.pop(name) for name in list(facts) if name in Settings().flat()}
    run = RunLog(lab / "runs").start({"settings": Settings(prompt=prompt).but(settings).flat()})
    run.finish("done", **{"seconds": {"total": 1.234}, "peak_rss_gib": 0.5, **facts})
    return run.id


# Errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--steps", "0"], "steps is 0; it must be from 1 to 1000."),
        (["run", "--step", "3"], "step is not a setting; did you mean steps"),
        (["run", "--frame-rate=8"], "frame_rate is not a setting; did you mean clip.frame_rate?"),
        (["run", "-steps", "3"], "-steps is not understood"),
        (["run", "a", "red", "circle"], "'red' is one word too many; a prompt of several words needs quotes."),
        (["run", "a circle", "--prompt", "a square"], "The prompt is given twice"),
        (["run", "--base_precision", "fp8"], "base_precision is 'fp8'; it must be one of fp32, bf16, fp16, fp16_fast."),
        (["run", "--seed"], "expected one argument"),
        (["run", "--out", "circle"], "circle does not end in a format"),
        (["run", "--out", "circle.avi"], "circle.avi does not end in a format"),
        (["run", "--out", "circle.gif", "--clip.frame_rate", "60"], "at most 50"),
        (["run", "--out", "file/circle.mp4"], "file/circle.mp4 cannot be written"),
        (["log", "--csw"], "--csw is not understood"),
        (["log", "--columns", "id,promt"], "'promt' is not a column; did you mean prompt"),
        (["trim", "--gib", "-1"], "gib is -1; it must be a number from 0 on"),
        (["trim", "--gib", "nan"], "gib is nan; it must be a number from 0 on"),
        (["trim", "--gib", "1"], "wanlab_runs is not a folder"),
        (["walk"], "invalid choice: 'walk'"),
        ([], "usage: wanlab"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    said = Said(capsys, *words)
    assert said.status == 2
    assert sentence in said.err
    assert said.out == ""
    assert os.listdir() == ["file"]


def test_a_plan_of_a_published_model_needs_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    said = Said(capsys, "plan", "--model", "Wan2.1-T2V-14B", "--device_gib", "24", "--force_offload", "--frames", "81")
    assert said.status == 0
    assert "denoise 30.20 GiB" in said.out
    assert "fits in 24 GB: no; the smallest change that does: blocks_to_swap 14" in said.out


def test_a_file_of_weights_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = Said(capsys, "inspect", Path(tiny_path()) / "vae")
    assert said.status == 0
    assert said.out.startswith("This is a VAE (of Wan2.1")
    assert "give it as vae=" in said.out
    (tmp_path / "a.pth").write_bytes(b"PK")
    said = Said(capsys, "inspect", tmp_path / "a.pth")
    assert said.status == 2
    assert "pickle" in said.err


def test_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = Said(capsys, "--version")
    assert said.status == 0
    assert said.out.startswith("wanlab ")


# Imports ----------------------------------------------------------------------------------------------------------------

LIGHT = """
import contextlib, sys
from wanlab.__main__ import main
heavy = {"torch", "diffusers", "transformers", "av", "PIL", "matplotlib"}
for words, unwanted in [
    (["--help"], {"pandas", "numpy", "psutil"}),
    (["run", "--help"], {"pandas", "numpy", "psutil"}),
    (["settings", "--markdown"], {"pandas", "numpy", "psutil"}),
    (["--version"], {"pandas", "numpy", "psutil"}),
    (["run", "--steps", "0"], {"pandas", "numpy"}),
    (["inspect", sys.argv[2]], {"pandas"}),
    (["plan", "--model", "Wan2.1-T2V-14B", "--device_gib", "24"], set()),
    (["log", "--lab", sys.argv[1]], set()),
]:
    with contextlib.suppress(SystemExit):
        main(words)
    found = (heavy | unwanted) & set(sys.modules)
    if found:
        sys.exit(f"{words} imports {found}")
"""


def test_help_settings_and_log_need_no_torch(tmp_path: Path) -> None:
    add(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", LIGHT, tmp_path, Path(tiny_path()) / "vae"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_errors_show_no_traceback_and_odd_terminals_are_survived(tmp_path: Path) -> None:
    add(tmp_path, "红色的圆")
    shell = {**os.environ, "PYTHONIOENCODING": "ascii"}
    script = f"{sys.executable} -m wanlab log --lab {tmp_path}; {sys.executable} -m wanlab run --steps 0 红"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=shell)
    assert "\\u7ea2" in ended.stdout
    assert ended.stderr == "steps is 0; it must be from 1 to 1000.\n"
    assert ended.returncode == 2


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    add(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "wanlab", "log", "--lab", tmp_path]
    ended = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


# The log ----------------------------------------------------------------------------------------------------------------


def test_log_of_an_empty_lab_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = Said(capsys, "log", "--lab", tmp_path / "new")
    assert said.status == 0
    assert said.out == ""
    assert "There are no runs" in said.err
    assert not (tmp_path / "new").exists()
    assert Said(capsys, "log", "--csv", "--lab", tmp_path / "new").out == '"id","status","prompt","seconds"\n'


def test_log_shows_the_settings_that_differ_newest_last(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ids = [add(tmp_path, cfg=3.0), add(tmp_path, cfg=4.5)]
    lines = Said(capsys, "log", "--lab", tmp_path).out.splitlines()
    assert lines[0].split() == ["id", "status", "prompt", "cfg", "seconds", "peak_rss_gib"]
    assert [line.split() for line in lines[1:]] == [
        [ids[0], "done", "a", "circle", "3", "1.23", "0.50"],
        [ids[1], "done", "a", "circle", "4.5", "1.23", "0.50"],
    ]
    assert Said(capsys, "log", "--lab", tmp_path, "--columns", "cfg, steps").out == "cfg  steps\n3    20\n4.5  20\n"
    assert "clip.frame_rate" in Said(capsys, "log", "--lab", tmp_path, "--all").out


def test_log_shows_what_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    add(tmp_path)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")
    strange = {"status": "done", "settings": {"id": 1, "=\x1b[2J": 2, "prompt": [1, "\n"], "cfg": None}}
    (tmp_path / "runs" / "strange").mkdir()
    (tmp_path / "runs" / "strange" / "run.json").write_text(json.dumps(strange))
    for words in (["--all"], ["--all", "--csv"], []):
        said = Said(capsys, "log", "--lab", tmp_path, *words)
        assert said.status == 0
        assert "unreadable" in said.out
        assert len(said.out.splitlines()) == 4
        assert "\x1b" not in said.out


@pytest.mark.parametrize("words", [[], ["--csv"]])
def test_log_prints_no_control_characters(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]) -> None:
    add(tmp_path, "\x1b]0;title\x07 a\tb\r\nc \u202e \x9b2J 红", tags=["\x1b[2J"])
    said = Said(capsys, "log", "--lab", tmp_path, "--columns", "prompt,tags", *words)
    assert all(letter.isprintable() for letter in said.out.replace("\n", ""))
    assert len(said.out.splitlines()) == 2
    assert "\\x1b" in said.out
    assert "红" in said.out


def test_columns_of_the_table_stand_in_line_also_in_chinese(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    add(tmp_path, "红色的圆")
    add(tmp_path, "a circle moves")
    lines = Said(capsys, "log", "--lab", tmp_path, "--columns", "prompt,status").out.splitlines()
    assert lines == ["prompt          status", "红色的圆        done", "a circle moves  done"]


@pytest.mark.parametrize(
    ("prompt", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\uff1d1", "'\uff1d1"),  # Excel takes letters of full width for the narrow ones
        ("\t=1", "\\t=1"),
        ("=1\r\n=2", "'=1\\r\\n=2"),
        ('a,"=1', 'a,"=1'),
        ("a-b", "a-b"),
    ],
)
def test_no_text_in_the_csv_is_a_formula(capsys: pytest.CaptureFixture[str], tmp_path: Path, prompt: str, cell: str) -> None:
    add(tmp_path, prompt, **{"=HYPERLINK(1)": "=2", "balance": -1.5})
    head, row = csv.reader(io.StringIO(Said(capsys, "log", "--lab", tmp_path, "--all", "--csv").out))
    cells = dict(zip(head, row, strict=True))
    assert cells["prompt"] == cell
    assert cells["'=HYPERLINK(1)"] == "'=2"
    assert cells["balance"] == "-1.5"  # a number stays one


def test_texts_of_the_csv_are_quoted_for_spreadsheets_that_split_at_semicolons(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    add(tmp_path, "a;=1")
    assert '"a;=1"' in Said(capsys, "log", "--lab", tmp_path, "--csv").out


# Runs -------------------------------------------------------------------------------------------------------------------


def test_a_run_is_made_written_reused_planned_listed_and_trimmed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from wanlab.clip import read_frames, read_settings

    lab, out = tmp_path / "lab", tmp_path / "new" / "x.gif"
    words = ["run", "a red circle", *SMALL, "--lab", lab]
    said = Said(capsys, *words, "--out", out, "--clip.frame-rate", "8")
    assert said.status == 0
    assert said.out.splitlines()[0] == str(out)
    assert "0 of 2 steps reused, peak memory" in said.out
    assert read_settings(out)["prompt"] == "a red circle"
    assert read_settings(out)["clip.frame_rate"] == 8
    assert read_frames(out)[0].shape == (5, 32, 32, 3)
    assert sorted(file.name for file in out.parent.iterdir()) == ["x.gif", "x.gif.json"]
    assert not list(lab.glob("runs/*/clip*"))

    planned = Said(capsys, *words, "--plan").out.splitlines()
    names = ["steps", "steps_reused", "model_calls", "window_passes", "work"]
    assert planned[0].split()[:5] == names
    assert planned[1].split()[:5] == ["2", "2", "0", "0", "0"]
    assert planned[2].startswith("encode text 0.0")
    assert planned[3].startswith("fits in ")
    again = Said(capsys, *words)
    assert "2 of 2 steps reused" in again.out
    assert Path(again.out.splitlines()[0]).parent.parent == lab / "runs"
    assert Path(again.out.splitlines()[0]).suffix == ".mp4"
    unwritten = Said(capsys, *words, "--no-clip.save_output")
    assert "The clip was not written" in unwritten.out

    assert len(Said(capsys, "log", "--lab", lab).out.splitlines()) == 4
    assert Said(capsys, "trim", "--gib", "0", "--lab", lab).out.startswith("Freed ")
    assert not list(lab.glob("steps/*/*"))


def test_the_folder_of_the_command_line_is_that_of_the_lab() -> None:
    from wanlab.lab import Lab

    assert inspect.signature(Lab).parameters["folder"].default == LAB_FOLDER


def test_an_interrupted_run_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wanlab.run.contact_sheet", interrupt)
    said = Said(capsys, "run", "a red circle", *SMALL, "--lab", tmp_path, "--out", tmp_path / "x.mp4")
    assert said.status == 130
    assert said.err.splitlines()[-1] == "Stopped after 2 of 2 steps, which are kept: run the same line again to go on."
    assert not (tmp_path / "x.mp4").exists()
    assert "stopped" in Said(capsys, "log", "--lab", tmp_path).out


# ComfyUI ----------------------------------------------------------------------------------------------------------------


def test_comfy_prints_the_line_that_makes_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Settings(prompt="a cube; $HOME `x`\x1b[2J", steps=7).but({"feta.weight": 4, "clip.pingpong": True})
    to_comfy(wanted, path=tmp_path / "made.json")
    said = Said(capsys, "comfy", tmp_path / "made.json")
    assert said.status == 0
    assert "\x1b" not in said.out
    words = shlex.split(said.out)
    assert words[:2] == ["wanlab", "run"]
    given, strange = parsers()[0].parse_known_args(words[1:])
    assert not strange
    assert changes_from(given)["feta.weight"] == 4
    assert changes_from(given)["clip.pingpong"] is True
    assert changes_from(given)["steps"] == 7


def test_comfy_tells_what_is_not_taken_beside_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workflow = to_comfy(Settings(), api=True)
    workflow["99"] = {"class_type": "Sharpen\x1b[2J", "inputs": {"images": ["6", 0]}}
    next(one for one in workflow.values() if one["class_type"] == "VHS_VideoCombine")["inputs"]["images"] = ["99", 0]
    (tmp_path / "a.json").write_text(json.dumps(workflow))
    said = Said(capsys, "comfy", tmp_path / "a.json", "--python")
    assert said.out.startswith("import wanlab as wl\n")
    assert "Not taken:" in said.err
    assert "\x1b" not in said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["comfy"], "There is no file; say which workflow to read"),
        (["comfy", "nowhere.json"], "nowhere.json cannot be read"),
        (["comfy", "made.json", "--sampler", "77"], "sampler is '77'; the samplers are WanVideoSampler #"),
    ],
)
def test_comfy_refuses_in_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    to_comfy(Settings(), path="made.json")
    said = Said(capsys, *words)
    assert said.status == 2
    assert sentence in said.err


def test_comfy_prints_its_guide(capsys: pytest.CaptureFixture[str]) -> None:
    assert Said(capsys, "comfy", "--markdown").out == (Path(__file__).parents[1] / "docs/comfyui.md").read_text()
