"""Articulated figures: a person seen from the front and a dog seen from the side.

A figure is posed once, in units of its own height or length, and then placed on the canvas. Its joints are the
keypoints that data sets name: 17 of COCO for a person, 17 of AP-10K for a dog. "Left" is the figure's left: at the
right of the picture for a person, who faces the viewer, and on the near side for a dog that looks to the
picture's left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.palette import blend, hsv, shifted
from visionllm_sdk.scenes.spec import RGB, Figure, Point

PERSON_KEYPOINTS: Final = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
DOG_KEYPOINTS: Final = (
    "left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow", "left_front_paw",
    "right_shoulder", "right_elbow", "right_front_paw", "left_hip", "left_knee", "left_back_paw", "right_hip",
    "right_knee", "right_back_paw",
)  # fmt: skip
KEYPOINTS: Final = {"person": PERSON_KEYPOINTS, "dog": DOG_KEYPOINTS}
PERSON_SKELETON: Final = (
    ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
    ("left_eye", "right_eye"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
    ("right_eye", "right_ear"), ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
)  # fmt: skip
DOG_SKELETON: Final = (
    ("left_eye", "right_eye"), ("left_eye", "nose"), ("right_eye", "nose"), ("nose", "neck"),
    ("neck", "root_of_tail"), ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_front_paw"), ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_front_paw"), ("root_of_tail", "left_hip"), ("left_hip", "left_knee"),
    ("left_knee", "left_back_paw"), ("root_of_tail", "right_hip"), ("right_hip", "right_knee"),
    ("right_knee", "right_back_paw"),
)  # fmt: skip
SKELETONS: Final = {"person": PERSON_SKELETON, "dog": DOG_SKELETON}

Plain = Callable[[RGB], bool]
"""Tells whether a colour is plain to see in front of what lies behind."""


class Part(NamedTuple):
    """One painted piece: a disc (one point), a round-ended path, or a filled polygon with rounded edge."""

    points: tuple[Point, ...]
    radius: float
    rgb: RGB
    filled: bool = False


# ---- poses ----


def pose_person(dice: Dice, plain: Plain) -> Figure:
    """A person of height 1, hips at the origin, in a random pose and random clothes."""
    lean = dice.uniform(-12, 12)
    neck = _step((0.0, 0.0), 180 + lean, 0.30)
    joints: dict[str, Point] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = _step(_step(neck, lean, 0.035), 90 + lean, sign * 0.105)
        # Limbs hang at 0 degrees and swing outwards with the angle, on both sides of the body.
        swing = dice.uniform(8, 165)
        bend = dice.uniform(-15, 85) if swing > 60 else dice.uniform(-10, 70)
        elbow = _step(shoulder, sign * swing + lean, 0.155)
        wrist = _step(elbow, sign * (swing + bend) + lean, 0.15)
        hip = _step((0.0, 0.0), 90 + lean / 2, sign * 0.07)
        stride = dice.uniform(2, 38)
        knee = _step(hip, sign * stride, 0.23)
        ankle = _step(knee, sign * (stride - dice.uniform(0, 45)), 0.22)
        for name, point in zip(
            ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
            (shoulder, elbow, wrist, hip, knee, ankle),
            strict=True,
        ):
            joints[f"{side}_{name}"] = point
    tilt = lean + dice.uniform(-12, 12)
    head = _step(neck, 180 + tilt, 0.125)
    joints |= _face(head, tilt, dice.uniform(-0.025, 0.025))
    return Figure(
        joints={name: joints[name] for name in PERSON_KEYPOINTS},
        head=head,
        head_radius=0.1,
        limb=dice.uniform(0.065, 0.085),
        colours=_clothes(dice, plain),
    )


def _face(head: Point, tilt: float, turn: float) -> dict[str, Point]:
    """Nose, eyes and ears of a head that looks at the viewer, turned a little to one side."""

    def at(across: float, down: float) -> Point:
        return _step(_step(head, tilt, down), 90 + tilt, across)

    return {
        "nose": at(turn * 1.3, 0.03),
        "left_eye": at(turn + 0.042, -0.005),
        "right_eye": at(turn - 0.042, -0.005),
        "left_ear": at(0.1, 0.01),
        "right_ear": at(-0.1, 0.01),
    }


def pose_dog(dice: Dice, plain: Plain) -> Figure:
    """A dog with a trunk of length 0.5 about the origin, looking to one side, in a random stance and coat."""
    facing = -1.0 if dice.chance(0.5) else 1.0
    near, far = ("left", "right") if facing < 0 else ("right", "left")
    neck = (facing * 0.33, -0.17)
    head = (neck[0] + facing * dice.uniform(0.06, 0.12), neck[1] - dice.uniform(0.06, 0.16))
    nod = dice.uniform(-12, 20)
    nose = _step(head, facing * (90 - nod), 0.185)
    joints: dict[str, Point] = {
        f"{near}_eye": _step(head, facing * (125 - nod), 0.05),
        f"{far}_eye": _step(head, facing * (112 - nod), 0.105),
        "nose": nose,
        "neck": neck,
        "root_of_tail": (-facing * 0.35, -0.08),
    }
    apart = dice.uniform(10, 30)
    for side, depth, sign in ((near, 0.0, 1.0), (far, 0.055, -1.0)):
        swing = sign * apart * (1 if dice.chance(0.5) else 0.6) + dice.uniform(-10, 10)
        shoulder = (facing * (0.23 + depth), 0.03 - depth / 2)
        elbow = _step(shoulder, facing * swing, 0.16)
        joints[f"{side}_shoulder"], joints[f"{side}_elbow"] = shoulder, elbow
        joints[f"{side}_front_paw"] = _step(elbow, facing * (swing - dice.uniform(-5, 30)), 0.17)
        kick = -sign * apart + dice.uniform(-10, 10)
        hip = (facing * (-0.26 + depth), 0.03 - depth / 2)
        knee = _step(hip, facing * (kick + 8), 0.16)
        joints[f"{side}_hip"], joints[f"{side}_knee"] = hip, knee
        joints[f"{side}_back_paw"] = _step(knee, facing * (kick - dice.uniform(0, 25)), 0.17)
    tail = _step(joints["root_of_tail"], -facing * dice.uniform(60, 165), dice.uniform(0.18, 0.27))
    return Figure(
        joints={name: joints[name] for name in DOG_KEYPOINTS},
        head=head,
        head_radius=0.115,
        limb=dice.uniform(0.07, 0.095),
        tail=tail,
        colours=_coat(dice, plain),
    )


def _step(start: Point, angle: float, length: float) -> Point:
    """The point `length` away: 0 degrees is down, 90 to the picture's right."""
    turn = math.radians(angle)
    return start[0] + math.sin(turn) * length, start[1] + math.cos(turn) * length


