"""Draws the product photographs in `photos/`: `python example_project/data/draw_photos.py`.

Each product is turned on a lathe: a profile of radii from top to bottom, lit from the upper left in
a small studio. The same input gives the same pixels; the JPEGs are kept in the repository.
"""

from itertools import pairwise
from math import exp, sqrt
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFilter

PHOTOS = Path(__file__).resolve().parent / "photos"
WIDTH, HEIGHT = 960, 720
FLOOR = 560
FRAME = (120, 96, 840, 636)
LIGHT = (-0.52, -0.46, 0.72)
Colour = tuple[float, float, float]


class Turned(NamedTuple):
    """A product: its colour, how glossy it is, and its profile as (height, radius) pairs."""

    colour: Colour
    gloss: float
    profile: list[tuple[float, float]]
    rim: Colour | None = None


PRODUCTS = {
    "cup-blue": Turned(
        (46, 96, 168), 0.5, [(300, 96), (60, 100), (16, 96), (0, 84)], (28, 58, 104)
    ),
    "bowl-sand": Turned(
        (205, 176, 128), 0.25, [(190, 200), (150, 190), (90, 150), (40, 92), (20, 72), (0, 76)],
        (148, 122, 82),
    ),
    "vase-teal": Turned(
        (22, 122, 120), 0.8,
        [(420, 62), (400, 46), (350, 40), (290, 70), (200, 124), (120, 128), (50, 92), (0, 64)],
        (10, 56, 56),
    ),
    "lamp-ochre": Turned(
        (214, 148, 42), 0.15,
        [(430, 70), (250, 168), (246, 20), (120, 16), (60, 20), (30, 84), (0, 92)],
    ),
    "bottle-sage": Turned(
        (126, 152, 112), 0.7,
        [(440, 34), (400, 34), (396, 28), (330, 30), (280, 70), (240, 84), (30, 86), (0, 76)],
        (70, 88, 60),
    ),
    "tumbler-rose": Turned((206, 112, 126), 0.1, [(210, 86), (30, 88), (0, 86)], (236, 178, 176)),
    "planter-clay": Turned(
        (190, 96, 62), 0.1, [(260, 148), (214, 146), (210, 130), (20, 92), (0, 90)], (78, 52, 38)
    ),
    "jar-graphite": Turned(
        (72, 76, 84), 0.9,
        [(330, 26), (300, 30), (292, 16), (284, 18), (276, 100), (262, 112), (256, 104), (60, 122),
         (0, 100)],
    ),
}  # fmt: skip


def radius_at(profile: list[tuple[float, float]], height: float) -> float:
    """The profile's radius at a height, smooth between its points."""
    for index, ((upper, wide), (lower, narrow)) in enumerate(pairwise(profile)):
        if lower <= height <= upper:
            span = upper - lower
            part = (height - lower) / span
            if span < 30:
                return narrow + (wide - narrow) * part
            below, above = tangent(profile, index + 1) * span, tangent(profile, index) * span
            square, cube = part * part, part**3
            return (
                (2 * cube - 3 * square + 1) * narrow
                + (cube - 2 * square + part) * below
                + (3 * square - 2 * cube) * wide
                + (cube - square) * above
            )
    return 0.0


def tangent(profile: list[tuple[float, float]], index: int) -> float:
    """How fast the radius changes with the height at a point; 0 where it turns."""
    if not 0 < index < len(profile) - 1:
        return 0.0
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(profile[index - 1 : index + 2])]
    first, second = slopes
    if first * second <= 0:
        return 0.0
    return 2 * first * second / (first + second)


def shade(product: Turned, height: float, across: float) -> Colour:
    """The light that a point of the turned body sends to the camera."""
    slope = (radius_at(product.profile, height + 2) - radius_at(product.profile, height - 2)) / 4
    depth = sqrt(max(0.0, 1 - across * across))
    length = sqrt(1 + slope * slope)
    normal = (across / length, -slope / length, depth / length)
    lit = max(0.0, sum(n * d for n, d in zip(normal, LIGHT, strict=True)))
    edge = 0.10 * (1 - depth) ** 2
    glint = product.gloss * exp(-((across + 0.46) ** 2) / 0.006) * (0.4 + 0.6 * lit)
    bounce = 0.16 * max(0.0, across) ** 3
    light = 0.26 + 0.86 * lit + bounce - edge
    red, green, blue = (min(255.0, c * light + 190 * glint) for c in product.colour)
    return red, green, blue


