"""The demo clip's character: seen whole and walking, and close up, talking and waving; flat colours, cel shading.

Both views repeat after a number of drawings, so each drawing is made once for a clip of any length. Coordinates are the
points of `demo_canvas`; nothing here knows about time, frames or pixels.
"""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Points, ellipse, smooth

#: Drawings after which each view repeats.
WALK_POSES = 24
PORTRAIT_POSES = 20
#: Left, top, right and bottom of each view in points; (0, 0) is the ground below the walker, the middle of the
#: portrait's face.
WALK_BOX = (-215, -492, 150, 24)
PORTRAIT_BOX = (-440, -300, 400, 440)

_LINE, _SKIN, _SKIN_DARK = "#4a2b3c", "#ffe4d1", "#f3b8a2"
_HAIR, _HAIR_DARK, _HAIR_LIGHT = "#d2603f", "#9d3f3c", "#f6a672"
_WHITE, _WHITE_DARK, _NAVY, _NAVY_DARK, _RED, _RED_DARK = (
    "#fdfbfa",
    "#cfd5ea",
    "#3b5aa0",
    "#293f78",
    "#e8484a",
    "#b22f43",
)
_SHOE = "#6b4238"

_STEP_CYCLE = 12
_EYES_WALKING = {15: 0.45, 16: 0.0, 17: 0.5}
_EYES_TALKING = {12: 0.4, 13: 0.0, 14: 0.5}
_MOUTHS_TALKING = (0, 1, 2, 1, 0, 2, 2, 1, 0, 1, 2, 1, 0, 0, 0, 0, 1, 2, 1, 0)


def draw_walker(canvas: Canvas, pose: int) -> None:
    """One drawing of the walk to the right; two steps are 12 drawings."""
    phase = 2 * np.pi * pose / _STEP_CYCLE
    bob = 7 * np.cos(2 * phase)
    body = canvas.moved(0, -bob)
    head = body.moved(10, -334, degrees=2.5 * np.sin(phase))
    canvas.fill(ellipse(0, 4, 74, 11), "#a98a5c")
    _ponytail(head, 26 * np.sin(2 * phase - 1.0), 12 * np.cos(2 * phase - 0.6))
    _arm(body, 14, 34 * np.sin(phase), dark=True)
    _leg(body, 12, phase, dark=True)
    _leg(body, -8, phase + np.pi, dark=False)
    _dress(body, 7 * np.sin(phase))
    _scarf(body, 1.0, 6 * np.sin(2 * phase))
    _arm(body, -14, -34 * np.sin(phase), dark=False)
    _head(
        head, _EYES_WALKING.get(pose % WALK_POSES, 1.0), 1 if pose % WALK_POSES < 8 else 0, 5 * np.sin(2 * phase - 0.5)
    )


def draw_portrait(canvas: Canvas, pose: int) -> None:
    """One drawing of the close-up, turned to the left: hair in the wind, a blink, speech and a waving hand."""
    phase = 2 * np.pi * pose / PORTRAIT_POSES
    view = canvas.moved(scale=2.1, mirror=True, line=0.75)
    head = view.moved(0, 0, degrees=3 * np.sin(phase))
    _ponytail(head, 12 * np.sin(2 * phase), 9 * np.cos(2 * phase))
    _shoulders(view)
    _waving_hand(view.moved(118, 196, degrees=16 * np.sin(4 * phase)))
    _head(
        head,
        _EYES_TALKING.get(pose % PORTRAIT_POSES, 1.0),
        _MOUTHS_TALKING[pose % PORTRAIT_POSES],
        5 * np.sin(2 * phase),
    )


# --- the head, of radius 85 around (0, 0), turned to the right ------------------------------------------------------


def _head(canvas: Canvas, eyes: float, mouth: int, sway: float) -> None:
    """`eyes` is how far they are open (0..1), `mouth` 0 smiling, 1 half open, 2 open; `sway` moves the loose hair."""
    face = smooth(
        [(-68, -24), (-64, 24), (-40, 62), (14, 87), (48, 64), (67, 26), (70, -20), (58, -66), (0, -86), (-56, -66)]
    )
    canvas.fill(face, _SKIN, _LINE)
    canvas.shade(face, smooth([(-80, -90), (80, -90), (80, -22), (40, -14), (0, -20), (-44, -6), (-54, 44), (-30, 84),
                               (-80, 60)]), _SKIN_DARK, 0.8)  # fmt: skip
    canvas.fill(smooth([(-62, 4), (-78, -4), (-80, 20), (-62, 32)]), _SKIN, _LINE)
    canvas.stroke([(-76, 8), (-71, 20)], _SKIN_DARK, 3)
    for x in (-22, 50):
        canvas.glow(x, 48, 20, "#ff8f86", 0.55)
    _eye(canvas.moved(-16, 14), 20, eyes)
    _eye(canvas.moved(43, 14), 15.5, eyes)
    canvas.stroke(smooth([(24, 42), (28, 46), (23, 48)], closed=False), _SKIN_DARK, 3)
    _mouth(canvas.moved(19, 62), mouth)
    _fringe(canvas, sway)


