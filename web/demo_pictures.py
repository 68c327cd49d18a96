"""Drawn pictures for the demonstration: cars from five sides, houses at four times of day, plans.

Drawn by our own code from a seeded `Random`, so no photograph of anybody's property is shipped and the
same seed gives the same picture.  All are JPEG, 1200 x 800, some tens of kilobytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageFont, ImageOps

WIDTH, HEIGHT = 1200, 800
_SCALE = 2  # drawn twice as large and reduced: smooth edges
_QUALITY = 80

Colour = tuple[int, int, int]
Point = tuple[float, float]

PAINTS: dict[str, Colour] = {
    "white": (236, 238, 240), "silver": (178, 184, 190), "black": (44, 47, 54), "blue": (42, 88, 150),
    "red": (160, 44, 48), "green": (52, 104, 84), "grey": (104, 112, 122), "gold": (186, 158, 106),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and what it shows, in both languages."""

    caption_en: str
    caption_zh: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Light:
    """A time of day: sky from top to horizon, ground, how much light falls on a wall, share of lit windows."""

    name_en: str
    name_zh: str
    top: Colour
    horizon: Colour
    ground: Colour
    shade: float
    lit: float


LIGHTS = (
    Light("in the morning", "清晨", (142, 184, 214), (250, 226, 200), (176, 186, 168), 0.92, 0.12),
    Light("at noon", "正午", (104, 164, 222), (214, 234, 246), (158, 180, 150), 1.0, 0.0),
    Light("at dusk", "黄昏", (64, 74, 122), (238, 158, 112), (104, 108, 106), 0.74, 0.45),
    Light("at night", "夜间", (16, 22, 44), (48, 60, 96), (44, 50, 58), 0.42, 0.6),
)


# --- the sheet ----------------------------------------------------------------------------------


