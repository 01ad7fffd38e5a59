"""The curves as SVG, drawn from the figures of a run and from nothing else.

    python -m tests.benchmarks.charts build/bench/figures.json docs/images

Each file has a throughput and a latency panel, readable on light and on dark pages. A point is the
median of its runs, the thin line through it reaches from the lowest to the highest.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from tests.benchmarks.parts.curves import RESULT_BYTES, TASKS_A_JOB, WORKERS

FILES: Final = {
    WORKERS: ("bench-workers.svg", "worker processes"),
    TASKS_A_JOB: ("bench-tasks.svg", "tasks a job"),
    RESULT_BYTES: ("bench-results.svg", "size of a result, bytes"),
}
PANELS: Final = (
    ("tasks_per_second", "durable tasks a second"),
    ("latency_p50_ms", "one idle job, start to end, p50, ms"),
)
WIDTH, HEIGHT, MARGIN = 760, 300, 56
PANEL_WIDTH, PANEL_HEIGHT, TOP = 300, 170, 56
STYLE: Final = """
  .page { fill: #ffffff } text { fill: #59636e; font: 12px system-ui, sans-serif }
  .title { fill: #1f2328; font-weight: 600 } .value { fill: #1f2328 }
  .halo { fill: none; stroke: #ffffff; stroke-width: 4 }
  .grid { stroke: #d8dee4 } .line { stroke: #0969da; fill: none; stroke-width: 2 }
  .range { stroke: #0969da } .point { fill: #0969da; stroke: #ffffff; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #9198a1 } .title, .value { fill: #f0f6fc }
    .grid { stroke: #30363d } .line, .range { stroke: #4493f8 }
    .point { fill: #4493f8; stroke: #0d1117 } .halo { stroke: #0d1117 }
  }"""


@dataclass(frozen=True)
class Point:
    """One median, and the runs it is of."""

    label: str
    runs: Sequence[float]

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.runs)


def draw(figures: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write a file for each curve that *figures* (the JSON of a run) has points of."""
    written = []
    for curve, (name, axis) in FILES.items():
        panels = [(title, _points(figures, curve, figure)) for figure, title in PANELS]
        if not all(points for _, points in panels):
            continue
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / name
        path.write_text(_page(panels, axis, _where(figures["machine"])))
        written.append(path)
    return written


def _points(figures: Mapping[str, Any], curve: str, figure: str) -> list[Point]:
    return [
        Point(
            _number(float(one["work"].removeprefix(f"{curve}: "))), [r[figure] for r in one["runs"]]
        )
        for one in figures["measured"]
        if one["work"].startswith(f"{curve}: ") and not one["failures"]
    ]


def _where(machine: Mapping[str, str]) -> str:
    return (
        f"{machine['cores']} cores for database and workers, PostgreSQL"
        f" {machine.get('PostgreSQL', '')}, durable: {machine.get('PostgreSQL is durable', '')},"
        f" Python {machine['Python']}, Django {machine['Django']}"
    )


def _page(panels: Sequence[tuple[str, Sequence[Point]]], axis: str, where: str) -> str:
    what = f"{panels[0][0]} and {panels[1][0]}, over {axis}"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(what)}</title>",
        f"<style>{STYLE}\n</style>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
    ]
    for number, (title, points) in enumerate(panels):
        left = MARGIN + number * (PANEL_WIDTH + MARGIN + 20)
        lines += _panel(left, title, points)
        lines.append(_text(left + PANEL_WIDTH / 2, TOP + PANEL_HEIGHT + 38, axis))
    lines.append(_text(WIDTH / 2, HEIGHT - 12, where))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(left: float, title: str, points: Sequence[Point]) -> Iterator[str]:
    top_value = _nice(max(max(point.runs) for point in points))

    def y(value: float) -> float:
        return TOP + PANEL_HEIGHT * (1 - value / top_value)

    yield _text(left, TOP - 26, title, "title", "start")
    for step in range(5):
        value = top_value * step / 4
        at = y(value)
        yield f'<line class="grid" x1="{left}" x2="{left + PANEL_WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield _text(left - 8, at + 4, _number(value), anchor="end")
    slot = PANEL_WIDTH / len(points)
    places = [(left + slot * (n + 0.5), y(point.value)) for n, point in enumerate(points)]
    yield f'<polyline class="line" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}"/>'
    for (at, height), point in zip(places, points, strict=True):
        low, high = y(min(point.runs)), y(max(point.runs))
        yield f'<line class="range" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        yield f'<circle class="point" cx="{at:.1f}" cy="{height:.1f}" r="5"/>'
        for kind in ("halo", "value"):
            yield _text(at, min(height, high) - 10, _number(point.value), kind)
        yield _text(at, TOP + PANEL_HEIGHT + 18, point.label)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _nice(value: float) -> float:
    """The next round number that leaves some room above *value*."""
    unit = 10 ** math.floor(math.log10(value))
    # Each is four round steps high.
    steps = (1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10, 12)
    return next(step * unit for step in steps if step * unit >= value * 1.1)


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def main() -> None:
    """Draw what the figures in one file have into a directory."""
    source, directory = map(Path, sys.argv[1:])
    for path in draw(json.loads(source.read_text()), directory):
        print(path)


if __name__ == "__main__":
    main()