def _eye(canvas: Canvas, half_width: float, opened: float) -> None:
    w, h = half_width, 27 * opened
    if opened < 0.2:
        canvas.stroke(smooth([(-w, 4), (-w * 0.4, 12), (w * 0.4, 12), (w, 4)], closed=False), _LINE, 4.5)
        canvas.stroke([(-w, 4), (-w - 5, 8)], _LINE, 3)
    else:
        white = smooth([(-w, -h * 0.1), (-w * 0.7, -h * 0.8), (0, -h), (w * 0.75, -h * 0.8), (w, 0),
                        (w * 0.7, h * 0.75), (0, h * 0.9), (-w * 0.75, h * 0.7)])  # fmt: skip
        canvas.fill(white, "#fffdfd")
        iris = ellipse(w * 0.12, 0, w * 0.74, h * 0.9)
        canvas.gradient(iris, "#155a74", "#57d6c4")
        canvas.fill(ellipse(w * 0.12, -h * 0.05, w * 0.36, h * 0.46), "#123049")
        canvas.shade(
            white, [(-w * 2, -h * 2), (w * 2, -h * 2), (w * 2, -h * 0.55), (-w * 2, -h * 0.45)], "#6b5a86", 0.45
        )
        canvas.fill(ellipse(-w * 0.14, -h * 0.4, w * 0.27, h * 0.24), "#ffffff")
        canvas.fill(ellipse(w * 0.42, h * 0.4, w * 0.16, h * 0.14), "#e9fffb")
        lash = smooth([(-w * 1.12, h * 0.0), (-w * 0.78, -h * 0.82), (0, -h * 1.06), (w * 0.8, -h * 0.84),
                       (w * 1.06, -h * 0.1)], closed=False)  # fmt: skip
        canvas.stroke(lash, _LINE, 5)
        canvas.stroke([(-w * 1.08, -h * 0.12), (-w * 1.4, -h * 0.3)], _LINE, 3.5)
        canvas.stroke(smooth([(-w * 0.45, h * 0.9), (0, h * 0.98), (w * 0.5, h * 0.88)], closed=False), _LINE, 2.5)
    brow = smooth([(-w, -38), (-w * 0.2, -44), (w * 0.9, -40)], closed=False)
    canvas.stroke(np.add(brow, (0, 4 * (1 - opened))), _HAIR_DARK, 3.5)


def _mouth(canvas: Canvas, shape: int) -> None:
    if shape == 0:
        canvas.stroke(smooth([(-11, -1), (-3, 4), (5, 4), (12, -1)], closed=False), _LINE, 3)
        return
    deep = 9 if shape == 1 else 17
    lips = smooth([(-12, -2), (0, -4), (12, -2), (8, deep * 0.7), (0, deep), (-8, deep * 0.7)])
    canvas.fill(lips, "#a83a4a")
    canvas.shade(lips, ellipse(0, deep + 1, 9, deep * 0.5), "#f58a8f")
    canvas.shade(lips, [(-20, -10), (20, -10), (20, 0.5), (-20, 0.5)], "#ffffff")
    canvas.stroke(lips, _LINE, 2.5, closed=True)


def _fringe(canvas: Canvas, sway: float) -> None:
    left = [(-58, -30), (-82, -20), (-92 + sway, 40), (-86 + sway * 1.6, 96), (-74 + sway, 52), (-62, 14)]
    right = [(62, -40), (84, -24), (88 + sway * 0.7, 24), (78 + sway, 62), (72 + sway * 0.6, 24), (62, 2)]
    for side in (left, right):
        lock = smooth(side)
        canvas.fill(lock, _HAIR, _LINE)
        canvas.shade(lock, np.add(lock, (9, 14)), _HAIR_DARK, 0.55)
    outer = smooth(
        [(-80, 14), (-94, -34), (-78, -86), (-30, -114), (30, -112), (74, -86), (93, -36), (84, 6)], closed=False
    )
    inner = [(76, -8), (72, -44), (60, -12), (50, -46), (36, -8), (24, -50), (0, -2), (-8, -46), (-34, 6), (-42, -40),
             (-58, 14), (-66, -16)]  # fmt: skip
    wisps = np.asarray(inner, float) + [(sway * 0.35 * (i % 2 == 0), 0) for i in range(len(inner))]
    cap = np.concatenate([outer, smooth(wisps, closed=False, steps=3)])
    canvas.fill(cap, _HAIR, _LINE)
    for x in (-22, 12, 42):
        canvas.stroke(smooth([(x * 0.5, -104), (x * 0.9, -80), (x, -52)], closed=False), _HAIR_DARK, 2.5)
    shine = smooth([(-72, -58), (-56, -70), (-40, -66), (-26, -78), (-8, -72), (8, -82), (26, -74), (44, -78),
                    (60, -64), (66, -56), (46, -66), (28, -62), (10, -70), (-8, -60), (-26, -66), (-42, -54),
                    (-56, -58)])  # fmt: skip
    canvas.shade(cap, shine, _HAIR_LIGHT, 0.9)
    curl = smooth([(-2, -108), (4, -128), (22, -138), (40 + sway * 0.3, -132 + sway * 0.5), (22, -128), (14, -108)])
    canvas.fill(curl, _HAIR, _LINE, 2.5)
    canvas.stroke([(-1, -106), (12, -106)], _HAIR, 6)


