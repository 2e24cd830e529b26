"""Articulated figures: a person seen from the front and a dog seen from the side.

A figure is posed once, in units of its own height or length, and then placed on the canvas. Its joints are
the keypoints that data sets name: 17 of COCO for a person, 17 of AP-10K for a dog. "Left" is the figure's
left: at the right of the picture for a person, who faces the viewer, and on the near side for a dog that
looks to the picture's left.

A person wears skin, hair, shirt, trousers and shoes, and may wear a skirt, shorts, cuffs (long sleeves) or a
mane (long hair); a dog wears coat, ears and collar, and may wear a patch or pointed ears. Of both, "line" is
drawn around every part, "contour" around them all together, and "silhouette" is the one colour of all.

A dog's build may name half the thickness of its trunk and muzzle (shares of the head's radius), of its
paws and tail (shares of half a limb's width), the size of its ear, how far its tail curls (degrees), and
whether its eye is a mere dot. That of a person seen from the side may name how much darker the far limbs are,
how long the feet and how thick the trunk (shares of half a limb's width).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from visionllm_sdk.scenes.palette import blend, shifted
from visionllm_sdk.scenes.spec import RGB, Figure, Point

PERSON_KEYPOINTS: Final = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
DOG_KEYPOINTS: Final = (
    "left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow",
    "left_front_paw", "right_shoulder", "right_elbow", "right_front_paw", "left_hip", "left_knee",
    "left_back_paw", "right_hip", "right_knee", "right_back_paw",
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


class Part(NamedTuple):
    """One painted piece: a disc (one point), a round-ended path, or a filled polygon with rounded edge."""

    points: tuple[Point, ...]
    radius: float
    rgb: RGB
    filled: bool = False


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
        build=figure.build,
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
    painted = _PAINTERS[kind](figure)
    only = figure.colours.get("silhouette")
    return painted if only is None else [part._replace(rgb=only) for part in painted]


def _person_parts(figure: Figure) -> list[Part]:
    at, wear, limb = figure.joints, figure.colours, figure.limb / 2
    head, radius = figure.head, figure.head_radius
    middle = _middle(at["left_shoulder"], at["right_shoulder"])
    # Who looks to the picture's right shows the right side.
    ahead = (at["nose"][0] - head[0]) / radius
    far, near = ("left", "right") if ahead > 0.5 else ("right", "left")
    sideways = abs(ahead) > 0.5
    dimmed = {far: figure.build.get("far", 0.0)} if sideways else {}
    arms = {side: _dimmed(_person_arm(figure, side), dimmed.get(side, 0.0)) for side in (far, near)}
    painted = _hanging_hair(figure, middle)
    if sideways:
        painted += arms.pop(far)
    for side in (far, near):
        painted += _dimmed(_person_leg(figure, side, ahead), dimmed.get(side, 0.0))
    trunk = (at["left_shoulder"], at["right_shoulder"], at["right_hip"], at["left_hip"])
    painted.append(Part((middle, head), limb * 0.9, wear["skin"]))
    painted += _skirt(figure)
    painted.append(Part(trunk, limb * figure.build.get("trunk", 0.8), wear["shirt"], filled=True))
    for arm in arms.values():
        painted += arm
    ears = shifted(wear["skin"], -0.08)
    crown = (head[0] + (head[0] - middle[0]) * 0.22, head[1] + (head[1] - middle[1]) * 0.22)
    painted += [Part((at[f"{side}_ear"],), radius * 0.24, ears) for side in ("left", "right")]
    painted += [Part((crown,), radius * 1.02, wear["hair"])]
    painted += [Part((_towards(head, middle, 0.08),), radius * 0.93, wear["skin"])]
    return painted + _eyes(at, radius) + [Part((at["nose"],), radius * 0.13, shifted(wear["skin"], -0.25))]


def _person_arm(figure: Figure, side: str) -> list[Part]:
    wear, limb = figure.colours, figure.limb / 2
    sleeve = shifted(wear["shirt"], -0.1 if max(wear["shirt"]) > 80 else 0.12)
    shoulder, elbow, wrist = (figure.joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    return [
        Part((elbow, wrist), limb * 0.75, wear.get("cuffs", wear["skin"])),
        Part((wrist,), limb * 1.05, wear["skin"]),
        Part((shoulder, elbow), limb * 0.9, sleeve),
    ]


def _person_leg(figure: Figure, side: str, ahead: float) -> list[Part]:
    wear, limb = figure.colours, figure.limb / 2
    hip, knee, ankle = (figure.joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
    toe = math.copysign(figure.build.get("toe", 0.0), ahead) * limb
    foot = (ankle, (ankle[0] + toe, ankle[1])) if toe else (ankle,)
    painted = [Part((hip, knee, ankle), limb, wear["trousers"]), Part(foot, limb * 1.3, wear["shoes"])]
    if "shorts" in wear:
        painted.append(Part((hip, _towards(hip, knee, 0.8)), limb * 1.1, wear["shorts"]))
    return painted


def _dimmed(painted: list[Part], amount: float) -> list[Part]:
    """The parts in a deeper shade, as what lies farther away."""
    return [part._replace(rgb=shifted(part.rgb, -amount)) for part in painted] if amount else painted


def _hanging_hair(figure: Figure, middle: Point) -> list[Part]:
    if "mane" not in figure.colours:
        return []
    down = (figure.head, _towards(figure.head, middle, 0.8))
    return [Part(down, figure.head_radius * 1.12, figure.colours["mane"])]


def _skirt(figure: Figure) -> list[Part]:
    if "skirt" not in figure.colours:
        return []
    at = figure.joints
    hips = (at["left_hip"], at["right_hip"])
    hems = [_towards(at[f"{side}_hip"], at[f"{side}_knee"], 0.75) for side in ("left", "right")]
    wide = (_towards(hems[1], hems[0], 1.2), _towards(hems[0], hems[1], 1.2))
    return [Part((*hips, wide[1], wide[0]), figure.limb * 0.45, figure.colours["skirt"], filled=True)]


def _dog_parts(figure: Figure) -> list[Part]:
    at, wear, limb = figure.joints, figure.colours, figure.limb / 2
    coat, radius, build = wear["coat"], figure.head_radius, figure.build
    near_is_left = at["nose"][0] < at["neck"][0]
    near, far = ("left", "right") if near_is_left else ("right", "left")
    shade = shifted(coat, -0.14 if max(coat) > 90 else 0.14)
    paw = limb * build.get("paw", 1.05)
    painted = _dog_legs(at, far, limb, paw, shade)
    painted.append(Part(_dog_tail(figure), limb * build.get("tail", 0.6), shade))
    front, back = (_middle(at[f"left_{name}"], at[f"right_{name}"]) for name in ("shoulder", "hip"))
    trunk = tuple(_towards(end, at[to], 0.3) for end, to in ((front, "neck"), (back, "root_of_tail")))
    thick = radius * build.get("trunk", 1.05)
    painted.append(Part(trunk, thick, coat))
    if "patch" in wear:
        painted.append(Part((_towards(trunk[0], trunk[1], 0.6),), thick * 0.7, wear["patch"]))
    painted += _dog_legs(at, near, limb, paw, coat)
    painted.append(Part((_towards(at["neck"], front, 0.35), at["neck"], figure.head), radius * 0.62, coat))
    painted.append(Part((_towards(at["neck"], figure.head, 0.15),), radius * 0.66, wear["collar"]))
    muzzle = radius * build.get("muzzle", 0.52)
    painted.append(Part((figure.head, _towards(at["nose"], figure.head, 0.12)), muzzle, coat))
    painted.append(Part((figure.head,), radius, coat))
    painted.append(_dog_ear(figure))
    eyes = _eyes(at, radius)
    if "dots" in build:
        eyes = [Part((at[f"{near}_eye"],), radius * 0.14, _contrary(coat))]
    return painted + eyes + [Part((at["nose"],), radius * 0.26, _contrary(coat))]


def _dog_tail(figure: Figure) -> tuple[Point, ...]:
    """From its root to its tip, straight or along an arc."""
    assert figure.tail is not None, "a dog has a tail"
    start, tip, curl = figure.joints["root_of_tail"], figure.tail, math.radians(figure.build.get("curl", 0.0))
    if not curl:
        return start, tip
    # A chord of the arc whose ends' directions differ by `curl`.
    across, down = tip[0] - start[0], tip[1] - start[1]
    half, points = 1 / (2 * math.tan(curl / 2)), 12
    centre = ((start[0] + tip[0]) / 2 - down * half, (start[1] + tip[1]) / 2 + across * half)
    out = (start[0] - centre[0], start[1] - centre[1])

    def at(turn: float) -> Point:
        cosine, sine = math.cos(turn), math.sin(turn)
        return centre[0] + cosine * out[0] - sine * out[1], centre[1] + sine * out[0] + cosine * out[1]

    return tuple(at(curl * index / points) for index in range(points + 1))


def _dog_ear(figure: Figure) -> Part:
    """It hangs down at the back of the head, or stands up from it."""
    head, nose, radius = figure.head, figure.joints["nose"], figure.head_radius
    length, size = math.dist(head, nose), figure.build.get("ear", 1.0)
    ahead = ((nose[0] - head[0]) / length, (nose[1] - head[1]) / length)
    if "pointed" not in figure.colours:
        away = (2 * head[0] - nose[0], 2 * head[1] - nose[1])
        hang = _towards(head, away, 0.45)
        tip = _towards(hang, figure.joints["neck"], 0.75 * size)
        return Part((hang, tip), radius * 0.36 * size, figure.colours["ears"])
    up = (ahead[1], -ahead[0]) if ahead[0] > 0 else (-ahead[1], ahead[0])

    def at(forward: float, upward: float) -> Point:
        return (
            head[0] + radius * (ahead[0] * forward + up[0] * upward),
            head[1] + radius * (ahead[1] * forward + up[1] * upward),
        )

    corners = (at(-0.85, 0.35), at(0.2, 0.7), at(-0.5, 1.75 * size))
    return Part(corners, radius * 0.08, figure.colours["pointed"], filled=True)


def _dog_legs(at: dict[str, Point], side: str, limb: float, paw: float, rgb: RGB) -> list[Part]:
    front = tuple(at[f"{side}_{name}"] for name in ("shoulder", "elbow", "front_paw"))
    back = tuple(at[f"{side}_{name}"] for name in ("hip", "knee", "back_paw"))
    return [
        Part(front, limb * 0.8, rgb),
        Part(back[:2], limb * 1.15, rgb),
        Part(back, limb * 0.8, rgb),
        Part((front[-1],), paw, rgb),
        Part((back[-1],), paw, rgb),
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
