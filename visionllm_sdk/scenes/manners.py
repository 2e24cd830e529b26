"""Other ways to draw the figures: as signs, sticks or cartoons, seen from the side.

A figure that `visionllm_sdk.scenes.poses` has posed is changed here in posture, build and dress. What it
wears beyond the usual is a further entry of its colours, see `visionllm_sdk.scenes.figures`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.figures import DOG_KEYPOINTS, PERSON_KEYPOINTS
from visionllm_sdk.scenes.palette import blend, shifted
from visionllm_sdk.scenes.poses import Plain, cloth, pick, step
from visionllm_sdk.scenes.spec import RGB, Figure, Point

_INK: Final[RGB] = (18, 18, 22)


def redrawn(kind: str, figure: Figure, dice: Dice, plain: Plain) -> Figure:
    """The figure in another manner; what it is stays beyond doubt.

    Args:
        kind: person or dog.
        figure: as it was posed, see `POSES`.
        dice: chooses.
        plain: tells which colours are seen before what lies behind.
    """
    changed = _MANNERS[kind](figure, dice, plain)
    if dice.chance(0.35):
        drawn = _INK if dice.chance(0.6) else shifted(figure.colours[_MAIN[kind]], -0.3)
        changed = _wearing(changed, **{"contour" if dice.chance(0.6) else "line": drawn})
    return changed


def _person(figure: Figure, dice: Dice, plain: Plain) -> Figure:
    posture = dice.weighted((0.35, 0.3, 0.35))
    if posture:
        figure = (_standing if posture == 1 else _sideways)(figure, dice)
    figure = _built(figure, dice, heads=(0.075, 0.15), limbs=(0.055, 0.11))
    manner = dice.weighted((0.22, 0.18, 0.6))
    if manner == 2:
        return _dressed(figure, dice, plain)
    return _silhouette(_stick(figure, dice) if manner else figure, pick(lambda: _ink(dice), plain))


def _dog(figure: Figure, dice: Dice, plain: Plain) -> Figure:
    posture = dice.weighted((0.72, 0.18, 0.1))
    figure = (_on_legs, _seated, _lying)[posture](figure, dice)
    figure = _built(figure, dice, heads=(0.09, 0.19), limbs=(0.06, 0.16))
    build = {
        "trunk": dice.uniform(0.7, 1.4) * 0.115 / figure.head_radius,
        "muzzle": dice.uniform(0.4, 0.75),
        "ear": dice.uniform(0.75, 1.35),
        "paw": 0.8 if dice.chance(0.4) else dice.uniform(0.9, 1.3),
        "tail": dice.uniform(0.45, 0.9),
    }
    if dice.chance(0.35):
        build["curl"] = dice.uniform(40, 250) * (1 if dice.chance(0.5) else -1)
    if dice.chance(0.4):
        build["dots"] = 1.0
    figure = figure.model_copy(update={"build": {name: round(value, 3) for name, value in build.items()}})
    coat = figure.colours["coat"]
    if dice.chance(0.6):
        figure = _wearing(figure, pointed=figure.colours["ears"] if dice.chance(0.6) else coat)
    if dice.chance(0.5):
        figure = _wearing(figure, collar=coat)
    if dice.chance(0.3):
        return _silhouette(figure, pick(lambda: _ink(dice), plain))
    return _wearing(figure, patch=blend(coat, (235, 225, 210), 0.6)) if dice.chance(0.3) else figure


def _on_legs(figure: Figure, dice: Dice) -> Figure:
    """Of another length of legs, muzzle and tail, the legs more or less apart."""
    at, long, muzzle = dict(figure.joints), dice.uniform(0.5, 1.15), dice.uniform(0.9, 1.45)
    stiff = dice.uniform(0.0, 1.0) if dice.chance(0.5) else 0.0
    for side in ("left", "right"):
        for names in (("shoulder", "elbow", "front_paw"), ("hip", "knee", "back_paw")):
            top, *rest = (figure.joints[f"{side}_{name}"] for name in names)
            for name, point in zip(names[1:], rest, strict=True):
                x, y = _along(top, point, long)
                at[f"{side}_{name}"] = (top[0] + (x - top[0]) * (1 - stiff), y)
    at["nose"] = _along(figure.head, figure.joints["nose"], muzzle)
    assert figure.tail is not None, "a dog has a tail"
    tail = _along(at["root_of_tail"], figure.tail, dice.uniform(0.6, 1.4))
    return figure.model_copy(update={"joints": {name: at[name] for name in DOG_KEYPOINTS}, "tail": tail})


def _seated(figure: Figure, dice: Dice) -> Figure:
    """On its haunches, the front legs straight, the tail on the ground."""
    facing, ground = _facing(figure), dice.uniform(0.24, 0.34)
    neck, root = (facing * dice.uniform(0.05, 0.16), -0.24), (-facing * 0.2, ground - 0.1)
    at = {"neck": neck, "root_of_tail": root}
    for side, depth in _sides(facing):
        shoulder, hip = (neck[0] + facing * (0.01 + depth), -0.1), (-facing * (0.12 - depth), ground - 0.15)
        knee = step(hip, facing * dice.uniform(75, 115), 0.17)
        _legs(at, side, shoulder, step(shoulder, facing * dice.uniform(-8, 8), (ground + 0.1) / 2), ground)
        _legs(at, side, hip, knee, ground, back=True)
    return _with_head(figure, at, (-facing * dice.uniform(0.3, 0.45), ground - dice.uniform(0.0, 0.12)))


def _lying(figure: Figure, dice: Dice) -> Figure:
    """The trunk on the ground, the paws before the elbows and the haunches."""
    facing, ground = _facing(figure), dice.uniform(0.1, 0.15)
    at = {name: figure.joints[name] for name in ("neck", "root_of_tail")}
    for side, depth in _sides(facing):
        for name, ahead in (("shoulder", 0.02), ("hip", dice.uniform(0.08, 0.13))):
            top, reach = figure.joints[f"{side}_{name}"], facing * dice.uniform(0.1, 0.2)
            middle = (top[0] + facing * (ahead + depth), ground - 0.03)
            _legs(at, side, top, middle, ground, back=name == "hip", reach=reach)
    return _with_head(figure, at, (at["root_of_tail"][0] - facing * dice.uniform(0.1, 0.25), ground))


def _facing(figure: Figure) -> float:
    return 1.0 if figure.joints["nose"][0] > figure.joints["neck"][0] else -1.0


def _sides(facing: float) -> tuple[tuple[str, float], tuple[str, float]]:
    """Near and far side, and how far ahead each is drawn."""
    return (("left", 0.0), ("right", 0.055)) if facing < 0 else (("right", 0.0), ("left", 0.055))


def _legs(
    at: dict[str, Point],
    side: str,
    top: Point,
    middle: Point,
    ground: float,
    *,
    back: bool = False,
    reach: float = 0.0,
) -> None:
    names = ("hip", "knee", "back_paw") if back else ("shoulder", "elbow", "front_paw")
    points = (top, middle, (middle[0] + reach, ground))
    at |= {f"{side}_{name}": point for name, point in zip(names, points, strict=True)}


def _with_head(figure: Figure, at: dict[str, Point], tail: Point) -> Figure:
    """The dog with joints `at`; the head moves with the neck."""
    x, y = (new - old for new, old in zip(at["neck"], figure.joints["neck"], strict=True))
    at |= {
        name: (figure.joints[name][0] + x, figure.joints[name][1] + y)
        for name in ("left_eye", "right_eye", "nose")
    }
    return figure.model_copy(
        update={
            "joints": {name: at[name] for name in DOG_KEYPOINTS},
            "head": (figure.head[0] + x, figure.head[1] + y),
            "tail": tail,
        }
    )


def _standing(figure: Figure, dice: Dice) -> Figure:
    """Upright, the arms down, on the hips or up on one side or both."""
    at = dict(figure.joints)
    neck = (0.0, -0.3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder, hip = (sign * 0.105, -0.265), (sign * 0.06, 0.0)
        raised = dice.chance(0.2)
        swing = dice.uniform(140, 172) if raised else dice.uniform(4, 45)
        elbow = step(shoulder, sign * swing, 0.15)
        bend = dice.uniform(0, 25) if raised else dice.uniform(-70, 8)
        knee = step(hip, sign * dice.uniform(0, 9), 0.23)
        _limbs(at, side, (shoulder, elbow, step(elbow, sign * (swing + bend), 0.145)))
        _limbs(at, side, (hip, knee, step(knee, sign * dice.uniform(-2, 7), 0.22)), leg=True)
    return _headed(figure, at, neck, (0.0, 0.0))


def _sideways(figure: Figure, dice: Dice) -> Figure:
    """Seen from the side, walking or seated."""
    at = dict(figure.joints)
    facing, seated = (-1.0 if dice.chance(0.5) else 1.0), dice.chance(0.4)
    neck = step((0.0, 0.0), 180 - facing * dice.uniform(-3, 9), 0.3)
    stride = dice.uniform(4, 34) * (1 if dice.chance(0.5) else -1)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder, hip = (neck[0] + sign * 0.012, neck[1] + 0.04), (sign * 0.012, 0.0)
        thigh = dice.uniform(72, 98) if seated else sign * stride
        shin = thigh - dice.uniform(65, 100) if seated else thigh - dice.uniform(0, 42)
        swing = dice.uniform(5, 60) if seated else -sign * stride * dice.uniform(0.6, 1.4)
        elbow, knee = step(shoulder, facing * swing, 0.15), step(hip, facing * thigh, 0.22)
        _limbs(at, side, (shoulder, elbow, step(elbow, facing * (swing + dice.uniform(0, 65)), 0.145)))
        _limbs(at, side, (hip, knee, step(knee, facing * shin, 0.22)), leg=True)
    build = {"trunk": dice.uniform(0.8, 1.8), "toe": dice.uniform(0.5, 2.2)}
    if dice.chance(0.6):
        build["far"] = dice.uniform(0.05, 0.3)
    build = {name: round(value, 3) for name, value in build.items()}
    return _headed(figure, at, neck, (facing * 0.075, 0.015)).model_copy(update={"build": build})


def _limbs(at: dict[str, Point], side: str, points: tuple[Point, Point, Point], *, leg: bool = False) -> None:
    names = ("hip", "knee", "ankle") if leg else ("shoulder", "elbow", "wrist")
    at |= {f"{side}_{name}": point for name, point in zip(names, points, strict=True)}


def _headed(figure: Figure, at: dict[str, Point], neck: Point, nose: Point) -> Figure:
    """The figure with joints `at` and a head above the neck whose nose lies so far from its centre."""
    x, y = neck[0], neck[1] - 0.125
    across, apart = nose[0] * 0.75, 0.012 if nose[0] else 0.042
    ear = 0.014 if nose[0] else 0.1
    at |= {"nose": (x + nose[0], y + 0.02)}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        at |= {
            f"{side}_eye": (x + across + sign * apart, y - 0.01),
            f"{side}_ear": (x - nose[0] * 0.3 + sign * ear, y + 0.01),
        }
    return figure.model_copy(update={"joints": {name: at[name] for name in PERSON_KEYPOINTS}, "head": (x, y)})


def _built(figure: Figure, dice: Dice, *, heads: tuple[float, float], limbs: tuple[float, float]) -> Figure:
    """Another size of the head, with what is in it, and of the limbs."""
    radius = round(dice.uniform(*heads), 3)
    share = radius / figure.head_radius
    face = [name for name in figure.joints if name.endswith(("eye", "ear", "nose"))]
    joints = {
        name: _along(figure.head, point, share) if name in face else point
        for name, point in figure.joints.items()
    }
    return figure.model_copy(
        update={"joints": joints, "head_radius": radius, "limb": round(dice.uniform(*limbs), 4)}
    )


def _stick(figure: Figure, dice: Dice) -> Figure:
    """Arms and legs spring from a line."""
    at = dict(figure.joints)
    for name in ("shoulder", "hip"):
        left, right = at[f"left_{name}"], at[f"right_{name}"]
        at[f"left_{name}"] = at[f"right_{name}"] = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    return figure.model_copy(update={"joints": at, "limb": round(dice.uniform(0.035, 0.06), 4)})


def _silhouette(figure: Figure, rgb: RGB) -> Figure:
    """One colour all over."""
    return figure.model_copy(update={"colours": dict.fromkeys((*figure.colours, "silhouette"), rgb)})


def _dressed(figure: Figure, dice: Dice, plain: Plain) -> Figure:
    wear = figure.colours
    if dice.chance(0.35):
        figure = _wearing(figure, mane=wear["hair"])
    if dice.chance(0.5):
        figure = _wearing(figure, cuffs=wear["shirt"])
    lower = dice.weighted((0.4, 0.25, 0.25, 0.1))
    if lower == 1:
        figure = _wearing(
            figure, trousers=wear["skin"], skirt=wear["shirt" if dice.chance(0.5) else "trousers"]
        )
    elif lower == 2:
        figure = _wearing(figure, trousers=wear["skin"], shorts=wear["trousers"])
    elif lower == 3:
        figure = _wearing(figure, shirt=pick(lambda: cloth(dice), plain), trousers=wear["shirt"])
    return figure


def _wearing(figure: Figure, **colours: RGB) -> Figure:
    return figure.model_copy(update={"colours": {**figure.colours, **colours}})


def _ink(dice: Dice) -> RGB:
    """A colour of signs: black or white mostly."""
    if dice.chance(0.6):
        return _INK if dice.chance(0.75) else (245, 245, 245)
    return cloth(dice)


def _along(start: Point, goal: Point, share: float) -> Point:
    return start[0] + (goal[0] - start[0]) * share, start[1] + (goal[1] - start[1]) * share


_MANNERS: Final[dict[str, Callable[[Figure, Dice, Plain], Figure]]] = {"person": _person, "dog": _dog}
_MAIN: Final = {"person": "shirt", "dog": "coat"}
