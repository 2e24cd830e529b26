"""How near one text is to others: answers of a word, and captions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

_ARTICLES: Final = {"a", "an", "the"}
_AGREE: Final = 3
"""Annotators who must have given an answer for it to count in full (VQA v2)."""


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation and articles."""
    return [word for word in re.findall(r"[\w']+", text.casefold()) if word not in _ARTICLES]


def answer_score(given: str, accepted: Sequence[str]) -> float:
    """VQA accuracy: 1 for an accepted answer; of ten annotators, a third for each that agrees, 1 at most."""
    same = sum(words_of(given) == words_of(answer) for answer in accepted)
    return min(1.0, same / _AGREE) if len(accepted) > _AGREE else float(same > 0)


def caption_f1(given: str, wanted: str) -> float:
    """Harmonic mean of precision and recall of words."""
    mine, theirs = Counter(words_of(given)), Counter(words_of(wanted))
    common = (mine & theirs).total()
    return 2 * common / (mine.total() + theirs.total()) if common else 0.0


def rouge_l(given: str, wanted: str) -> float:
    """F1 of the longest common subsequence of words (Lin, 2004)."""
    mine, theirs = words_of(given), words_of(wanted)
    row = [0] * (len(theirs) + 1)
    for word in mine:
        previous = row[:]
        for place, other in enumerate(theirs, start=1):
            row[place] = previous[place - 1] + 1 if word == other else max(previous[place], row[place - 1])
    return 2 * row[-1] / (len(mine) + len(theirs)) if row[-1] else 0.0


def bleu4(pairs: Sequence[tuple[str, Sequence[str]]]) -> float:
    """Corpus BLEU of up to four words, without smoothing (Papineni et al., 2002)."""
    hits, totals, own, nearest = [0] * 4, [0] * 4, 0, 0
    for given, references in pairs:
        mine, texts = words_of(given), [words_of(one) for one in references]
        own += len(mine)
        nearest += min((abs(len(text) - len(mine)), len(text)) for text in texts)[1]
        for size in range(1, 5):
            grams = _grams(mine, size)
            best: Counter[tuple[str, ...]] = Counter()
            for text in texts:
                best |= _grams(text, size)
            hits[size - 1] += (grams & best).total()
            totals[size - 1] += grams.total()
    if not all(hits):
        return 0.0
    precision = sum(math.log(hit / total) for hit, total in zip(hits, totals, strict=True)) / 4
    return math.exp(precision + min(0.0, 1 - nearest / own))


def _grams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