# ---- colours ----


def _pick(draw: Callable[[], RGB], good: Plain) -> RGB:
    """A drawn colour that is good, or the last of a dozen tries."""
    colour = draw()
    for _ in range(11):
        if good(colour):
            break
        colour = draw()
    return colour


def _cloth(dice: Dice) -> RGB:
    if dice.chance(0.25):
        return hsv(0, 0, dice.uniform(0.1, 0.95))
    return hsv(dice.uniform(0, 360), dice.uniform(0.45, 0.95), dice.uniform(0.4, 0.95))


def _clothes(dice: Dice, plain: Plain) -> dict[str, RGB]:
    def skin() -> RGB:
        return hsv(dice.uniform(16, 30), dice.uniform(0.25, 0.6), dice.uniform(0.35, 0.97))

    def hair() -> RGB:
        return hsv(dice.uniform(10, 45), dice.uniform(0.2, 0.75), dice.uniform(0.08, 0.75))

    return {
        "skin": _pick(skin, plain),
        "hair": _pick(hair, plain),
        "shirt": _pick(lambda: _cloth(dice), plain),
        "trousers": _pick(lambda: _cloth(dice), plain),
        "shoes": _pick(
            lambda: hsv(dice.uniform(0, 360), dice.uniform(0, 0.6), dice.uniform(0.1, 0.95)), plain
        ),
    }


