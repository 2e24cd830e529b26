from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from random import Random
from typing import Any

import pytest

from visionllm_sdk.evaluation import Sample, run
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.skills import (
    caption,
    counting,
    detection,
    grounding,
    routing,
    segmentation,
    vqa,
)
from visionllm_sdk.results import Reply, RoutedCall
from visionllm_sdk.scenes.labels import Label, parse_label
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS, Exchange, Link
from visionllm_sdk.scenes.phrases import HELD_OUT, SMALL_TALK, TRAINING

Make = Callable[..., Any]
ALWAYS: Callable[[int], bool] = lambda _: True  # noqa: E731
EVERY_SECOND: Callable[[int], bool] = lambda number: number % 2 == 1  # noqa: E731


def measured(model: Any, samples: list[Sample], skill: str) -> SkillReport:
    return run(model, skills=[skill], source=samples, batch=5, progress=False).skills[skill]


class TestPerfect:
    @pytest.mark.parametrize(
        ("skill", "figures"),
        [
            ("detection", ["box_ap", "box_ap50", "box_ap75", "box_ap_pooled", "mask_ap", "mask_ap50"]),
            ("segmentation", ["miou", "picture_miou", "alone_miou"]),
            ("grounding", ["acc50", "ciou", "giou"]),
            ("counting", ["exact"]),
            ("vqa", ["accuracy"]),
            ("caption", ["f1", "f1_colour_kind", "f1_kind", "precision", "recall", "exact"]),
            ("routing", ["exact", "tokens_exact"]),
        ],
    )
    def test_knowing_everything_gives_one(
        self, oracle: Make, held_out: list[Sample], skill: str, figures: list[str]
    ) -> None:
        report = measured(oracle(), held_out, skill)
        assert {name: report.figures[name] for name in figures} == dict.fromkeys(figures, pytest.approx(1.0))
        assert all(count > 0 for count in report.counts.values())
        for part in chain.from_iterable(division.values() for division in report.slices.values()):
            values = [part[name] for name in part if name not in ("cases", "labels", "pictures")]
            assert all(value in (None, 0.0, pytest.approx(1.0)) for value in values)

    def test_errors_are_zero(self, oracle: Make, held_out: list[Sample]) -> None:
        assert measured(oracle(), held_out, "counting").figures["mae"] == 0
        detection = measured(oracle(), held_out, "detection").figures
        assert detection["false_positive_rate"] == detection["false_positive_rate_alone"] == 0


