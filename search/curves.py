"""A trial's accuracy by epoch as an SVG image: small, sharp at any size, and without a library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from search.palette import ARM_COLORS

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 44, 40
"""Pixels around the axes."""


def curves_svg(title: str, arm: str, train: Sequence[float], val: Sequence[float]) -> str:
    """`train`, `val`: accuracies from 0 to 1, one per epoch, from the first on."""
    epochs = len(val)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="12">{escape(title)}</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(share)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for epoch in sorted({1, *range(max(1, epochs // 5), epochs + 1, max(1, epochs // 5)), epochs}):
        x = _x(epoch, epochs)
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{epoch}</text>')
    lines.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">epoch</text>')
    for name, curve, dash, x in (("training", train, "4 3", LEFT), ("validation", val, "none", LEFT + 100)):
        style = f'fill="none" stroke="{ARM_COLORS[arm]}" stroke-width="2" stroke-dasharray="{dash}"'
        points = " ".join(f"{_x(i, epochs):.1f},{_y(share):.1f}" for i, share in enumerate(curve, start=1))
        lines.append(f'<polyline points="{points}" {style}/>')
        lines.append(f'<path d="M{x} 31h18" {style}/><text x="{x + 23}" y="35">{name}</text>')
    return "\n".join([*lines, "</svg>\n"])


def _x(epoch: int, epochs: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(1, epochs - 1)


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)
