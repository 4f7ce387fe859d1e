"""The official metrics of SQuAD v1.1, MRQA and MLQA, each after its script; nothing of the library in it.

``evaluate-v1.1.py``, ``mrqa_official_eval.py`` and ``mlqa_evaluation_v1.py``. The first two have the same functions.
"""

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

Normal = Callable[[str], str]


def normalized_v1(text: str) -> str:
    exclude = set(string.punctuation)
    text = "".join(character for character in text.lower() if character not in exclude)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@cache
def punctuation() -> frozenset[str]:
    every = map(chr, range(sys.maxunicode))
    return frozenset(one for one in every if unicodedata.category(one).startswith("P")) | set(string.punctuation)


ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": "\\sال^|ال",
    "zh": None,
}


def mixed_segmentation(text: str) -> Iterator[str]:
    waiting = ""
    for character in text:
        if re.search("[\u4e00-\u9fa5]", character) or character in punctuation():
            if waiting:
                yield from waiting.split()
                waiting = ""
            yield character
        else:
            waiting += character
    if waiting:
        yield from waiting.split()


def normalized_mlqa(text: str, language: str) -> str:
    exclude = punctuation()
    text = "".join(character for character in text.lower() if character not in exclude)
    pattern = ARTICLES[language]
    if pattern is not None:
        text = re.sub(pattern, " ", text)
    words = mixed_segmentation(text) if language == "zh" else text.split()
    return " ".join(word for word in words if word.strip() != "")


def f1_score(predicted: str, gold: str, normal: Normal) -> float:
    predicted_words, gold_words = normal(predicted).split(), normal(gold).split()
    same = sum((Counter(predicted_words) & Counter(gold_words)).values())
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(predicted_words), 1.0 * same / len(gold_words)
    return (2 * precision * recall) / (precision + recall)


def scores(golds: list[str], predicted: str, normal: Normal) -> tuple[int, float]:
    """Exact match and F1 of one question."""
    exact = max(int(normal(predicted) == normal(gold)) for gold in golds)
    return exact, max(f1_score(predicted, gold, normal) for gold in golds)


def evaluate(golds: dict[str, list[str]], predictions: dict[str, str], normal: Normal) -> dict[str, float]:
    """Each script's main, for predictions of all questions."""
    exact = f1 = 0.0
    for name, texts in golds.items():
        own = scores(texts, predictions[name], normal)
        exact += own[0]
        f1 += own[1]
    return {"exact_match": 100.0 * exact / len(golds), "f1": 100.0 * f1 / len(golds)}


RULES: dict[tuple[Any, ...], Normal] = {
    ("squad-v1.1", None): normalized_v1,
    ("mrqa", None): normalized_v1,
    **{("mlqa", language): partial(normalized_mlqa, language=language) for language in ARTICLES},
}
