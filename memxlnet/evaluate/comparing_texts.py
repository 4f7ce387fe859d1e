"""How official scripts compare an answer with its golds: a rule for each script, chosen by its name.

``squad`` is ``evaluate-v2.0.py`` of SQuAD 2.0 (Rajpurkar, Jia and Liang: Know What You Don't Know: Unanswerable
Questions for SQuAD, 2018); ``squad-v1.1`` is ``evaluate-v1.1.py``, which XQuAD uses as well; ``mrqa`` is
``mrqa_official_eval.py`` of the MRQA 2019 shared task; ``mlqa`` is ``mlqa_evaluation_v1.py`` (Lewis et al.: MLQA:
Evaluating Cross-lingual Extractive Question Answering, 2020), which has rules for each language.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple, get_args

from memxlnet.errors import SettingsError
from memxlnet.settings import one_of

Normalization = Literal["squad", "squad-v1.1", "mrqa", "mlqa"]
"""Whose script decides when two answers are equal."""

_ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ENGLISH_ARTICLE_WORDS = frozenset(("a", "an", "the"))
_WITHOUT_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ASCII_PUNCTUATION = string.punctuation.encode()


class _WithoutPunctuation(dict[int, str | None]):
    """A table for `str.translate` that removes ASCII punctuation and every category P of Unicode, filled on demand."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        removed = character in string.punctuation or unicodedata.category(character).startswith("P")
        self[code] = None if removed else character
        return self[code]


_WITHOUT_PUNCTUATION = _WithoutPunctuation()

_MLQA_ARTICLES: dict[str, re.Pattern[str] | None] = {
    # The script's Arabic pattern has a second branch, with ^ after a character, that never matches.
    "ar": re.compile("ال"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "en": _ENGLISH_ARTICLES,
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "hi": None,
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
    "zh": None,
}
"""What counts as an article, by language; None where a language has no articles."""

MLQA_LANGUAGES = tuple(_MLQA_ARTICLES)

_HAN = re.compile("([\u4e00-\u9fa5])")
"""Characters that are words by themselves in Chinese, as far as the script knows them."""


def normalize_answer(text: str) -> str:
    """Return the normal form under which the official scripts of SQuAD compare answers.

    Lower case, without ASCII punctuation, without the articles a, an and the, runs of white space as one blank.

    Args:
        text: An answer.
    """
    if text.isascii() and text.isprintable():
        # Letters, digits and blanks alone are left, so that articles are whole words: four times as fast.
        words = text.lower().encode().translate(None, _ASCII_PUNCTUATION).decode().split()
        return " ".join([word for word in words if word not in _ENGLISH_ARTICLE_WORDS])
    bare = text.lower().translate(_WITHOUT_ASCII_PUNCTUATION)
    return " ".join(_ENGLISH_ARTICLES.sub(" ", bare).split())


def _mlqa_normal_form(language: str) -> Callable[[str], str]:
    articles = _MLQA_ARTICLES[language]

    def normal_form(text: str) -> str:
        bare = text.lower().translate(_WITHOUT_PUNCTUATION)
        if articles is not None:
            bare = articles.sub(" ", bare)
        if language == "zh":
            bare = _HAN.sub(r" \1 ", bare)
        return " ".join(bare.split())

    return normal_form


class Score(NamedTuple):
    """Exact match and F1 of an answer, from 0 to 1: the best over the golds, each for itself."""

    exact: int
    f1: float


class Rule(NamedTuple):
    """How an official script compares answers.

    Attributes:
        name: Name of the script.
        normal_form: The normal form of a text; its words are separated by one blank.
        knows_no_answer: Golds without a normal form do not count, where none is left the gold is an empty text, and
            two texts without words share all of their words. Otherwise every gold counts, there must be one, and such
            texts share no word.
    """

    name: str
    normal_form: Callable[[str], str]
    knows_no_answer: bool

    def golds(self, texts: Iterable[str]) -> list[str]:
        """Return the golds that count."""
        if not self.knows_no_answer:
            return list(texts)
        return [text for text in texts if self.normal_form(text)] or [""]

    def score(self, golds: Collection[str], predicted: str) -> Score:
        """Return the score of an answer; at least one gold is needed unless `knows_no_answer`."""
        found = self.normal_form(predicted)
        if found and predicted in golds:
            return Score(1, 1.0)  # most answers of a good model: no gold needs its normal form
        forms = dict.fromkeys(map(self.normal_form, golds))
        if self.knows_no_answer:
            forms.pop("", None)
            forms = forms or {"": None}
        if found in forms and (found or self.knows_no_answer):
            return Score(1, 1.0)
        words = found.split()
        f1 = max([_f1(form.split(), words) for form in forms]) if words else 0.0
        return Score(int(found in forms), f1)


def _f1(gold: list[str], predicted: list[str]) -> float:
    """Return F1 of the words of two different texts."""
    left: dict[str, int] = {}
    for word in gold:
        left[word] = left.get(word, 0) + 1
    shared = 0
    for word in predicted:
        if left.get(word):
            left[word] -= 1
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


SQUAD = Rule("squad", normalize_answer, knows_no_answer=True)

_RULES = {
    rule.name: rule for rule in (SQUAD, *(Rule(name, normalize_answer, False) for name in ("squad-v1.1", "mrqa")))
}


def find_rule(normalization: Normalization = "squad", language: str | None = None) -> Rule:
    """Return the rule of an official script.

    Args:
        normalization: One of `Normalization`.
        language: For ``"mlqa"``: the language of the answers, one of `MLQA_LANGUAGES`; else None.

    Raises:
        SettingsError: There is no such script, or it has no rule for the language.
    """
    name = one_of("normalization", normalization, get_args(Normalization))
    if name != "mlqa":
        if language is not None:
            raise SettingsError(
                f"language: expected None with normalization={name!r}, whose script has the same rule for all "
                f"languages, found {language!r:.80}; normalization='mlqa' has one for each of "
                f"{', '.join(MLQA_LANGUAGES)}"
            )
        return _RULES[name]
    if not isinstance(language, str) or language not in _MLQA_ARTICLES:
        raise SettingsError(
            f"language: expected one of {', '.join(MLQA_LANGUAGES)}, for which the script of MLQA has a rule, found "
            f"{language!r:.80}"
        )
    return Rule(name, _mlqa_normal_form(language), knows_no_answer=False)
