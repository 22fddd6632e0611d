"""The files of which a form is made, for the faces that hold one: `new Form(parent, form, changed)`."""

from __future__ import annotations

SCRIPTS = ("panel/fields", "panel/form_parts", "panel/form")
STYLES = ("panel/form",)
