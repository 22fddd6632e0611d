"""Runs beside each other: which settings differ, what that should do to the frames, and what it did."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import wanlab as wl
from wanlab.clip import Clip
from wanlab.differing import changes_frames, differing, forked_name, told, worded
from wanlab.errors import SettingsError
from wanlab.settings import Settings

Make = Callable[..., Settings]


class Tables(HTMLParser):
    """The first table of a page as rows of texts, and what its face is given."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.content: dict[str, Any] = {}
        self._cell = self._done = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if "data-wanlab" in dict(attributes):
            self.content = json.loads(dict(attributes)["data-wanlab"] or "")
        if tag == "tr" and not self._done:
            self.rows.append([])
        self._cell = tag in ("th", "td") and not self._done
        if self._cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._cell = False
        self._done |= tag == "table"

    def handle_data(self, text: str) -> None:
        if self._cell:
            self.rows[-1][-1] += text


# ---- what differs, without a run


def test_a_technique_that_only_some_have_is_told_by_its_switch() -> None:
    off = {"cfg": "5", "feta": "off"}
    as_declared = {"cfg": "5", "feta": "on", "feta.weight": str(Settings(feta=True).feta.weight)}
    assert differing([off, as_declared]) == ["feta"]
    assert differing([off, {**as_declared, "feta.weight": "7.5"}]) == ["feta", "feta.weight"]


def test_rows_that_are_not_known_are_not_asked() -> None:
    assert differing([{"cfg": "5"}, {}, {"cfg": "5"}]) == []
    assert differing([{"cfg": "5"}, {}, {"cfg": "6"}]) == ["cfg"]


def test_what_changes_frames_follows_from_the_declarations() -> None:
    assert all(
        changes_frames(name) for name in ("cfg", "seed", "model", "base_precision", "vae_tiling", "feta", "cfg from step 3")
    )
    assert not any(changes_frames(name) for name in ("blocks_to_swap", "load_device", "compile", "clip.frame_rate"))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"cfg": "5.5"}, {"cfg": "3.5"}], "Only cfg differs (5.5 \u2192 3.5)."),
        ([{"cfg": "5"}, {"cfg": "3"}, {"cfg": "5"}, {"cfg": "7"}], "Only cfg differs (5, 3, 7)."),
        ([{"prompt": "a"}, {"prompt": 50 * "long "}], "Only prompt differs."),
        ([{"negative_prompt": ""}, {"negative_prompt": "x"}], "Only negative_prompt differs (none \u2192 x)."),
        ([{"a": "1", "b": "1"}, {"a": "2", "b": "2"}], "a and b differ."),
        ([dict.fromkeys("abcdef", "1"), dict.fromkeys("abcdef", "2")], "a, b, c and 3 more differ."),
        ([{forked_name("cfg", 4): "5"}, {forked_name("cfg", 4): "1"}], "Only cfg differs from step 4 on (5 \u2192 1)."),
        ([{"cfg": "5"}, {"cfg": "5"}], "No setting differs."),
    ],
)
def test_one_sentence_says_what_differs(rows: list[dict[str, str]], sentence: str) -> None:
    assert told(rows, differing(rows)) == sentence


def test_a_fork_is_worded_for_a_label() -> None:
    assert worded(forked_name("cfg", 4), "1.0") == "cfg 1.0 from step 4"
    assert worded("cfg", "1.0") == "cfg 1.0"


# ---- runs


def test_the_settings_that_differ_are_a_table_and_a_sentence(lab: wl.Lab, small: Make) -> None:
    runs = [lab.run(small(), cfg=cfg) for cfg in (3.0, 2.0)]
    page = wl.compare(*runs)
    tables = Tables(page.html)
    assert tables.rows == [["", "1 \u00b7 cfg 3.0", "2 \u00b7 cfg 2.0"], ["cfg", "3.0", "2.0"]]
    apart = np.abs(runs[0].clip.frames.astype(int) - runs[1].clip.frames).mean(axis=(1, 2, 3))
    assert tables.content["summary"] == (
        f"Only cfg differs (3.0 \u2192 2.0). Their frames differ by {apart.mean():.2f} of 255 on average, "
        f"most in frame {apart.argmax() + 1} ({apart.max():.2f})."
    )
    assert page.title == small().prompt


def test_a_fork_is_compared_with_what_was_in_force_at_its_step(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small())
    tables = Tables(wl.compare(run, run.fork(4, cfg=1.0)).html)
    assert tables.rows[1:] == [["cfg from step 4", "3.0", "1.0"]]
    assert tables.content["summary"].startswith("Only cfg differs from step 4 on (3.0 \u2192 1.0).")