class _Sheet:
    """A drawing in units of the finished picture; the larger canvas beneath is nobody's business."""

    def __init__(self, top: Colour, bottom: Colour) -> None:
        column = Image.new("RGB", (1, 64))
        for y in range(64):
            column.putpixel((0, y), mix(top, bottom, y / 63))
        self.image = column.resize((WIDTH * _SCALE, HEIGHT * _SCALE), Image.Resampling.BILINEAR)
        self._draw = ImageDraw.Draw(self.image)

    def area(self, points: Sequence[Point], colour: Colour, *, edge: Colour | None = None, width: float = 0) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.polygon(scaled, fill=colour)
        if edge is not None:
            self._draw.line([*scaled, scaled[0]], fill=edge, width=round(width * _SCALE), joint="curve")

    def box(self, x: float, y: float, w: float, h: float, colour: Colour, *, radius: float = 0) -> None:
        corners = (x * _SCALE, y * _SCALE, (x + w) * _SCALE, (y + h) * _SCALE)
        self._draw.rounded_rectangle(corners, radius=radius * _SCALE, fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour, *, flat: float = 1.0) -> None:
        corners = ((x - radius), (y - radius * flat), (x + radius), (y + radius * flat))
        self._draw.ellipse([c * _SCALE for c in corners], fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * _SCALE), joint="curve")

    def arc(self, x: float, y: float, radius: float, start: float, end: float, colour: Colour, width: float) -> None:
        corners = ((x - radius), (y - radius), (x + radius), (y + radius))
        self._draw.arc([c * _SCALE for c in corners], start, end, fill=colour, width=round(width * _SCALE))

    def text(self, x: float, y: float, words: str, colour: Colour, size: float) -> None:
        """Write around (x, y); Latin letters and digits only: the font that Pillow brings has no others."""
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), words, fill=colour, font=font, anchor="mm")

    def jpeg(self, *, mirrored: bool = False) -> bytes:
        image = self.image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        if mirrored:
            image = ImageOps.mirror(image)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=_QUALITY, optimize=True)
        return out.getvalue()


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """The colour between two, `share` of the way to the other (0 to 1)."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(one, other, strict=True))
    return r, g, b


def _dark(colour: Colour, share: float) -> Colour:
    return mix(colour, (0, 0, 0), 1 - share)


def _smooth(points: Sequence[Point], steps: int = 10) -> list[Point]:
    """A closed curve through the points (Catmull-Rom)."""
    curve: list[Point] = []
    n = len(points)
    for i in range(n):
        p0, p1, p2, p3 = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            curve.append((_spline(p0[0], p1[0], p2[0], p3[0], t), _spline(p0[1], p1[1], p2[1], p3[1], t)))
    return curve


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)


# --- vehicles -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Profile:
    """A body seen from its left side: outline, windows, wheels, in units of the picture."""

    outline: tuple[Point, ...]
    windows: tuple[tuple[Point, ...], ...]
    doors: tuple[float, ...]
    wheels: tuple[float, float]
    roof: float


_PROFILES: dict[str, _Profile] = {
    "sedan": _Profile(
        ((150, 520), (160, 450), (250, 420), (370, 405), (480, 320), (560, 300), (700, 300), (790, 325), (890, 410),
         (1010, 425), (1045, 460), (1050, 530), (980, 560), (220, 560)),
        (((415, 405), (500, 330), (590, 320), (590, 405)), ((610, 405), (610, 320), (700, 322), (835, 405))),
        (600, 800), (315, 890), 300,
    ),
    "suv": _Profile(
        ((150, 510), (160, 430), (240, 400), (360, 385), (440, 285), (520, 262), (860, 262), (960, 285), (1010, 400),
         (1040, 440), (1045, 530), (980, 560), (220, 560)),
        (((400, 385), (465, 300), (570, 290), (570, 385)), ((590, 385), (590, 290), (740, 290), (740, 385)),
         ((760, 385), (760, 290), (900, 295), (950, 385))),
        (580, 750), (315, 890), 262,
    ),
    "hatchback": _Profile(
        ((200, 520), (210, 445), (300, 415), (400, 400), (490, 310), (580, 285), (800, 290), (900, 330), (960, 415),
         (985, 460), (985, 530), (930, 560), (260, 560)),
        (((440, 400), (515, 325), (620, 308), (620, 400)), ((640, 400), (640, 308), (790, 312), (880, 400))),
        (630, 800), (350, 850), 285,
    ),
    "van": _Profile(
        ((140, 520), (150, 430), (220, 380), (300, 270), (380, 230), (980, 228), (1050, 250), (1065, 400), (1065, 530),
         (1000, 560), (210, 560)),
        (((270, 385), (345, 280), (440, 272), (440, 385)), ((460, 385), (460, 272), (620, 272), (620, 385))),
        (450, 700), (300, 910), 228,
    ),
    "pickup": _Profile(
        ((130, 520), (140, 430), (230, 402), (360, 388), (430, 300), (510, 278), (640, 278), (690, 300), (720, 392),
         (1060, 398), (1070, 440), (1070, 530), (1000, 560), (200, 560)),
        (((390, 388), (455, 315), (545, 305), (545, 388)), ((563, 388), (563, 305), (635, 308), (675, 388))),
        (554, 720), (305, 910), 278,
    ),
}  # fmt: skip
BODIES = tuple(_PROFILES)
_GLASS = (70, 92, 110)
_TYRE = (34, 36, 40)


def vehicle(random: Random, *, body: str, colour: str, odometer_km: int) -> list[Drawing]:
    """Draw five pictures of one vehicle: both sides, front, rear, instruments.

    `body` is one of BODIES, `colour` one of PAINTS.
    """
    paint = PAINTS[colour]
    light = random.choice(LIGHTS[:3])
    return [
        Drawing("Left side", "左侧", _side(random, light, body, paint).jpeg()),
        Drawing("Right side", "右侧", _side(random, light, body, paint).jpeg(mirrored=True)),
        Drawing("Front", "正面", _end(light, body, paint, rear=False).jpeg()),
        Drawing("Rear", "尾部", _end(light, body, paint, rear=True).jpeg()),
        Drawing("Instruments with odometer", "仪表盘（里程）", _instruments(odometer_km).jpeg()),
    ]


def _yard(light: Light) -> _Sheet:
    sheet = _Sheet(light.top, light.horizon)
    wall = mix((196, 190, 180), light.horizon, 0.4)
    sheet.box(0, 330, WIDTH, 220, wall)
    for x in range(0, WIDTH, 150):
        sheet.line([(x, 330), (x, 550)], _dark(wall, 0.92), 2)
    sheet.box(0, 540, WIDTH, 260, mix((122, 124, 128), light.ground, 0.3))
    for x in range(-200, WIDTH, 420):
        sheet.area([(x, 800), (x + 26, 800), (x + 150, 560), (x + 138, 560)], (214, 214, 206))
    return sheet


def _side(random: Random, light: Light, body: str, paint: Colour) -> _Sheet:
    profile, sheet = _PROFILES[body], _yard(light)
    sheet.disc(600, 622, 480, (84, 86, 92), flat=0.06)
    outline = _smooth(profile.outline)
    sheet.area(outline, _dark(paint, light.shade), edge=_dark(paint, 0.5), width=3)
    # What lies below the shoulder is darker: the outline's own points, from rear to front, in their order.
    lower = [(x, y) for x, y in outline if y > 485]
    sheet.area(sorted(lower, key=lambda p: (p[0], p[1])), _dark(paint, light.shade * 0.82))
    shine = mix(paint, (255, 255, 255), 0.45)
    tail = profile.outline[-3][0]
    sheet.line([(200, 452), (420, 432), (860, 432), (tail - 30, 446)], shine, 4)
    for window in profile.windows:
        sheet.area(window, _GLASS)
        left, right = min(x for x, _ in window), max(x for x, _ in window)
        low = max(y for _, y in window)
        sheet.area([(left + 34, low), (left + 66, low), ((left + right) / 2 + 30, low - 70),
                    ((left + right) / 2, low - 70)], mix(_GLASS, (255, 255, 255), 0.18))  # fmt: skip
    for x in profile.doors:
        sheet.line([(x, 410), (x, 540)], _dark(paint, 0.55), 3)
        sheet.box(x - 66, 446, 44, 9, _dark(paint, 0.5), radius=4)
    sheet.box(profile.outline[1][0] + 2, 452, 42, 24, (250, 244, 214), radius=8)
    sheet.box(profile.outline[-3][0] - 24, 448, 30, 28, (186, 40, 44), radius=6)
    spokes = random.choice((5, 6, 8, 10))
    for x in profile.wheels:
        _wheel(sheet, x, 560, spokes)
    return sheet


def _wheel(sheet: _Sheet, x: float, y: float, spokes: int) -> None:
    sheet.disc(x, y - 4, 84, (30, 32, 36))
    sheet.disc(x, y, 74, _TYRE)
    sheet.disc(x, y, 48, (196, 200, 206))
    sheet.disc(x, y, 42, (120, 126, 134))
    for i in range(spokes):
        start = 360 / spokes * i
        for turn in (-4.0, 0.0, 4.0):
            sheet.arc(x, y, 24 + turn, start, start + 150 / spokes, (196, 200, 206), 10)
    sheet.disc(x, y, 12, (70, 74, 80))


def _end(light: Light, body: str, paint: Colour, *, rear: bool) -> _Sheet:
    sheet, roof = _yard(light), _PROFILES[body].roof - 30
    tall = 600 - roof
    paint = _dark(paint, light.shade)
    sheet.disc(600, 634, 330, (84, 86, 92), flat=0.08)
    for x in (338, 772):
        sheet.box(x, 520, 90, 116, _TYRE, radius=14)
    cabin = [(430, roof + 14), (600, roof), (770, roof + 14), (838, roof + tall * 0.46), (362, roof + tall * 0.46)]
    sheet.area(cabin, paint, edge=_dark(paint, 0.5), width=3)
    sheet.area([(446, roof + 28), (754, roof + 28), (806, roof + tall * 0.43), (394, roof + tall * 0.43)], _GLASS)
    sheet.area([(470, roof + tall * 0.43), (520, roof + tall * 0.43), (640, roof + 28), (590, roof + 28)],
               mix(_GLASS, (255, 255, 255), 0.16))  # fmt: skip
    top = roof + tall * 0.45
    sheet.box(326, top, 548, 596 - top, paint, radius=46)
    sheet.box(326, 530, 548, 62, _dark(paint, 0.7), radius=26)
    if rear:
        for x in (340, 760):
            sheet.box(x, top + 40, 100, 44, (176, 36, 40), radius=12)
            sheet.box(x + 34, top + 52, 32, 20, (244, 200, 190), radius=6)
        sheet.line([(452, top + 100), (748, top + 100)], _dark(paint, 0.5), 4)
    else:
        for x in (346, 752):
            sheet.box(x, top + 38, 102, 50, (244, 246, 248), radius=20)
            sheet.disc(x + 51, top + 63, 18, (206, 214, 222))
        for i in range(4):
            sheet.box(476, top + 40 + i * 15, 248, 8, _dark(paint, 0.4), radius=4)
        for x in (290, 868):
            sheet.box(x, top - 16, 44, 32, _dark(paint, 0.8), radius=10)
    sheet.box(520, 540, 160, 40, (222, 224, 226), radius=5)  # the plate stays blank: it would name the holder
    return sheet


def _instruments(odometer_km: int) -> _Sheet:
    sheet = _Sheet((30, 33, 40), (16, 18, 22))
    sheet.box(110, 170, 980, 460, (22, 24, 30), radius=200)
    for x, label, marks, share in ((360, "km/h", 12, 0.0), (840, "x1000", 8, 0.12)):
        sheet.disc(x, 390, 190, (40, 44, 52))
        sheet.disc(x, 390, 178, (18, 20, 25))
        for i in range(marks + 1):
            turn = 140 + 260 * i / marks
            sheet.arc(x, 390, 166, turn - 1, turn + 1, (224, 228, 234), 22)
        needle = 140 + 260 * share
        sheet.arc(x, 390, 150, needle - 1.2, needle + 1.2, (228, 84, 56), 118)
        sheet.disc(x, 390, 26, (52, 56, 64))
        sheet.text(x, 470, label, (164, 172, 182), 26)
    sheet.box(480, 520, 240, 66, (12, 30, 34), radius=10)
    sheet.text(600, 553, f"{odometer_km:06d} km", (126, 222, 206), 38)
    return sheet


# --- property -----------------------------------------------------------------------------------

PROPERTY_KINDS = ("flat", "house", "shop", "warehouse")


def property_(random: Random, *, kind: str, area_m2: int, floors: int) -> list[Drawing]:
    """Draw four pictures of one property: the front at two times of day, the floor plan, the site.

    `kind` is one of PROPERTY_KINDS; `floors` is the height of the building.
    """
    draw: Callable[[Random, Light], _Sheet]
    if kind == "flat":
        wall, columns = random.choice(_WALLS), random.randint(6, 9)
        draw = lambda r, light: _tower(r, light, wall, columns, min(max(floors, 6), 14))  # noqa: E731
    else:
        wall, roof = random.choice(_WALLS), random.choice(_ROOFS)
        form = {"house": _house, "shop": _shop, "warehouse": _warehouse}[kind]
        draw = lambda r, light: form(r, light, wall, roof)  # noqa: E731
    day, late = random.choice(LIGHTS[:2]), random.choice(LIGHTS[2:])
    seed = random.getrandbits(32)
    fronts = [
        Drawing(f"Front {light.name_en}", f"外观（{light.name_zh}）", draw(Random(seed), light).jpeg())
        for light in (day, late)
    ]
    plan = Drawing("Floor plan, not to scale", "平面图（示意）", _plan(random, area_m2).jpeg())
    return [*fronts, plan, Drawing("Site, not to scale", "位置（示意）", _site(random).jpeg())]


_WALLS: tuple[Colour, ...] = (
    (214, 198, 176), (196, 178, 164), (206, 210, 212), (226, 216, 196), (176, 190, 196), (204, 168, 148),
)  # fmt: skip
_ROOFS: tuple[Colour, ...] = ((132, 70, 58), (84, 90, 102), (106, 92, 80), (70, 84, 96))
_LAMP = (252, 220, 140)


def _street(random: Random, light: Light) -> _Sheet:
    sheet = _Sheet(light.top, light.horizon)
    if light.lit > 0.5:
        for _ in range(40):
            sheet.disc(
                random.uniform(0, WIDTH), random.uniform(0, 300), random.choice((1.0, 1.5, 2.0)), (222, 226, 238)
            )
        sheet.disc(1010, 120, 42, (238, 234, 214))
    else:
        sheet.disc(random.uniform(120, 300), 150, 46, mix(light.horizon, (255, 246, 210), 0.7))
    for _ in range(7):  # the town behind
        x, w, h = random.uniform(-60, WIDTH), random.uniform(80, 190), random.uniform(90, 260)
        sheet.box(x, 620 - h, w, h, mix(_dark((150, 158, 168), light.shade), light.horizon, 0.45))
    sheet.box(0, 610, WIDTH, 190, light.ground)
    sheet.box(0, 700, WIDTH, 100, _dark((128, 130, 134), max(light.shade, 0.5)))
    for x in range(20, WIDTH, 150):
        sheet.box(x, 744, 80, 8, _dark((226, 224, 212), max(light.shade, 0.6)))
    return sheet


def _tree(sheet: _Sheet, random: Random, light: Light, x: float) -> None:
    green = _dark(random.choice(((86, 128, 82), (104, 140, 84), (74, 112, 90))), light.shade)
    sheet.box(x - 6, 590, 12, 90, _dark((104, 84, 66), light.shade))
    for dx, dy, radius in ((0, -40, 54), (-34, -8, 42), (34, -6, 44)):
        sheet.disc(x + dx, 580 + dy, radius, green)
    sheet.disc(x - 14, 526, 22, mix(green, (255, 255, 255), 0.1))


def _windows(sheet: _Sheet, random: Random, light: Light, x: float, y: float, w: float, h: float) -> None:
    glass = _LAMP if random.random() < light.lit else mix((96, 120, 140), light.top, 0.35)
    sheet.box(x, y, w, h, _dark((240, 240, 236), max(light.shade, 0.5)))
    sheet.box(x + 4, y + 4, w - 8, h - 8, glass)
    sheet.line([(x + w / 2, y + 4), (x + w / 2, y + h - 4)], _dark((240, 240, 236), max(light.shade, 0.5)), 3)


def _tower(random: Random, light: Light, wall: Colour, columns: int, floors: int) -> _Sheet:
    sheet, paint = _street(random, light), _dark(wall, light.shade)
    storey = min(44.0, 520 / floors)
    wide, top = columns * 74.0, 640 - floors * storey - 30
    left = 600 - wide / 2
    sheet.box(left, top, wide, 640 - top, paint)
    sheet.area([(left + wide, top), (left + wide + 60, top + 34), (left + wide + 60, 640), (left + wide, 640)],
               _dark(paint, 0.78))  # fmt: skip
    sheet.box(left - 8, top - 14, wide + 16, 16, _dark(paint, 0.7))
    sheet.box(left + wide * 0.4, top - 54, wide * 0.2, 42, _dark(paint, 0.85))
    for floor in range(floors):
        y = top + 18 + floor * storey
        for column in range(columns):
            _windows(sheet, random, light, left + 14 + column * 74, y, 46, storey * 0.62)
            if column % 3 == 1:
                sheet.box(left + 6 + column * 74, y + storey * 0.62, 62, storey * 0.14, _dark(paint, 0.72))
    sheet.box(570, 590, 60, 50, _dark((92, 80, 70), light.shade))
    for x in (110.0, 1080.0):
        _tree(sheet, random, light, x)
    return sheet


def _house(random: Random, light: Light, wall: Colour, roof: Colour) -> _Sheet:
    sheet, paint = _street(random, light), _dark(wall, light.shade)
    for x in (120.0, 1090.0):
        _tree(sheet, random, light, x)
    sheet.box(300, 360, 600, 290, paint)
    sheet.area([(260, 366), (390, 210), (810, 210), (940, 366)], _dark(roof, light.shade))
    sheet.box(740, 190, 54, 90, _dark(roof, light.shade * 0.8))
    for x in (350, 480, 670, 800):
        _windows(sheet, random, light, x, 392, 70, 78)
    for x in (350, 800):
        _windows(sheet, random, light, x, 520, 70, 86)
    sheet.box(560, 510, 84, 140, _dark((120, 78, 58), light.shade), radius=6)
    sheet.disc(630, 586, 5, (220, 196, 130))
    sheet.box(450, 526, 78, 70, _dark(paint, 0.9))
    for x in range(0, WIDTH, 34):
        if not 540 < x < 660:
            sheet.box(x, 646, 10, 50, _dark((236, 234, 226), max(light.shade, 0.5)))
    sheet.box(0, 660, 540, 7, _dark((236, 234, 226), max(light.shade, 0.5)))
    sheet.box(664, 660, 540, 7, _dark((236, 234, 226), max(light.shade, 0.5)))
    return sheet


def _shop(random: Random, light: Light, wall: Colour, roof: Colour) -> _Sheet:
    sheet, paint = _street(random, light), _dark(wall, light.shade)
    sheet.box(180, 270, 840, 390, paint)
    sheet.box(164, 252, 872, 24, _dark(paint, 0.7))
    for x in range(220, 980, 110):
        _windows(sheet, random, light, x, 300, 72, 82)
    awning = _dark(roof, max(light.shade, 0.55))
    for i in range(4):
        x = 200 + i * 202
        glass = _LAMP if random.random() < light.lit + 0.2 else mix((110, 132, 150), light.top, 0.3)
        sheet.box(x, 470, 186, 190, _dark((60, 64, 70), light.shade))
        sheet.box(x + 8, 478, 170, 174, glass)
        sheet.line([(x + 93, 478), (x + 93, 652)], _dark((60, 64, 70), light.shade), 6)
        for k in range(6):
            colour = awning if k % 2 else _dark((238, 234, 226), max(light.shade, 0.5))
            sheet.area([(x - 6 + k * 33, 436), (x + 27 + k * 33, 436), (x + 24 + k * 33, 486), (x - 12 + k * 33, 486)],
                       colour)  # fmt: skip
    _tree(sheet, random, light, 90)
    return sheet


def _warehouse(random: Random, light: Light, wall: Colour, roof: Colour) -> _Sheet:
    sheet, paint = _street(random, light), _dark(mix(wall, (190, 198, 206), 0.6), light.shade)
    for i in range(4):
        x = 140 + i * 230
        sheet.area([(x, 360), (x, 300), (x + 230, 240), (x + 230, 360)], _dark(roof, light.shade))
    sheet.box(140, 350, 920, 310, paint)
    for x in range(140, 1060, 23):
        sheet.line([(x, 352), (x, 658)], _dark(paint, 0.93), 2)
    for i in range(3):
        x = 220 + i * 280
        sheet.box(x, 470, 190, 190, _dark((84, 92, 102), light.shade))
        for y in range(480, 650, 22):
            sheet.line([(x + 6, y), (x + 184, y)], _dark((132, 140, 150), light.shade), 4)
        sheet.disc(x + 95, 440, 13, _LAMP if light.lit > 0.3 else _dark((220, 220, 214), light.shade))
    return sheet


def _plan(random: Random, area_m2: int) -> _Sheet:
    sheet, ink = _Sheet((250, 250, 247), (244, 244, 240)), (52, 60, 72)
    x: float
    y: float
    for x in range(0, WIDTH, 40):
        sheet.line([(x, 0), (x, HEIGHT)], (236, 237, 234), 1)
    for y in range(0, HEIGHT, 40):
        sheet.line([(0, y), (WIDTH, y)], (236, 237, 234), 1)
    rooms = _split(random, (180.0, 120.0, 840.0, 560.0), 3)
    whole = 840.0 * 560.0
    for number, (x, y, w, h) in enumerate(rooms, 1):
        tint = random.choice(((252, 246, 232), (238, 246, 244), (240, 243, 250), (250, 240, 238)))
        sheet.box(x, y, w, h, tint)
        for side in ([(x, y), (x + w, y)], [(x, y), (x, y + h)]):
            sheet.line(side, ink, 7)
        sheet.text(x + w / 2, y + h / 2 - 16, str(number), ink, 34)
        sheet.text(x + w / 2, y + h / 2 + 20, f"{area_m2 * w * h / whole:.1f} m2", (110, 118, 130), 24)
        sheet.box(x + w * 0.3, y + h - 3, 62, 7, tint)  # a door's gap, and its swing
        sheet.arc(x + w * 0.3, y + h, 62, 270, 360, (140, 148, 158), 2)
    sheet.line([(180, 120), (1020, 120), (1020, 680), (180, 680), (180, 120)], ink, 14)
    sheet.text(1085, 730, f"{area_m2} m2", ink, 30)
    sheet.area([(90, 720), (110, 660), (130, 720), (110, 706)], ink)
    sheet.text(110, 640, "N", ink, 28)
    return sheet


def _split(
    random: Random, room: tuple[float, float, float, float], depth: int
) -> list[tuple[float, float, float, float]]:
    x, y, w, h = room
    if depth == 0 or min(w, h) < 200:
        return [room]
    at = random.uniform(0.38, 0.62)
    if w >= h:
        parts = (x, y, w * at, h), (x + w * at, y, w * (1 - at), h)
    else:
        parts = (x, y, w, h * at), (x, y + h * at, w, h * (1 - at))
    return [part for half in parts for part in _split(random, half, depth - 1)]


def _site(random: Random) -> _Sheet:
    sheet = _Sheet((232, 234, 226), (226, 230, 222))
    columns, rows = [0.0], [0.0]
    while columns[-1] < WIDTH:
        columns.append(columns[-1] + random.uniform(190, 300))
    while rows[-1] < HEIGHT:
        rows.append(rows[-1] + random.uniform(160, 240))
    chosen = random.randint(1, 2), random.randint(1, 2)
    for i, x in enumerate(columns[:-1]):
        for k, y in enumerate(rows[:-1]):
            w, h = columns[i + 1] - x - 34, rows[k + 1] - y - 30
            if (i + k * 2) % 7 == 3:
                sheet.box(x + 17, y + 15, w, h, (196, 216, 184), radius=10)
                continue
            sheet.box(x + 17, y + 15, w, h, (246, 245, 240), radius=6)
            for bx in range(int(x) + 34, int(x + w) - 40, 62):
                for by in range(int(y) + 32, int(y + h) - 36, 58):
                    sheet.box(bx, by, 46, 42, (212, 210, 204), radius=3)
    bend = random.uniform(300, 500)
    sheet.line(_smooth([(-60, bend), (300, bend + 60), (700, bend - 40), (1260, bend + 30), (1260, bend + 34),
                        (700, bend - 36), (300, bend + 64), (-60, bend + 4)], 12), (168, 202, 222), 26)  # fmt: skip
    pin_x, pin_y = columns[chosen[0]] + 57, rows[chosen[1]] + 53
    sheet.box(pin_x - 23, pin_y - 21, 46, 42, (196, 76, 40), radius=3)
    sheet.disc(pin_x, pin_y - 64, 26, (176, 44, 40))
    sheet.area([(pin_x - 22, pin_y - 52), (pin_x + 22, pin_y - 52), (pin_x, pin_y - 6)], (176, 44, 40))
    sheet.disc(pin_x, pin_y - 64, 10, (250, 248, 244))
    return sheet
