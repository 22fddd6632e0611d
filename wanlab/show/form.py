"""The files of which a form is made, for the faces that hold one: `new Form(parent, form, changed)`."""

from __future__ import annotations

SCRIPTS = ("controls", "fields", "form_parts", "form")
STYLES = ("form",)
