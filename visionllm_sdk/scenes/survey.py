"""Requests about all that a picture shows: "detect everything", "segment this", "estimate the pose"."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from visionllm_sdk.scenes.exchange import Exchange, Link, RoutingToken, linked_reply
from visionllm_sdk.scenes.facts import FIGURES, SceneFacts
from visionllm_sdk.scenes.labels import Label
from visionllm_sdk.scenes.phrases import Phrases
from visionllm_sdk.scenes.pose_language import pose_of
from visionllm_sdk.scenes.requests import reading_order
from visionllm_sdk.scenes.wording import draw_wording

SURVEY_TRAINING: Final[Phrases] = {
    "detect_all": (
        "detect everything", "find everything", "box everything", "locate everything in the image",
        "detect", "run object detection", "object detection", "run the detector",
        "do object detection on this picture", "detect all there is", "find all there is in the picture",
        "draw a box around everything", "draw boxes around everything you find", "put a box on everything",
        "detect everything you find", "detect whatever is in there", "locate all that is visible",
        "detect everything that you can see", "show me boxes for everything",
        "give me the boxes of everything", "all boxes, please", "bounding boxes",
        "bounding boxes for everything, please", "i need all the bounding boxes", "find them all",
        "find whatever you can", "mark everything with boxes", "detect it all", "where is everything?",
        "what can you detect here? show boxes", "detections please", "return every bounding box",
        "give me every detection as json", "segment every instance", "instance segmentation",
        "do instance segmentation", "run instance segmentation on the picture",
        "instance masks of everything", "mask each thing on its own", "cut everything out, one by one",
        "spot everything", "search the picture for anything at all", "box whatever you see",
        "outline everything one by one", "get all detections", "detect anything in the image",
    ),
    "segment_all": (
        "segment everything", "segment the image", "segment the picture", "segment this", "segment",
        "segment the scene", "segment it all", "segment the whole picture", "segment all of it",
        "semantic segmentation", "do semantic segmentation", "run semantic segmentation on this image",
        "i want a semantic segmentation of the picture", "make a semantic map", "give me a semantic map",
        "semantic map of the whole image", "a map of all the classes", "a class map, please",
        "give every pixel its class", "label each pixel", "label all pixels", "classify every pixel",
        "assign a class to each pixel", "tell me the class of every pixel", "pixel labels for everything",
        "colour the picture by class", "color each kind of thing differently",
        "paint every class in its colour", "divide the picture into classes",
        "split the image into its classes", "segment by class", "segment everything by class",
        "segment all the kinds you see", "segment each kind of shape", "one mask for each kind of thing",
        "one mask per class", "masks of all classes", "mask by category", "segment the categories",
        "produce a segmentation mask", "create a segmentation map", "give me the segmentation",
        "show the segmentation of this scene", "i need the segmentation map", "full segmentation please",
        "compute a segmentation of everything", "which pixel belongs to what?",
        "segmentation of the whole drawing", "segment whatever there is", "segmentation, all classes",
    ),
    "pose_all": (
        "estimate the pose", "estimate all poses", "run pose estimation", "pose estimation",
        "do pose estimation", "find the keypoints", "find all keypoints in the picture", "keypoints",
        "keypoints please", "pose", "show me the pose", "show the skeleton", "draw the skeletons",
        "skeletons, please", "the skeleton", "detect the keypoints", "detect the joints", "detect poses",
        "mark all the joints", "mark the keypoints", "where are the joints?",
        "which keypoints do you find?", "give me the body keypoints", "i need the joints as points",
        "run the keypoint detector", "body pose please", "get the pose", "get me all keypoints as points",
        "body landmarks", "locate the body joints", "pose of whoever is here",
    ),
}  # fmt: skip
"""By what is asked of the whole picture."""

SURVEY_HELD_OUT: Final[Phrases] = {
    "detect_all": ("detect all you can", "please find everything in here", "put boxes around everything"),
    "segment_all": (
        "segment all of the picture",
        "make a segmentation of this image",
        "label the pixels by class",
    ),
    "pose_all": ("show all the keypoints", "find the joints in this picture", "what poses are there?"),
}
"""Sentences that training never uses."""

_NO_MORE: Final = 6
"""A map is asked of so many kinds at most."""


def survey(scene: SceneFacts, rng: Random, phrases: Phrases = SURVEY_TRAINING) -> Exchange:
    """A request about all that a picture shows, which does not say what that is.

    Boxes are those of any `object`, a map has the kinds from top to bottom, poses are of the figures if there
    is but one kind of them, and of persons otherwise.
    """
    topic = rng.choice(("detect_all", "segment_all", "segment_all", "pose_all"))
    wording = draw_wording(topic, phrases, rng, training=SURVEY_TRAINING)
    sentence = replace(wording, free=phrases is SURVEY_TRAINING).said(rng)  # many are no orders
    if topic == "pose_all":
        figures = {thing.kind for thing in scene.objects if thing.kind in FIGURES}
        return Exchange("survey", sentence, pose_of(figures.pop() if len(figures) == 1 else "person"))
    labels = kinds_in(scene) if topic == "segment_all" else []
    token: RoutingToken = "[SEG]" if topic == "segment_all" else "[DET]"
    links = [Link(token, label.text, label) for label in labels or [Label()]]
    return Exchange("survey", sentence, linked_reply(links))


def kinds_in(scene: SceneFacts) -> list[Label]:
    """The kinds of things that a picture shows, in reading order, each once."""
    things = sorted(scene.objects, key=lambda thing: reading_order(thing, scene))
    return [Label(kind) for kind in list(dict.fromkeys(thing.kind for thing in things))[:_NO_MORE]]
