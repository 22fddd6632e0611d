"""The control panel: every setting as a control, the plan beside it, a queue of runs, and what they look like as they happen."""
