"""Threads aside of the kernel's own: Python ends soon and without a crash, whatever they are doing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from wanlab import aside

PANEL = """
import sys, time
import wanlab as wl
panel = wl.Lab(sys.argv[1]).panel()
"""
ENDS = {
    "while a plan is made": "",
    "while a block is measured": "time.sleep(0.6)",
    "in the middle of a run": """
panel.settings = {"steps": 1000}
panel.run_button.click()
while not (panel.queue.running and panel.queue.running.run): time.sleep(0.01)
print(panel.queue.running.run.id)
""",
}


@pytest.mark.parametrize("when", list(ENDS))
def test_python_ends_without_a_crash(tmp_path: Path, when: str) -> None:
    command = [sys.executable, "-c", PANEL + ENDS[when], str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, "terminate" in done.stderr) == (0, False), done.stderr
    if run := done.stdout.strip():
        import wanlab as wl

        assert wl.Lab(tmp_path).log["status"][run] == "stopped"


def test_a_thread_is_asked_to_stop_and_forgotten() -> None:
    asked = []
    thread = aside.start(lambda: time.sleep(0.01), "short", lambda: asked.append(1))
    thread.join()
    assert thread not in aside._alive
    aside._end()
    assert not asked
