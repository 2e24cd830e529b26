"""Random poses, clothes and coats for the figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.figures import DOG_KEYPOINTS, PERSON_KEYPOINTS
from visionllm_sdk.scenes.palette import hsv, shifted
from visionllm_sdk.scenes.spec import RGB, Figure, Point

Plain = Callable[[RGB], bool]
"""Tells whether a colour is plain to see in front of what lies behind."""


def pose_person(dice: Dice, plain: Plain) -> Figure:
    """A person of height 1, hips at the origin, in a random pose and random clothes."""
    lean = dice.uniform(-12, 12)
    neck = step((0.0, 0.0), 180 + lean, 0.30)
    joints: dict[str, Point] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = step(step(neck, lean, 0.035), 90 + lean, sign * 0.105)
        # Limbs hang at 0 degrees and swing outwards with the angle, on both sides of the body.
        swing = dice.uniform(8, 165)
        bend = dice.uniform(-15, 85) if swing > 60 else dice.uniform(-10, 70)
        elbow = step(shoulder, sign * swing + lean, 0.155)
        wrist = step(elbow, sign * (swing + bend) + lean, 0.15)
        hip = step((0.0, 0.0), 90 + lean / 2, sign * 0.07)
        stride = dice.uniform(2, 38)
        knee = step(hip, sign * stride, 0.23)
        ankle = step(knee, sign * (stride - dice.uniform(0, 45)), 0.22)
        for name, point in zip(
            ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
            (shoulder, elbow, wrist, hip, knee, ankle),
            strict=True,
        ):
            joints[f"{side}_{name}"] = point
    tilt = lean + dice.uniform(-12, 12)
    head = step(neck, 180 + tilt, 0.125)
    joints |= _face(head, tilt, dice.uniform(-0.025, 0.025))
    return Figure(
        joints={name: joints[name] for name in PERSON_KEYPOINTS},
        head=head,
        head_radius=round(dice.uniform(0.09, 0.115), 3),
        limb=dice.uniform(0.065, 0.085),
        colours=_clothes(dice, plain),
    )


def _face(head: Point, tilt: float, turn: float) -> dict[str, Point]:
    """Nose, eyes and ears of a head that looks at the viewer, turned a little to one side."""

    def at(across: float, down: float) -> Point:
        return step(step(head, tilt, down), 90 + tilt, across)

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
    long, tall = dice.uniform(0.75, 1.05), dice.uniform(0.7, 1.1)
    neck = (facing * (0.1 + 0.23 * long), -0.17)
    head = (neck[0] + facing * dice.uniform(0.06, 0.12), neck[1] - dice.uniform(0.06, 0.16))
    nod = dice.uniform(-12, 20)
    nose = step(head, facing * (90 - nod), 0.185)
    joints: dict[str, Point] = {
        f"{near}_eye": step(head, facing * (125 - nod), 0.05),
        f"{far}_eye": step(head, facing * (112 - nod), 0.105),
        "nose": nose,
        "neck": neck,
        "root_of_tail": (-facing * (0.09 + 0.26 * long), -0.08),
    }
    apart = dice.uniform(10, 30)
    for side, depth, sign in ((near, 0.0, 1.0), (far, 0.055, -1.0)):
        swing = sign * apart * (1 if dice.chance(0.5) else 0.6) + dice.uniform(-10, 10)
        shoulder = (facing * (0.23 * long + depth), 0.03 - depth / 2)
        elbow = step(shoulder, facing * swing, 0.16 * tall)
        joints[f"{side}_shoulder"], joints[f"{side}_elbow"] = shoulder, elbow
        joints[f"{side}_front_paw"] = step(elbow, facing * (swing - dice.uniform(-5, 30)), 0.17 * tall)
        kick = -sign * apart + dice.uniform(-10, 10)
        hip = (facing * (-0.26 * long + depth), 0.03 - depth / 2)
        knee = step(hip, facing * (kick + 8), 0.16 * tall)
        joints[f"{side}_hip"], joints[f"{side}_knee"] = hip, knee
        joints[f"{side}_back_paw"] = step(knee, facing * (kick - dice.uniform(0, 25)), 0.17 * tall)
    tail = step(joints["root_of_tail"], -facing * dice.uniform(60, 165), dice.uniform(0.18, 0.27))
    return Figure(
        joints={name: joints[name] for name in DOG_KEYPOINTS},
        head=head,
        head_radius=round(dice.uniform(0.1, 0.13), 3),
        limb=dice.uniform(0.07, 0.095),
        tail=tail,
        colours=_coat(dice, plain),
    )


def step(start: Point, angle: float, length: float) -> Point:
    """The point `length` away: 0 degrees is down, 90 to the picture's right."""
    turn = math.radians(angle)
    return start[0] + math.sin(turn) * length, start[1] + math.cos(turn) * length


def pick(draw: Callable[[], RGB], good: Plain) -> RGB:
    """A drawn colour that is good, or the last of a dozen tries."""
    colour = draw()
    for _ in range(11):
        if good(colour):
            break
        colour = draw()
    return colour


def cloth(dice: Dice) -> RGB:
    """Any colour that clothes may have."""
    if dice.chance(0.25):
        return hsv(0, 0, dice.uniform(0.1, 0.95))
    return hsv(dice.uniform(0, 360), dice.uniform(0.45, 0.95), dice.uniform(0.4, 0.95))


def _clothes(dice: Dice, plain: Plain) -> dict[str, RGB]:
    def skin() -> RGB:
        return hsv(dice.uniform(16, 30), dice.uniform(0.25, 0.6), dice.uniform(0.35, 0.97))

    def hair() -> RGB:
        return hsv(dice.uniform(10, 45), dice.uniform(0.2, 0.75), dice.uniform(0.08, 0.75))

    def shoe() -> RGB:
        return hsv(dice.uniform(0, 360), dice.uniform(0, 0.6), dice.uniform(0.1, 0.95))

    return {
        "skin": pick(skin, plain),
        "hair": pick(hair, plain),
        "shirt": pick(lambda: cloth(dice), plain),
        "trousers": pick(lambda: cloth(dice), plain),
        "shoes": pick(shoe, plain),
    }


def _coat(dice: Dice, plain: Plain) -> dict[str, RGB]:
    def fur() -> RGB:
        if dice.chance(0.4):
            return hsv(30, dice.uniform(0, 0.1), dice.choice((0.1, 0.2, 0.45, 0.6, 0.95)))
        return hsv(dice.uniform(18, 38), dice.uniform(0.35, 0.75), dice.uniform(0.3, 0.9))

    coat = pick(fur, plain)
    collar = hsv(dice.uniform(0, 360), 0.85, 0.85)
    return {"coat": coat, "ears": shifted(coat, -0.22 if max(coat) > 110 else 0.22), "collar": collar}


POSES: Final[dict[str, Callable[[Dice, Plain], Figure]]] = {"person": pose_person, "dog": pose_dog}