def _ponytail(canvas: Canvas, sway: float, lift: float) -> None:
    tail = smooth([(-52, -82), (-104, -92), (-148, -48 + lift * 0.3), (-160 + sway * 0.5, 16 + lift * 0.6),
                   (-150 + sway, 84 + lift), (-160 + sway * 1.3, 128 + lift), (-112 + sway, 88 + lift),
                   (-92 + sway * 0.5, 24), (-74, -22), (-50, -44)])  # fmt: skip
    canvas.fill(tail, _HAIR, _LINE)
    canvas.shade(tail, np.add(tail, (26, 20)), _HAIR_DARK, 0.75)
    canvas.shade(tail, smooth([(-140, -30), (-128, -44), (-112, -34), (-120, -10), (-134, -4)]), _HAIR_LIGHT, 0.85)
    canvas.stroke(
        smooth([(-70, -66), (-112, -34), (-128 + sway * 0.5, 40), (-140 + sway, 100 + lift)], closed=False),
        _HAIR_DARK,
        2.5,
    )
    for bow in ([(-64, -66), (-96, -112), (-112, -84)], [(-64, -62), (-54, -114), (-34, -100)]):
        canvas.fill(smooth(bow, steps=5), _RED, _LINE)
    canvas.fill(ellipse(-64, -68, 11, 12), _RED_DARK, _LINE)


# --- the walker's body, standing on (0, 0) --------------------------------------------------------------------------


