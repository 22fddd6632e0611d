"""The errors that wanlab raises on purpose. Each message says what is wrong, the rule, and the way out."""

from __future__ import annotations


class WanlabError(Exception):
    """Any error of wanlab."""


class SettingsError(WanlabError, ValueError):
    """A setting that is unknown, of the wrong type, out of range, or not to be changed here."""


class BusyError(WanlabError, RuntimeError):
    """Something that another thread is using at the moment."""


class FileError(WanlabError, OSError):
    """A file that is missing, damaged, not what it should be, or cannot be written."""


class ModelError(WanlabError, ValueError):
    """A model folder or hub name that wanlab cannot use."""
