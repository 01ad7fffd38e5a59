"""The style sheet of the pages, added to whatever a theme brings."""

from __future__ import annotations

from django import forms

STYLE_SHEET = forms.Media(css={"all": ["django_tasks_seq/admin.css"]})