def _bent(start: tuple[float, float], end: tuple[float, float], length: float, forward: bool) -> Points:
    """Joint line start, knee or elbow, end of two bones of `length`; bends to the right where `forward`."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    across = np.array([b[1] - a[1], a[0] - b[0]])
    distance = max(1e-6, float(np.hypot(*across)))
    bulge = np.sqrt(max(0.0, length**2 - distance**2 / 4)) * (1 if forward else -1)
    return smooth([a, (a + b) / 2 + across / distance * bulge, b], closed=False, steps=6)


def _leg(canvas: Canvas, x: float, phase: float, dark: bool) -> None:
    lift = max(0.0, np.cos(phase))
    foot = (x + 45 * np.sin(phase), -13 - 26 * lift)
    line = _bent((x, -138), foot, 66, forward=True)
    canvas.limb(line, _SKIN_DARK if dark else _SKIN, 24, _LINE)
    sock = line[len(line) * 5 // 9 :]
    canvas.limb(sock, _WHITE_DARK if dark else _WHITE, 24, _LINE)
    canvas.stroke(np.add(sock[0], [(-9, 1), (9, 1)]), _NAVY, 5)
    shoe = canvas.moved(foot[0], foot[1], degrees=28 * lift * (1 if np.sin(phase) < 0 else -0.5))
    sole = smooth([(-17, -12), (10, -13), (30, -2), (32, 11), (-16, 11), (-20, 2)])
    shoe.fill(sole, "#4c2f2c" if dark else _SHOE, _LINE)
    shoe.stroke([(-15, 10), (30, 10)], _LINE, 4)


def _dress(canvas: Canvas, swing: float) -> None:
    blouse = smooth([(-36, -246), (0, -254), (36, -246), (40, -206), (32, -158), (-30, -158), (-40, -206)])
    canvas.fill(blouse, _WHITE, _LINE)
    canvas.shade(blouse, smooth([(-60, -260), (-14, -250), (-20, -200), (-8, -150), (-60, -150)]), _WHITE_DARK)
    hem = [(66 + swing, -98), (48 + swing, -90), (30 + swing, -98), (10 + swing, -89), (-12 + swing, -97),
           (-34 + swing, -88), (-62 + swing, -97)]  # fmt: skip
    skirt = np.asarray([(-32, -168), (34, -168), *hem])
    canvas.fill(skirt, _NAVY, _LINE)
    canvas.shade(skirt, [(-90, -80), (-40, -172), (-14, -172), (-30, -80)], _NAVY_DARK)
    for top, bottom in ((-16, -34), (2, -10), (18, 32)):
        canvas.stroke([(top, -160), (bottom + swing, -94)], _NAVY_DARK, 3)
    canvas.stroke([(-31, -164), (33, -164)], _NAVY_DARK, 7)


def _scarf(canvas: Canvas, scale: float, flutter: float) -> None:
    view = canvas.moved(2, -246, scale)
    collar = smooth([(-40, -4), (0, -14), (42, -4), (34, 20), (8, 40), (-8, 38), (-34, 20)], steps=4)
    view.fill(collar, _NAVY, _LINE)
    view.stroke(smooth([(-32, 8), (2, 32), (34, 8)], closed=False), _WHITE, 3)
    for tip in (-16, 14):
        view.fill(smooth([(2, 26), (tip + flutter - 7, 62), (tip + flutter + 9, 60)], steps=4), _RED, _LINE, 2.5)
    view.fill(ellipse(2, 28, 10, 9), _RED, _LINE, 2.5)


def _arm(canvas: Canvas, x: float, degrees: float, dark: bool) -> None:
    angle = np.radians(degrees)
    shoulder = (x * 1.6, -232.0)
    hand = (shoulder[0] + 82 * np.sin(angle), shoulder[1] + 84 * np.cos(angle))
    line = _bent(shoulder, hand, 46, forward=False)
    canvas.limb(line, _SKIN_DARK if dark else _SKIN, 17, _LINE)
    canvas.fill(ellipse(hand[0], hand[1] + 3, 12, 13), _SKIN_DARK if dark else _SKIN, _LINE)
    canvas.limb(line[: len(line) * 4 // 9], _WHITE_DARK if dark else _WHITE, 27, _LINE)


# --- the close-up's body, below a face around (0, 0) ----------------------------------------------------------------


def _shoulders(canvas: Canvas) -> None:
    neck = [(-26, 50), (-28, 112), (34, 112), (30, 60)]
    canvas.fill(neck, _SKIN, _LINE)
    canvas.shade(neck, [(-40, 40), (40, 40), (40, 84), (0, 100), (-40, 90)], _SKIN_DARK)
    blouse = smooth(
        [(-30, 98), (-92, 116), (-128, 156), (-140, 230), (130, 230), (122, 160), (88, 118), (34, 98), (2, 112)]
    )
    canvas.fill(blouse, _WHITE, _LINE)
    canvas.shade(blouse, smooth([(-150, 110), (-84, 116), (-92, 160), (-76, 240), (-160, 240)]), _WHITE_DARK)
    canvas.shade(blouse, [(70, 110), (96, 150), (88, 240), (98, 240), (108, 150)], _WHITE_DARK)
    _scarf(canvas.moved(1, 374), 1.1, 0)
    collar = smooth([(-30, 92), (-80, 112), (-66, 146), (-2, 178), (64, 146), (82, 112), (34, 92), (2, 132)], steps=5)
    canvas.fill(collar, _NAVY, _LINE)
    canvas.stroke(smooth([(-66, 118), (-52, 138), (0, 164), (52, 138), (68, 118)], closed=False), _WHITE, 3)
    for tip in (-24, 22):
        canvas.fill(smooth([(1, 160), (tip - 12, 224), (tip + 14, 222)], steps=4), _RED, _LINE)
    canvas.fill(smooth([(-12, 158), (0, 150), (14, 158), (14, 178), (0, 186), (-12, 178)]), _RED, _LINE)


def _waving_hand(canvas: Canvas) -> None:
    """A forearm that turns on the elbow at (0, 0) and an open hand above it."""
    canvas.limb([(0, 30), (10, -70)], _SKIN, 30, _LINE)
    canvas.limb([(-2, 44), (4, -18)], _WHITE, 46, _LINE)
    canvas.stroke([(-20, -24), (28, -19)], _NAVY, 9)
    for x, y, length in ((-10, -110, 28), (6, -116, 34), (22, -112, 30), (36, -102, 22)):
        canvas.limb([(x, y), (x + (x - 10) * 0.3, y - length)], _SKIN, 13, _LINE)
    canvas.limb([(-8, -84), (-32, -104)], _SKIN, 13, _LINE)
    palm = smooth([(-16, -110), (8, -118), (34, -108), (38, -84), (24, -64), (-2, -64), (-16, -84)])
    canvas.fill(palm, _SKIN, _LINE)
    for x, y in ((-10, -112), (6, -118), (22, -114), (35, -104)):
        canvas.stroke([(x, y - 4), (x, y + 14)], _SKIN, 12.5)
    canvas.stroke(smooth([(-6, -82), (6, -88), (20, -84)], closed=False), _SKIN_DARK, 3)