class TestWrong:
    def test_ghosts_on_every_label(self, oracle: Make, held_out: list[Sample]) -> None:
        report = measured(oracle(ALWAYS), held_out, "detection")
        assert report.figures["false_positive_rate"] == 1.0
        assert 0 < report.figures["box_ap"] < 0.7  # type: ignore[operator]
        assert {part["false_positive_rate"] for part in report.slices["absent"].values()} == {1.0}
        alone = report.slices["absent, asked alone"]
        assert report.figures["false_positive_rate_alone"] == 1.0
        assert set(alone) == {"figure", "foreign", "near miss"}
        assert sum(part["cases"] for part in alone.values()) == report.counts["absent_labels_alone"]  # type: ignore[misc]

    def test_low_scores_are_ranked_but_do_not_count_as_false_positives(
        self, oracle: Make, held_out: list[Sample]
    ) -> None:
        # The oracle adds a ghost of score 0.03 to every label, below its default threshold.
        report = measured(oracle(), held_out, "detection")
        assert report.figures["false_positive_rate"] == 0.0

    def test_an_unlabelled_map_overlaps_nothing(self, oracle: Make, held_out: list[Sample]) -> None:
        figures = measured(oracle(ALWAYS), held_out, "segmentation").figures
        assert figures["miou"] == figures["alone_miou"] == 0.0

    def test_half_of_the_expressions(self, oracle: Make, held_out: list[Sample]) -> None:
        report = measured(oracle(EVERY_SECOND), held_out, "grounding")
        cases = report.counts["expressions"]
        assert (
            report.figures["acc50"] == report.figures["giou"] == pytest.approx((cases - cases // 2) / cases)
        )
        assert 0 < report.figures["ciou"] < 1  # type: ignore[operator]

    def test_counts_that_are_off_by_two(self, oracle: Make, held_out: list[Sample]) -> None:
        report = measured(oracle(EVERY_SECOND), held_out, "counting")
        assert report.figures == {"exact": 0.5, "mae": 1.0}

    def test_answers(self, oracle: Make, held_out: list[Sample]) -> None:
        report = measured(oracle(EVERY_SECOND), held_out, "vqa")
        cases = report.counts["questions"]
        assert report.figures["accuracy"] == pytest.approx((cases - cases // 2) / cases)
        assert set(report.slices["kind"]) == set(VQA_KINDS)

    def test_empty_captions_recall_nothing(self, oracle: Make, held_out: list[Sample]) -> None:
        report = measured(oracle(ALWAYS), held_out, "caption")
        assert report.figures["recall"] == report.figures["f1"] == 0.0
        assert report.figures["precision"] is None

    def test_wrong_calls_show_in_the_table_of_tokens(self, oracle: Make, held_out: list[Sample]) -> None:
        report = measured(oracle(ALWAYS), held_out, "routing")
        assert report.figures["exact"] == 0.0
        assert {column for row in report.tables["tokens"].values() for column in row} == {"[SEG]"}
        assert (
            sum(sum(row.values()) for row in report.tables["tokens"].values()) == report.counts["sentences"]
        )


class TestRequests:
    def test_label_lists_mix_present_absent_and_foreign_labels(self, held_out: list[Sample]) -> None:
        asked = [detection.asked_labels(sample) for sample in held_out]
        assert all(2 <= len(request) <= 6 for request in asked)
        kinds = {
            "foreign" if label is None else "there" if sample.bearers(label) else "absent"
            for sample, request in zip(held_out, asked, strict=True)
            for _, label in request
        }
        assert kinds == {"foreign", "there", "absent"}
        assert all(parse_label(text) == label for request in asked for text, label in request)

    def test_an_object_is_a_truth_for_every_label_it_bears(self, held_out: list[Sample]) -> None:
        sample = next(s for s in held_out if s.objects[0].colour)
        thing = sample.objects[0]
        asked = [(label.text, label) for label in (Label(thing.kind), Label(thing.kind, thing.colour))]
        labels = {item.label for item in detection._truths(sample, asked) if item.box.xyxy == thing.box}
        assert labels == {text for text, _ in asked}

    def test_requests_depend_on_the_sample_alone(self, held_out: list[Sample]) -> None:
        for make in (
            detection.asked_labels,
            segmentation.asked_classes,
            grounding.expressions,
            counting.counted_labels,
            vqa.questions,
            routing.messages,
        ):
            assert [make(sample) for sample in held_out] == [make(sample) for sample in reversed(held_out)][
                ::-1
            ]

    def test_every_class_that_is_shown_is_asked_for(self, held_out: list[Sample]) -> None:
        for sample in held_out:
            division, classes = segmentation.asked_classes(sample)
            shown = [label for label in segmentation.DIVISIONS[division] if sample.bearers(label)]
            assert set(shown) <= set(classes)
            assert 0 < len(classes) <= len(shown) + 2

    def test_every_kind_of_request_is_routed(self, held_out: list[Sample]) -> None:
        kinds = {exchange.kind for sample in held_out for exchange in routing.messages(sample)}
        assert kinds >= {"detect", "segment", "ground", "mixed"}
        assert kinds <= set(routing.REQUESTS)
        assert set(MAKERS) <= set(routing.REQUESTS)

    @pytest.mark.parametrize(
        ("question", "either"),
        [
            ("Find the red ring", True),
            ("find the red ring and segment all stars", True),
            ("find the red rings", False),
            ("find every red ring", False),
            ("find red rings", False),
        ],
    )
    def test_one_known_thing_or_a_class(self, question: str, either: bool) -> None:
        links = (Link("[DET]", "red ring", Label("ring", "red")), ", ", Link("[SEG]", "star", Label("star")))
        assert routing.means_either(Exchange("detect", question, links)) is either

    def test_a_list_of_labels_means_classes(self) -> None:
        links = tuple(Link("[DET]", kind, Label(kind)) for kind in ("star", "ring"))
        assert not routing.means_either(Exchange("detect", "find the star and the ring", links))

    @pytest.mark.parametrize("topic", sorted(SMALL_TALK))
    def test_small_talk_is_unseen_and_needs_no_tool(self, topic: str, held_out: list[Sample]) -> None:
        assert not set(TRAINING[topic]) & set(HELD_OUT[topic])
        exchange = MAKERS["small_talk"](held_out[0].facts, Random(0), HELD_OUT)
        assert exchange is not None
        assert routing.wanted_calls(exchange) == []


class TestCaption:
    def test_objects_are_read_back(self) -> None:
        named = caption.named_objects("A large red circle, a dog, two things and an orange ring.")
        assert named == [Label("circle", "red", "large"), Label("dog"), None, Label("ring", "orange")]

    def test_nothing_is_no_object(self) -> None:
        assert caption.named_objects("Nothing.") == []

    def test_words_that_contain_and_are_not_cut(self) -> None:
        assert caption.named_objects("A sandy beach") == [None]

    def test_f1_by_hand(self, oracle: Make, held_out: list[Sample]) -> None:
        skill = caption.CaptionSkill()
        sample = next(s for s in held_out if len(s.objects) == 3 and s.objects[0].colour)
        first = caption.shown_objects(sample)[0]
        skill._score(sample, f"A {first.text} and a unicorn.")
        # One right of two named, one found of three there.
        assert skill.report().figures["f1"] == pytest.approx(2 * 1 / (2 + 3))

    def test_less_of_the_name_may_be_right(self, held_out: list[Sample]) -> None:
        skill = caption.CaptionSkill()
        sample = next(s for s in held_out if len(s.objects) == 1 and s.objects[0].colour)
        (thing,) = sample.objects
        other = "large" if thing.size == "small" else "small"
        skill._score(sample, f"A {other} {thing.colour} {thing.kind}.")
        figures = skill.report().figures
        assert (figures["f1"], figures["f1_colour_kind"], figures["f1_kind"]) == (0.0, 1.0, 1.0)


class TestAnswers:
    @pytest.mark.parametrize("given", ["Red", "red.", " red "])
    def test_case_blanks_and_a_stop_do_not_count(self, given: str) -> None:
        assert vqa.same_answer(given, "red")

    @pytest.mark.parametrize("given", ["", "dark red", "red or blue"])
    def test_other_words_do(self, given: str) -> None:
        assert not vqa.same_answer(given, "red")


def test_calls_of_several_labels_are_read_in_order() -> None:
    calls = (
        RoutedCall(token="[DET]", tool="detect", labels=("Star", "red  ring"), probability=1),
        RoutedCall(token="[SEG]", tool="detect", labels=("star",), probability=1),
    )
    given = routing.given_calls(Reply(text="", calls=calls))
    assert given == [("[DET]", "star"), ("[DET]", "red ring"), ("[SEG]", "star")]
    assert routing.tokens_of(given) == "[DET] [SEG]"
    assert routing.tokens_of([]) == "none"
