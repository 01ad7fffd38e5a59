"""Text in a status colour can be read: at least 4.5:1 on every background of the stock admin."""

import re
from pathlib import Path

import pytest

import django_tasks_seq

CSS = Path(django_tasks_seq.__file__).parent / "static" / "django_tasks_seq" / "admin.css"
PAIR = r"--dts-(\w+): light-dark\((#\w{6}), (#\w{6})\);"
COLOURS = re.findall(PAIR, CSS.read_text())
TEXT = [one for one in COLOURS if one[0] != "empty"]
# Page, striped row, selected row; as in Django's base.css and dark_mode.css.
BACKGROUNDS = {1: ("#ffffff", "#f8f8f8", "#ffffcc"), 2: ("#121212", "#212121", "#00363a")}


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(c * weight for c, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_the_guidelines_say():
    """Black on white is 21:1, a colour on itself 1:1."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("colours", TEXT, ids=lambda one: one[0])
def test_status_colours_can_be_read_in_light_and_dark(colours):
    """Each status colour has 4.5:1 on page, striped and selected rows of its theme."""
    for theme, backgrounds in BACKGROUNDS.items():
        for background in backgrounds:
            assert contrast(colours[theme], background) >= 4.5


def test_all_status_colours_were_found():
    """The style sheet names a colour for each kind of status."""
    assert {name for name, *_ in TEXT} == {"green", "red", "blue", "amber", "grey"}
