"""What the evaluation asks with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HELD_OUT: Final[Mapping[str, tuple[str, ...]]] = {
    "detect": (
        "please find me {x}",
        "i would like boxes for {x}",
        "where do you see {x}? give boxes",
        "detect any {x}",
        "could you locate all of {x}?",
        "run an object detector on {x}",
        "find and box {x}",
        "show bounding boxes around {x}",
    ),
    "segment": (
        "please do semantic segmentation for {x}",
        "give me the pixels that belong to {x}",
        "make a semantic map with {x}",
        "label the pixels showing {x}",
        "segment all {x}",
        "pixel masks for {x}",
    ),
    "ground": (
        "please point me to {x}",
        "show where {x} is",
        "could you find {x}?",
        "i mean {x}, where is it?",
        "locate {x} in the picture",
        "box {x}",
    ),
    "caption": (
        "what is there to see in this image?",
        "please describe the scene",
        "give a short description of the picture",
        "can you caption this?",
        "what things are in the picture?",
    ),
    "existence": (
        "is there {a} in this picture?",
        "does the scene contain {a}?",
        "can you find {a} here, yes or no?",
        "do you notice {a}?",
        "are there {many} in the photo?",
    ),
    "count": (
        "how many {many} are in the picture?",
        "how many {many} does the scene have?",
        "how many {many} are visible?",
    ),
    "colour": ("which color is {x}?", "what is the colour of {x}?", "what color does {x} have?"),
    "shape": ("what shape does {x} have?", "what is the form of {x}?", "which kind of shape is {x}?"),
    "position": (
        "in what part of the picture is {x}?",
        "where in the picture is {x}?",
        "in which area is {x} located?",
    ),
    "at": ("what is located at the {place}?", "which thing is at the {place}?"),
    "relation": ("is {x} positioned {relation} {y}?", "do you find {x} {relation} {y}?"),
    "larger": ("which of them is {more}, {x} or {y}?", "what is {more}: {x} or {y}?"),
    "more": ("are there more {x} than {y} in the image?", "can you see more {x} than {y}?"),
    "tool_result": ("tell me what came out", "what was found?"),
    "greeting": (
        "hello, how are you today?",
        "hi assistant",
        "good morning to you",
    ),
    "thanks": (
        "thanks so much",
        "thank you, that was helpful",
        "thanks for your help",
    ),
    "identity": (
        "what model are you?",
        "tell me your name",
    ),
    "skills": (
        "what are you capable of?",
        "what else can you do?",
    ),
    "farewell": (
        "goodbye then",
        "ok, bye",
    ),
    "praise": (
        "that is great",
        "very nice",
        "very nice, thank you",
    ),
    "off_topic": (
        "what is the capital of spain?",
        "what is three plus four?",
        "tell me a story",
        "do you like music?",
        "how do i build a {noun}?",
        "tell me a story about a {noun}",
        "what is seven plus three?",
        "what is the price of a {noun}?",
        "who is the king of england?",
    ),
}