def test_runs_that_differ_in_what_changes_no_frame_should_be_identical_and_are(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small())
    summary = Tables(wl.compare(run, lab.run(small(), {"clip.frame_rate": 8})).html).content["summary"]
    assert re.search(
        r"Only clip\.frame_rate differs .*, so these two should be identical\. Their frames are identical\.$", summary
    )
    summary = Tables(wl.compare(run, lab.run(small()), run).html).content["summary"]
    assert summary == "No setting differs, so all 3 should be identical. Their frames are identical."


def test_what_should_be_identical_and_is_not_is_told(lab: wl.Lab, small: Make) -> None:
    run, other = lab.run(small()), lab.run(small())
    frames = other.clip.frames.copy()
    frames[2, 0, 0, 0] ^= 1
    other.__dict__["clip"] = Clip(frames, other.clip.settings, other.clip.metadata)
    summary = Tables(wl.compare(run, other).html).content["summary"]
    assert "should be identical. Their frames differ by 7e-05 of 255 on average, most in frame 3 " in summary
    assert "They ran" not in summary
    other.facts = {**other.facts, "threads": 64}
    ending = f"They ran with other threads ({run.facts['threads']}, 64), which round in another order."
    assert Tables(wl.compare(run, other).html).content["summary"].endswith(ending)


def test_of_many_clips_it_is_told_which_are_the_first_one_again(lab: wl.Lab, small: Make) -> None:
    runs = [lab.run(small(), seed=seed) for seed in (3, 4, 3, 5)]
    assert (
        Tables(wl.compare(*runs).html).content["summary"] == "Only seed differs (3, 4, 5). Identical to clip 1: 3; not: 2, 4."
    )
    assert wl.compare(*runs[1:]).text.endswith("Only seed differs (4, 3, 5). None is identical to clip 1.")


def test_a_stopped_run_promises_nothing(lab: wl.Lab, small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = lab.run(small()), lab.run(small())
    monkeypatch.setattr(other, "facts", {**other.facts, "status": "stopped", "steps_done": 2})
    page = wl.compare(run, other)
    assert "should be" not in page.text
    assert f"Run {other.id} was stopped after 2 of 6 steps." in page.text


def test_a_clip_may_stand_for_a_run(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small())
    other = lab.run(small(), seed=4).clip
    unknown = Clip(np.zeros((5, 32, 32, 3), np.uint8))
    assert Tables(wl.compare(run, other).html).rows[1:] == [["seed", "3", "4"]]
    labels = [clip["label"] for clip in Tables(wl.compare(run, other, unknown).html).content["clips"]]
    assert labels == ["seed 3", "seed 4", "clip 3"]
    assert "differ" not in Tables(wl.compare(run, unknown).html).content["summary"].split("Their")[0]
    mine = Tables(wl.compare(run, unknown, labels=["mine", "black"]).html).content["clips"]
    assert [clip["label"] for clip in mine] == ["mine", "black"]


def test_other_lengths_and_frame_rates_are_told(lab: wl.Lab, small: Make) -> None:
    page = wl.compare(lab.run(small()), lab.run(small(), {"frames": 9, "clip.frame_rate": 8}))
    notes = " ".join(Tables(page.html).content["notes"])
    assert "has 5 of 9 frames; then its last one stays." in notes
    assert "was made for 8 frames a second; here all play at 16." in notes


def test_compare_refuses_with_one_sentence(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small())
    for runs, options, sentence in (
        ([], {}, r"compare\(\) got 0 runs; it shows 1 to 9"),
        ([run] * 10, {}, r"compare\(\) got 10 runs; it shows 1 to 9"),
        ([[run, run]], {}, r"number 1 is a list\. Put a star before a list"),
        ([run, run.id], {}, r"number 2 is a str\.$"),
        ([run, run], {"mode": "diff"}, "mode is 'diff'; it must be one of side, wipe, blink, difference"),
        ([run], {"mode": "blink"}, "needs two runs"),
        ([run, run], {"labels": ["a"]}, "one text per run: 2"),
        ([run, run], {"labels": "ab"}, "one text per run: 2"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            wl.compare(*runs, **options)


def test_every_mode_is_how_the_page_begins(lab: wl.Lab, small: Make) -> None:
    run = lab.run(small())
    for mode in ("side", "wipe", "blink", "difference"):
        assert Tables(wl.compare(run, run, mode=mode).html).content["mode"] == mode
