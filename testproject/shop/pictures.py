"""What a shop does with the photographs of its goods. Plain functions: nothing here knows of tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont


@dataclass(frozen=True)
class Thumbnail:
    path: str
    width: int
    height: int
    bytes_before: int
    bytes_after: int


def make_thumbnail(source: Path, target: Path, *, width: int, watermark: str, quality: int = 80) -> Thumbnail:
    """Scale to `width` pixels, write the watermark into the lower right corner and compress as JPEG.

    Raises OSError (FileNotFoundError, UnidentifiedImageError) for a source that is no picture.
    """
    with Image.open(source) as picture:
        height = max(1, round(picture.height * width / picture.width))
        small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    marked = _watermarked(small, watermark)
    target.parent.mkdir(parents=True, exist_ok=True)
    marked.save(target, "JPEG", quality=quality, optimize=True)
    return Thumbnail(target.name, width, height, source.stat().st_size, target.stat().st_size)


def _watermarked(picture: Image.Image, text: str) -> Image.Image:
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    font = ImageFont.load_default(size=max(12, picture.width // 20))
    margin = picture.width // 40
    place = (picture.width - margin, picture.height - margin)
    draw.text(
        place, text, font=font, anchor="rs", fill=(255, 255, 255, 170), stroke_width=1, stroke_fill=(0, 0, 0, 110)
    )
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def draw_sample(path: Path, number: int, size: tuple[int, int] = (1600, 1200)) -> None:
    """A picture to work on, a different one for each number: hills before an evening sky."""
    width, height = size
    sky = Image.linear_gradient("L").resize(size)
    hue = (number * 37) % 256
    picture = Image.merge(
        "HSV", (Image.new("L", size, hue), sky.point(lambda value: 90 + value // 3), sky.point(_dusk))
    )
    picture = picture.convert("RGB")
    draw = ImageDraw.Draw(picture)
    sun = (width * (2 + number % 7) // 10, height // 3)
    draw.circle(sun, height // 12, fill=(255, 236, 170))
    for layer in range(4):
        base, swing = height * (55 + 11 * layer) // 100, height // (9 + 2 * layer)
        wave = [
            base - swing * math.sin(x / width * (3 + layer) * math.pi + number + layer) for x in range(0, width + 8, 8)
        ]
        outline = [(float(x), y) for x, y in zip(range(0, width + 8, 8), wave, strict=True)]
        shade = 120 - 28 * layer
        draw.polygon([(0, height), *outline, (width, height)], fill=(shade // 2, shade * 3 // 4, shade))
    grain = Image.effect_noise(size, 40).convert("RGB")  # as a camera adds it, and a reason to compress
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.blend(picture, grain, 0.1).save(path, compress_level=1)


def _dusk(value: int) -> int:
    return 120 + value // 2