def draw_background() -> Image.Image:
    """A wall and a table, softly lit, with a smooth bend between."""
    image = Image.new("RGB", (WIDTH, HEIGHT))
    pixels = image.load()
    if pixels is None:
        raise RuntimeError("an image without pixels")
    for y in range(HEIGHT):
        bend = 1 / (1 + exp(-(y - FLOOR + 110) / 24))
        for x in range(WIDTH):
            fall = ((x - 360) ** 2 + (y - 250) ** 2) / 900_000
            wall = 236 - 58 * fall
            table = 214 - 40 * fall
            grey = wall + (table - wall) * bend
            pixels[x, y] = (int(grey), int(grey * 0.985), int(grey * 0.955))
    return image


def draw_shadow(product: Turned) -> Image.Image:
    """How dark the table is around the product."""
    foot = max(radius for height, radius in product.profile if height < 140)
    mask = Image.new("L", (WIDTH, HEIGHT))
    pixels = mask.load()
    if pixels is None:
        raise RuntimeError("an image without pixels")
    for y in range(FLOOR - 60, HEIGHT):
        for x in range(WIDTH):
            long = ((x - 520) / (foot * 1.9)) ** 2 + ((y - FLOOR - 6) / (foot * 0.42)) ** 2
            near = ((x - 482) / (foot * 1.06)) ** 2 + ((y - FLOOR - 2) / (foot * 0.25)) ** 2
            dark = 96 * max(0.0, 1 - long) + 130 * max(0.0, 1 - near)
            pixels[x, y] = int(min(190, dark))
    return mask.filter(ImageFilter.GaussianBlur(14))


def draw_body(product: Turned) -> Image.Image:
    """The product itself on nothing, at twice the size, for clean edges."""
    image = Image.new("RGBA", (WIDTH * 2, HEIGHT * 2))
    pixels = image.load()
    if pixels is None:
        raise RuntimeError("an image without pixels")
    top = product.profile[0][0]
    for column in range(WIDTH * 2):
        x = column / 2 - WIDTH / 2
        for row in range(int(top * 2) + 1):
            height = top - row / 2
            radius = radius_at(product.profile, height)
            if abs(x) >= radius:
                continue
            # The camera looks down a little: each ring is a flat ellipse.
            drop = 0.16 * sqrt(radius * radius - x * x)
            y = int((FLOOR - height + drop) * 2)
            red, green, blue = shade(product, height, x / radius)
            for line in range(y, min(y + 3, HEIGHT * 2)):
                pixels[column, line] = (int(red), int(green), int(blue), 255)
    if product.rim:
        draw_opening(image, product, product.rim)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def draw_opening(image: Image.Image, product: Turned, rim: Colour) -> None:
    """The rim and the inside that one sees from above."""
    pixels = image.load()
    if pixels is None:
        raise RuntimeError("an image without pixels")
    top, radius = product.profile[0]
    for column in range(WIDTH * 2):
        across = (column / 2 - WIDTH / 2) / radius
        if abs(across) >= 1:
            continue
        half = 0.16 * radius * sqrt(1 - across * across)
        for line in range(int((FLOOR - top - half) * 2), int((FLOOR - top + half) * 2) + 1):
            depth = (line / 2 - (FLOOR - top)) / (0.16 * radius)
            inside = across * across + depth * depth < (1 - 7 / radius) ** 2
            light = (0.72 + 0.34 * across + 0.12 * depth) if inside else 1.18 - 0.16 * across
            tone = rim if inside else product.colour
            red, green, blue = (int(max(0, min(255, c * light))) for c in tone)
            pixels[column, line] = (red, green, blue, 255)


def draw_photo(product: Turned) -> Image.Image:
    """The whole photograph."""
    image = draw_background()
    image.paste((70, 62, 54), mask=draw_shadow(product))
    body = draw_body(product)
    image.paste(body, mask=body.getchannel("A"))
    return image.filter(ImageFilter.GaussianBlur(0.6)).crop(FRAME)


def main() -> None:
    """Write all of them."""
    PHOTOS.mkdir(exist_ok=True)
    for name, product in PRODUCTS.items():
        draw_photo(product).save(PHOTOS / f"{name}.jpg", "JPEG", quality=82, optimize=True)


if __name__ == "__main__":
    main()