def _coat(dice: Dice, plain: Plain) -> dict[str, RGB]:
    def fur() -> RGB:
        if dice.chance(0.4):
            return hsv(30, dice.uniform(0, 0.1), dice.choice((0.1, 0.2, 0.45, 0.6, 0.95)))
        return hsv(dice.uniform(18, 38), dice.uniform(0.35, 0.75), dice.uniform(0.3, 0.9))

    coat = _pick(fur, plain)
    collar = hsv(dice.uniform(0, 360), 0.85, 0.85)
    return {"coat": coat, "ears": shifted(coat, -0.22 if max(coat) > 110 else 0.22), "collar": collar}


# ---- placing and painting ----


def moved(figure: Figure, *, scale: float, turn: float, offset: Point) -> Figure:
    """The figure turned by `turn` degrees clockwise and scaled, both about the origin, then shifted."""
    cosine, sine = math.cos(math.radians(turn)) * scale, math.sin(math.radians(turn)) * scale

    def at(point: Point) -> Point:
        x, y = point
        return round(cosine * x - sine * y + offset[0], 2), round(sine * x + cosine * y + offset[1], 2)

    return Figure(
        joints={name: at(point) for name, point in figure.joints.items()},
        head=at(figure.head),
        head_radius=round(figure.head_radius * scale, 3),
        limb=round(figure.limb * scale, 3),
        tail=None if figure.tail is None else at(figure.tail),
        colours=figure.colours,
    )


def extent(parts: list[Part]) -> tuple[float, float, float, float]:
    """The box (x1, y1, x2, y2) around all parts."""
    return (
        min(x - part.radius for part in parts for x, _ in part.points),
        min(y - part.radius for part in parts for _, y in part.points),
        max(x + part.radius for part in parts for x, _ in part.points),
        max(y + part.radius for part in parts for _, y in part.points),
    )


def parts(kind: str, figure: Figure) -> list[Part]:
    """The painted pieces of a figure, the last on top."""
    return _PAINTERS[kind](figure)


