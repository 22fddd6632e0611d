"""The control panel: every setting as a control, the plan beside it, a queue of runs, and previews as they happen."""
