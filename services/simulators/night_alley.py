"""What a simulated camera sees: an alley at night, a lamp, a bell post, somebody walking by, the sensor's grain.

Drawn with numpy alone, in parts of the picture's size: x to the right, y downwards. No I/O.
"""

import functools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rgb = tuple[float, float, float]

WALK_FRAMES: Final = 100
"""Somebody crosses in 4 s at 25 pictures a second, so that a clip of that length repeats without a jump."""
STEPS: Final = 7
GRAINS: Final = 8
GRAIN_SIGMA: Final = 9.0
FEET_Y: Final = 0.95
TALL: Final = 0.46
BITS: Final = 16

_HORIZON: Final = 0.42
_LEFT: Final = 0.36
_RIGHT: Final = 0.60
_COAT: Final[Rgb] = (214, 86, 48)
_TROUSERS: Final[Rgb] = (36, 44, 74)
_SKIN: Final[Rgb] = (206, 164, 136)


def picture(number: int, width: int, height: int) -> Bytes:
    """Return picture `number` as planar YUV 4:2:0, its number burned in as black and white blocks."""
    luma, blue, red = (plane.copy() for plane in _scene(width, height))
    _draw_walker((luma, blue, red), number)
    luma += _grain(width, height)[number % GRAINS]
    seen = np.clip(luma, 16, 235).astype(np.uint8)
    side = max(8, width // 64)
    for bit in range(BITS):
        seen[:side, bit * side : (bit + 1) * side] = 235 if number >> bit & 1 else 16
    chroma = [np.clip(plane[::2, ::2], 16, 240).astype(np.uint8) for plane in (blue, red)]
    return np.concatenate([seen.ravel(), *(plane.ravel() for plane in chroma)]).reshape(height * 3 // 2, width)


@functools.lru_cache(maxsize=4)
def _grain(width: int, height: int) -> tuple[Plane, ...]:
    random = np.random.default_rng(1)
    return tuple(random.normal(0, GRAIN_SIGMA, (height, width)).astype(np.float32) for _ in range(GRAINS))


@functools.lru_cache(maxsize=4)
def _scene(width: int, height: int) -> tuple[Plane, Plane, Plane]:
    """Return what stands still, as Y, U and V."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x + 0.5) / width, (y + 0.5) / height
    image = np.empty((height, width, 3), np.float32)
    image[:] = np.array((16, 20, 34), np.float32) + (y * 40)[..., None]
    for draw in (_far_end, _left_house, _right_wall, _ground, _bell_post, _lamp):
        draw(image, x, y)
    return _yuv(image)


def _yuv(image: Plane) -> tuple[Plane, Plane, Plane]:
    """BT.601, studio range."""
    r, g, b = image[..., 0], image[..., 1], image[..., 2]
    return (
        16 + 0.257 * r + 0.504 * g + 0.098 * b,
        128 - 0.148 * r - 0.291 * g + 0.439 * b,
        128 + 0.439 * r - 0.368 * g - 0.071 * b,
    )


def _fill(image: Plane, mask: NDArray[np.bool_], colour: Rgb) -> None:
    image[mask] = np.array(colour, np.float32)


def _far_end(image: Plane, x: Plane, y: Plane) -> None:
    _fill(image, (x > 0.30) & (x < 0.47) & (y > 0.16) & (y < _HORIZON), (38, 38, 46))
    _fill(image, (x > 0.46) & (x < 0.70) & (y > 0.22) & (y < _HORIZON), (32, 34, 42))
    for left, top in ((0.39, 0.21), (0.43, 0.28), (0.50, 0.27), (0.56, 0.33)):
        _fill(image, (np.abs(x - left) < 0.009) & (np.abs(y - top) < 0.018), (232, 196, 120))


def _left_house(image: Plane, x: Plane, y: Plane) -> None:
    """A house front in perspective: `up` runs from its roof (0) to its foot (1)."""
    roof = -0.10 + 0.34 * x / _LEFT
    foot = 0.88 - 0.46 * x / _LEFT
    up = (y - roof) / (foot - roof)
    front = (x < _LEFT) & (up > 0) & (up < 1)
    image[front] = (np.array((74, 60, 52), np.float32) * (1.15 - 0.9 * x[front, None])).astype(np.float32)
    _fill(image, front & (np.abs(up - 0.52) < 0.012), (44, 38, 34))
    for left, right, lit in ((0.03, 0.10, True), (0.15, 0.20, False), (0.24, 0.275, True), (0.305, 0.33, False)):
        colour = (246, 206, 128) if lit else (30, 34, 44)
        pane = front & (x > left) & (x < right) & (up > 0.24) & (up < 0.44)
        _fill(image, pane, colour)
        _fill(image, pane & (np.abs(x - (left + right) / 2) < 0.003), (44, 38, 34))
    _fill(image, front & (x > 0.15) & (x < 0.215) & (up > 0.64), (58, 74, 66))
    _fill(image, front & (x > 0.02) & (x < 0.11) & (up > 0.60) & (up < 0.84), (26, 30, 38))


def _right_wall(image: Plane, x: Plane, y: Plane) -> None:
    """A brick wall in perspective, dark trees behind it."""
    trees = 0.22 + 0.02 * np.sin(x * 60) + 0.015 * np.sin(x * 143)
    _fill(image, (x > 0.66) & (y > trees) & (y < 0.6), (18, 30, 24))
    reach = (x - _RIGHT) / (1 - _RIGHT)
    top, foot = 0.355 - 0.06 * reach, _HORIZON + 0.43 * reach
    up = (y - top) / (foot - top)
    wall = (x > _RIGHT) & (up > 0) & (up < 1)
    image[wall] = (np.array((104, 62, 50), np.float32) * (0.65 + 0.5 * reach[wall, None])).astype(np.float32)
    course = np.floor(up * 9)
    joint = (up * 9 % 1 < 0.12) | ((np.sqrt(np.abs(reach)) * 14 + course % 2 * 0.5) % 1 < 0.06)
    image[wall & joint] *= 0.7
    _fill(image, wall & (up < 0.06), (128, 122, 114))


def _ground(image: Plane, x: Plane, y: Plane) -> None:
    """Paving that runs away from the camera, lit by the lamp."""
    depth = np.maximum((y - _HORIZON) / (1 - _HORIZON), 1e-3)
    left, right = _LEFT - 0.46 * depth, _RIGHT + 0.53 * depth
    paved = (y > _HORIZON) & (x > left) & (x < right)
    across = (x - left) / (right - left)
    joint = ((1 / (depth + 0.06) * 1.6) % 1 < 0.10) | (across * 10 % 1 < 0.035)
    stone = (np.array((82, 82, 86), np.float32) * (0.75 + 0.3 * depth[paved, None])).astype(np.float32)
    image[paved] = stone
    image[paved & joint] *= 0.8
    _fill(image, paved & (np.abs(across - 0.08) < 0.012 + 0.01 * depth), (168, 150, 70))
    pool = np.exp(-(((x - 0.56) / 0.24) ** 2) - ((y - 0.72) / 0.17) ** 2)
    image += (pool * paved)[..., None] * np.array((92, 82, 52), np.float32)


def _bell_post(image: Plane, x: Plane, y: Plane) -> None:
    """A yellow post with a red lamp on top: the emergency bell."""
    _fill(image, (np.abs(x - 0.305) < 0.012) & (y > 0.44) & (y < 0.80), (216, 178, 40))
    _fill(image, (np.abs(x - 0.305) < 0.021) & (y > 0.52) & (y < 0.62), (240, 204, 60))
    _fill(image, _round(x, y, 0.305, 0.57, 0.010), (206, 34, 40))
    image += np.exp(-((x - 0.305) ** 2 * 3.2 + (y - 0.425) ** 2) / 0.0022)[..., None] * np.array(
        (150, 24, 24), np.float32
    )
    _fill(image, _round(x, y, 0.305, 0.425, 0.012), (255, 92, 80))


def _lamp(image: Plane, x: Plane, y: Plane) -> None:
    _fill(image, (np.abs(x - 0.705) < 0.006) & (y > 0.10) & (y < 0.66), (22, 24, 28))
    _fill(image, (np.abs(y - 0.105) < 0.009) & (x > 0.60) & (x < 0.711), (22, 24, 28))
    far = (x - 0.61) ** 2 * 3.2 + (y - 0.125) ** 2
    image += (np.exp(-far / 0.02) * 120 + np.exp(-far / 0.12) * 34)[..., None] * np.array((1, 0.9, 0.64), np.float32)
    _fill(image, (np.abs(x - 0.61) < 0.026) & (np.abs(y - 0.125) < 0.013), (255, 246, 214))


def _round(x: Plane, y: Plane, at_x: float, at_y: float, radius: float) -> NDArray[np.bool_]:
    """A circle on a picture of 16:9."""
    found: NDArray[np.bool_] = ((x - at_x) * 16 / 9) ** 2 + (y - at_y) ** 2 < (radius * 16 / 9) ** 2
    return found


def _draw_walker(planes: tuple[Plane, Plane, Plane], number: int) -> None:
    """Draw somebody in stride: legs and arms swing against each other."""
    height, width = planes[0].shape
    phase = number % WALK_FRAMES / WALK_FRAMES
    middle = -0.1 * width + phase * 1.2 * width
    tall, feet = TALL * height, FEET_Y * height
    left, right = max(0, round(middle - tall / 2)), min(width, round(middle + tall / 2))
    if right <= left:
        return
    top, bottom = max(0, round(feet - 1.1 * tall)), min(height, round(feet + 0.05 * tall))
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    swing = math.sin(phase * STEPS * math.tau)
    x, y = (x - middle) / tall, (feet - y) / tall + 0.012 * abs(swing)
    shadow = (x / 0.30) ** 2 + ((y - 0.0) / 0.035) ** 2 < 1
    planes[0][top:bottom, left:right][shadow] *= 0.6
    parts = (
        (_limb(x, y, (0.0, 0.50), (-0.15 * swing, 0.03), 0.050), _TROUSERS),
        (_limb(x, y, (0.0, 0.50), (0.15 * swing, 0.03), 0.055), _TROUSERS),
        (_limb(x, y, (0.02, 0.78), (0.14 * swing, 0.52), 0.034), (170, 64, 38)),
        (_limb(x, y, (0.0, 0.56), (0.015, 0.76), 0.085), _COAT),
        (_limb(x, y, (0.0, 0.78), (-0.14 * swing, 0.52), 0.036), (232, 104, 62)),
        (_limb(x, y, (0.02, 0.93), (0.02, 0.95), 0.062), _SKIN),
        (_limb(x, y, (-0.005, 0.965), (0.02, 0.98), 0.052), (34, 26, 24)),
    )
    for mask, colour in parts:
        for plane, value in zip(planes, _yuv(np.array([[colour]], np.float32)), strict=True):
            plane[top:bottom, left:right][mask] = value[0, 0]


def _limb(x: Plane, y: Plane, begin: tuple[float, float], end: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    """Everything nearer than `radius` to a line."""
    along_x, along_y = end[0] - begin[0], end[1] - begin[1]
    length2 = along_x**2 + along_y**2
    part = np.clip(((x - begin[0]) * along_x + (y - begin[1]) * along_y) / length2, 0, 1)
    found: NDArray[np.bool_] = np.hypot(x - begin[0] - part * along_x, y - begin[1] - part * along_y) < radius
    return found
