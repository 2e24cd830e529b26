"""Names and descriptions of fields as questions about an image."""

from __future__ import annotations

import pytest

from visionllm_sdk.agent.fields import image_question
from visionllm_sdk.agent.functions import questions_of


@pytest.mark.parametrize(
    ("name", "schema", "question"),
    [
        ("n", {"type": "integer", "description": "How many rings?"}, "How many rings?"),
        ("n", {"type": "integer", "description": "Number of stars"}, "How many stars are there?"),
        ("n", {"type": "integer", "description": "the total number of all red circles in the image."},
         "How many red circles are there?"),
        ("n", {"type": "integer", "description": "how many dogs are visible"}, "How many dogs are there?"),
        ("n", {"type": "integer", "description": "Count of objects that can be seen in this picture"},
         "How many objects are there?"),
        ("triangle_count", {"type": "integer"}, "How many triangles are there?"),
        ("num_red_crosses", {"type": "integer"}, "How many red crosses are there?"),
        ("numberOfPeople", {"type": "integer"}, "How many people are there?"),
        ("person_count", {"type": "number"}, "How many people are there?"),
        ("stars", {"type": "integer"}, "How many stars are there?"),
        ("has_dog", {"type": "boolean"}, "Is there a dog?"),
        ("contains_orange_star", {"type": "boolean"}, "Is there an orange star?"),
        ("dog_visible", {"type": "boolean"}, "Is there a dog?"),
        ("b", {"type": "boolean", "description": "Whether there is a dog"}, "Is there a dog?"),
        ("b", {"type": "boolean", "description": "True if there are any stars in the picture"},
         "Are there any stars?"),
        ("b", {"type": "boolean", "description": "whether a dog is visible in the image"}, "Is there a dog?"),
        ("b", {"type": "boolean", "description": "whether an orange ring is in the photo"},
         "Is there an orange ring?"),
        ("b", {"type": "boolean", "description": "whether the image contains people"},
         "Are there any people?"),
        ("b", {"type": "boolean", "description": "Whether the star is left of the ring"},
         "Is the star left of the ring?"),
        ("s", {"type": "string", "description": "Colour of the star"}, "What color is the star?"),
        ("star_color", {"enum": ["red", "blue"]}, "What color is the star?"),
        ("s", {"type": "string", "description": "shape of the red thing"}, "What shape is the red thing?"),
        ("dog_position", {"type": "string"}, "Where is the dog?"),
        ("s", {"type": "string", "description": "where the dog is in the image"}, "Where is the dog?"),
        ("caption", {"type": "string"}, "describe the image"),
        ("s", {"type": "string", "description": "A short description of the scene"}, "describe the image"),
    ],
)  # fmt: skip
def test_what_speaks_of_something_to_be_seen_is_asked(
    name: str, schema: dict[str, object], question: str
) -> None:
    assert image_question(name, schema) == question


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("age", {"type": "integer"}),
        ("address", {"type": "integer"}),
        ("status", {"type": "integer"}),
        ("kilograms", {"type": "number"}),
        ("order_number", {"type": "integer"}),
        ("stars", {"type": "integer", "description": "Rating of the hotel."}),
        ("verbose", {"type": "boolean"}),
        ("b", {"type": "boolean", "description": "Whether to send a mail."}),
        ("name", {"type": "string"}),
        ("s", {"type": "string", "description": "The setup of the joke"}),
        ("colour", {"type": "string", "description": ""}),
        ("s", {"type": "string", "description": "."}),
    ],
)
def test_everything_else_is_not(name: str, schema: dict[str, object]) -> None:
    assert image_question(name, schema) is None


@pytest.mark.parametrize(
    ("request_", "form", "asked"),
    [
        ("Fill in the form.", True, {"star_count", "rings", "has_dog"}),
        ("Fill in the form for scene 3.", True, {"star_count", "rings", "has_dog"}),
        ("There are 2 stars and 4 rings.", True, {"has_dog"}),
        ("Take it down.", False, {"star_count", "rings"}),
        ("Take it down for scene 3.", False, set()),
    ],
)
def test_numbers_that_a_request_tells_are_not_asked_again(request_: str, form: bool, asked: set[str]) -> None:
    fields = {
        "star_count": {"type": "integer"},
        "rings": {"type": "integer"},
        "has_dog": {"type": "boolean"},
    }
    found = questions_of({"type": "object", "properties": fields}, request_, all_fields=form)
    assert {question.path[-1] for question in found} == asked


def test_a_long_description_takes_no_time() -> None:
    text = "whether the " + "image is there that can be seen " * 2000
    for kind in ("boolean", "integer", "string"):
        image_question("n", {"type": kind, "description": text})