def _person_parts(figure: Figure) -> list[Part]:
    at, wear, limb = figure.joints, figure.colours, figure.limb / 2
    head, radius = figure.head, figure.head_radius
    sleeve = shifted(wear["shirt"], -0.1 if max(wear["shirt"]) > 80 else 0.12)
    painted: list[Part] = []
    for side in ("right", "left"):
        hip, knee, ankle = (at[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        painted.append(Part((hip, knee, ankle), limb, wear["trousers"]))
        painted.append(Part((ankle,), limb * 1.3, wear["shoes"]))
    trunk = (at["left_shoulder"], at["right_shoulder"], at["right_hip"], at["left_hip"])
    middle = _middle(at["left_shoulder"], at["right_shoulder"])
    painted.append(Part((middle, head), limb * 0.9, wear["skin"]))
    painted.append(Part(trunk, limb * 0.8, wear["shirt"], filled=True))
    for side in ("right", "left"):
        shoulder, elbow, wrist = (at[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        painted.append(Part((elbow, wrist), limb * 0.75, wear["skin"]))
        painted.append(Part((wrist,), limb * 1.05, wear["skin"]))
        painted.append(Part((shoulder, elbow), limb * 0.9, sleeve))
    ears = shifted(wear["skin"], -0.08)
    crown = (head[0] + (head[0] - middle[0]) * 0.22, head[1] + (head[1] - middle[1]) * 0.22)
    painted += [Part((at[f"{side}_ear"],), radius * 0.24, ears) for side in ("left", "right")]
    painted += [Part((crown,), radius * 1.02, wear["hair"])]
    painted += [Part((_towards(head, middle, 0.08),), radius * 0.93, wear["skin"])]
    return painted + _eyes(at, radius) + [Part((at["nose"],), radius * 0.13, shifted(wear["skin"], -0.25))]


def _dog_parts(figure: Figure) -> list[Part]:
    at, wear, limb = figure.joints, figure.colours, figure.limb / 2
    coat, radius = wear["coat"], figure.head_radius
    assert figure.tail is not None, "a dog has a tail"
    near_is_left = at["nose"][0] < at["neck"][0]
    near, far = ("left", "right") if near_is_left else ("right", "left")
    shade = shifted(coat, -0.14 if max(coat) > 90 else 0.14)
    painted = _dog_legs(at, far, limb, shade)
    painted.append(Part((at["root_of_tail"], figure.tail), limb * 0.6, shade))
    front, back = (_middle(at[f"left_{name}"], at[f"right_{name}"]) for name in ("shoulder", "hip"))
    trunk = tuple(_towards(end, at[to], 0.3) for end, to in ((front, "neck"), (back, "root_of_tail")))
    painted.append(Part(trunk, radius * 1.05, coat))
    painted += _dog_legs(at, near, limb, coat)
    painted.append(Part((_towards(at["neck"], front, 0.35), at["neck"], figure.head), radius * 0.62, coat))
    painted.append(Part((_towards(at["neck"], figure.head, 0.15),), radius * 0.66, wear["collar"]))
    painted.append(Part((figure.head, _towards(at["nose"], figure.head, 0.12)), radius * 0.52, coat))
    painted.append(Part((figure.head,), radius, coat))
    away = (2 * figure.head[0] - at["nose"][0], 2 * figure.head[1] - at["nose"][1])
    hang = _towards(figure.head, away, 0.45)
    low = _towards(hang, at["neck"], 0.75)
    painted.append(Part((hang, low), radius * 0.36, wear["ears"]))
    return painted + _eyes(at, radius) + [Part((at["nose"],), radius * 0.26, _contrary(coat))]


def _dog_legs(at: dict[str, Point], side: str, limb: float, rgb: RGB) -> list[Part]:
    front = tuple(at[f"{side}_{name}"] for name in ("shoulder", "elbow", "front_paw"))
    back = tuple(at[f"{side}_{name}"] for name in ("hip", "knee", "back_paw"))
    return [
        Part(front, limb * 0.8, rgb),
        Part(back[:2], limb * 1.15, rgb),
        Part(back, limb * 0.8, rgb),
        Part((front[-1],), limb * 1.05, rgb),
        Part((back[-1],), limb * 1.05, rgb),
    ]


def _eyes(at: dict[str, Point], radius: float) -> list[Part]:
    white, pupil = (250, 250, 250), (15, 15, 20)
    eyes = [at["left_eye"], at["right_eye"]]
    return [Part((eye,), radius * 0.24, white) for eye in eyes] + [
        Part((eye,), radius * 0.15, pupil) for eye in eyes
    ]


def _contrary(coat: RGB) -> RGB:
    """Near black, or a pale tone where the coat itself is dark."""
    return (25, 20, 20) if max(coat) > 90 else blend(coat, (230, 210, 200), 0.7)


def _middle(first: Point, second: Point) -> Point:
    return _towards(first, second, 0.5)


def _towards(start: Point, goal: Point, share: float) -> Point:
    return start[0] + (goal[0] - start[0]) * share, start[1] + (goal[1] - start[1]) * share


_PAINTERS: Final[dict[str, Callable[[Figure], list[Part]]]] = {"person": _person_parts, "dog": _dog_parts}
POSES: Final[dict[str, Callable[[Dice, Plain], Figure]]] = {"person": pose_person, "dog": pose_dog}
