"""The sentences people use for each request: data, not code.

`TRAINING` is what the embedded model learns from, `HELD_OUT` is what the evaluation asks with; no
sentence stands in both. `{x}` is filled by `visionllm_sdk.scenes.language`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Phrases = Mapping[str, tuple[str, ...]]

SHORT_ANSWER_HINT: Final = "Answer the question using a single word or phrase."
"""Appended by `VisionLLM.ask`, as the LLaVA family does, to ask for an answer in words."""

LEADS: Final = (
    "",
    "",
    "",
    "",
    "please ",
    "can you ",
    "could you ",
    "i want you to ",
    "now ",
    "i need you to ",
)
TAILS: Final = ("", "", "", "", " in the image", " in this picture", " in the photo", " here", " for me")

TRAINING: Final[Phrases] = {
    "detect": (
        "detect {x}", "find {x}", "locate {x}", "draw a box around {x}", "detect all instances of {x}",
        "give me bounding boxes for {x}", "mark {x} with boxes", "return the boxes of {x}", "spot {x}",
        "identify {x}", "show me where {x} are", "run detection for {x}", "object detection: {x}", "box {x}",
        "look for {x}", "search for {x}", "list the positions of {x}", "put bounding boxes on {x}",
        "find every one of {x}", "detect the following: {x}", "cut out {x}", "give me instance masks of {x}",
        "segment each instance of {x}", "outline {x} one by one", "where are {x}?", "are there any {x}? show me",
        "pick out {x}", "find {x} and mask each of them", "count {x} and show them", "count {x}",
        "get me {x}", "examine the image and detect {x}", "tell me the boxes of {x}", "detect: {x}",
    ),
    "segment": (
        "segment {x}", "do a semantic segmentation of {x}", "give me a semantic map of {x}", "segment the image into {x}",
        "which pixels belong to {x}?", "label every pixel of {x}", "semantic masks for {x}", "color all pixels of {x}",
        "create a segmentation map for {x}", "paint the regions of {x}", "compute the area covered by {x}",
        "produce pixel labels for {x}", "mark every pixel that shows {x}", "semantic segmentation: {x}",
        "separate {x} from the background", "make a pixel mask of {x}", "give the mask of {x} as one class",
        "segment everything that is {x}", "split the picture into {x}", "map the pixels of {x}",
    ),
    "ground": (
        "find {x}", "point to {x}", "where is {x}?", "locate {x}", "show me {x}", "ground {x}",
        "which one is {x}? show it", "draw a box around {x}", "point at {x}", "give me the box of {x}", "detect {x}",
        "i am looking for {x}", "highlight {x}", "can you see {x}? mark it", "mark {x}", "grounding: {x}",
        "find the thing i mean: {x}", "locate this: {x}", "select {x}", "put a box on {x}", "identify {x}",
        "can you point out {x}?", "where do you see {x}?", "where can i find {x}?",
    ),
    "caption": (
        "describe the image", "describe this picture", "what is in the image?", "what do you see?",
        "give a caption", "caption this image", "write a caption for the picture", "what does the picture show?",
        "list everything in the image", "what can be seen here?", "tell me what is in this picture",
        "summarize the image", "name all the things in the image", "what is shown here?", "describe what you see",
        "give me a description of the scene", "list all objects", "what objects are there?", "explain the picture",
    ),
    "existence": (
        "is there {a}?", "is there {a} in the image?", "do you see {a}?", "does the image contain {a}?",
        "can you see {a}?", "is {a} visible?", "does the picture show {a}?", "is there any {one}?",
        "are there any {many}?", "do you see any {many} in the picture?", "does this photo have {a}?",
        "is {a} present?", "can {a} be seen here?", "are {many} present in the image?",
    ),
    "count": (
        "how many {many} are there?", "how many {many} are in the image?", "how many {many} do you see?",
        "what is the number of {many}?", "how many {many} can you see?", "what number of {many} does the picture show?",
        "how many {many}?", "tell me how many {many} there are", "give the number of {many}",
        "how many {many} does the image contain?",
    ),
    "colour": (
        "what color is {x}?", "what colour is {x}?", "which color does {x} have?", "what is the color of {x}?",
        "name the color of {x}", "tell me the color of {x}", "which colour is {x}?", "in what color is {x} drawn?",
    ),
    "shape": (
        "what shape is {x}?", "which shape is {x}?", "what is the shape of {x}?", "what is {x}?",
        "name the shape of {x}", "what form does {x} have?", "tell me the shape of {x}", "what kind of shape is {x}?",
    ),
    "position": (
        "in which part of the image is {x}?", "what is the position of {x}?", "where in the image is {x}?",
        "in which area of the picture is {x}?", "which part of the image contains {x}?",
        "describe the location of {x}", "what is the location of {x}?", "in which region is {x}?",
    ),
    "at": (
        "what is at the {place}?", "which object is at the {place}?", "what do you see at the {place}?",
        "name the object at the {place}", "what is there at the {place} of the image?",
    ),
    "relation": (
        "is {x} {relation} {y}?", "is {x} located {relation} {y}?", "can {x} be found {relation} {y}?",
        "does {x} lie {relation} {y}?",
    ),
    "larger": (
        "which is {more}, {x} or {y}?", "which one is {more}: {x} or {y}?", "what is {more}, {x} or {y}?",
        "between {x} and {y}, which is {more}?",
    ),
    "more": (
        "are there more {x} than {y}?", "do you see more {x} than {y}?", "is the number of {x} larger than that of {y}?",
        "does the image show more {x} than {y}?",
    ),
    "tool_result": (
        "what did you find?", "so, what is the result?", "summarize the result",
    ),
}  # fmt: skip

HELD_OUT: Final[Phrases] = {
    "detect": (
        "please find me {x}", "i would like boxes for {x}", "where do you see {x}? give boxes", "detect any {x}",
        "could you locate all of {x}?", "run an object detector on {x}", "find and box {x}",
        "show bounding boxes around {x}",
    ),
    "segment": (
        "please do semantic segmentation for {x}", "give me the pixels that belong to {x}",
        "make a semantic map with {x}", "label the pixels showing {x}", "segment all {x}", "pixel masks for {x}",
    ),
    "ground": (
        "please point me to {x}", "show where {x} is", "could you find {x}?", "i mean {x}, where is it?",
        "locate {x} in the picture", "box {x}",
    ),
    "caption": (
        "what is there to see in this image?", "please describe the scene", "give a short description of the picture",
        "can you caption this?", "what things are in the picture?",
    ),
    "existence": (
        "is there {a} in this picture?", "does the scene contain {a}?", "can you find {a} here, yes or no?",
        "do you notice {a}?", "are there {many} in the photo?",
    ),
    "count": (
        "how many {many} are in the picture?", "how many {many} does the scene have?", "how many {many} are visible?",
    ),
    "colour": ("which color is {x}?", "what is the colour of {x}?", "what color does {x} have?"),
    "shape": ("what shape does {x} have?", "what is the form of {x}?", "which kind of shape is {x}?"),
    "position": ("in what part of the picture is {x}?", "where in the picture is {x}?", "in which area is {x} located?"),
    "at": ("what is located at the {place}?", "which thing is at the {place}?"),
    "relation": ("is {x} positioned {relation} {y}?", "do you find {x} {relation} {y}?"),
    "larger": ("which of them is {more}, {x} or {y}?", "what is {more}: {x} or {y}?"),
    "more": ("are there more {x} than {y} in the image?", "can you see more {x} than {y}?"),
    "tool_result": ("tell me what came out", "what was found?"),
}  # fmt: skip

FOLLOW_UPS: Final = (
    "and {x}?", "now {x}", "what about {x}?", "the same for {x}", "and now {x}", "do the same for {x}", "also {x}",
)  # fmt: skip

SMALL_TALK: Final = (
    (("hello", "hi", "hey there", "good morning", "hi there", "good evening"), "Hello! How can I help you with an image?"),
    (("thanks", "thank you", "thank you very much", "great, thanks", "thanks a lot"), "You are welcome."),
    (("who are you?", "what are you?", "what is your name?", "which model are you?"),
     "I am a vision assistant: I find, segment, count and describe what is in an image."),
    (("what can you do?", "how can you help me?", "what are your skills?", "help", "what can i ask you?"),
     "I can describe an image, answer questions about it, and detect, segment or locate things in it."),
    (("goodbye", "bye", "see you", "that is all"), "Goodbye!"),
    (("ok", "good", "nice", "great", "very good", "well done", "cool"), "Glad to help."),
    (("what is the weather like?", "tell me a joke", "what time is it?", "who won the game?", "write a poem",
      "what is the capital of france?", "sing a song", "how do i cook rice?", "what is two plus two?"),
     "I can only answer questions about images."),
)  # fmt: skip

NOUNS: Final = (
    "car", "truck", "bus", "bicycle", "boat", "train", "cat", "horse", "cow", "sheep", "bird", "elephant", "zebra",
    "tree", "flower", "leaf", "grass", "table", "chair", "bottle", "cup", "glass", "fork", "knife", "spoon", "bowl",
    "apple", "banana", "pizza", "cake", "phone", "laptop", "keyboard", "mouse", "book", "clock", "lamp", "door",
    "window", "wall", "floor", "roof", "street", "bridge", "river", "mountain", "cloud", "sun", "moon", "wheel",
    "helmet", "hat", "shoe", "bag", "umbrella", "tie", "forklift", "crack", "scratch", "dent", "pallet", "box",
    "barcode", "label", "sign", "traffic light", "fire hydrant", "stop sign", "bench", "suitcase", "ball", "kite",
    "bat", "glove", "skateboard", "surfboard", "wine glass", "sandwich", "carrot", "donut", "couch", "bed", "toilet",
    "oven", "sink", "fridge", "vase", "scissors", "teddy bear", "toothbrush", "defect", "pipe", "valve", "cable",
    "screw", "bolt", "nail", "hammer", "wrench", "ladder", "cone", "barrel", "tank", "crane", "robot", "drone",
    "cell", "tumor", "bone", "tooth", "hand", "face", "eye", "nose", "fish", "shark", "whale", "turtle", "frog",
    "hexagon", "oval", "rectangle", "spiral", "arc", "cube", "sphere", "letter", "number", "anchor", "crown", "shield",
)  # fmt: skip
"""Everyday words outside of the scenes' vocabulary: the model must copy them and find nothing."""
