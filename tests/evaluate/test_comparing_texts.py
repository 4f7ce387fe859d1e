import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SettingsError
from memxlnet.evaluate.comparing_texts import MLQA_LANGUAGES, SQUAD, find_rule
from tests.evaluate import official_scripts as official
from tests.evaluate import official_squad
from tests.support import need_real_data, slow_but, xquad

PIECES = [
    *("the", "The", "a", "an", "der", "die", "das", "el", "la", "Los", "của", "là", "những", "ال", "البيت", " ال ب"),
    *("中", "文", "龥", "龦", "あ", "x", "9", "É", "e\u0301", "\u0130", "ß", "हिन्दी", "।"),
    *(
        " ",
        "  ",
        "\t",
        "\u00a0",
        "\u3000",
        "\u200b",
        ".",
        ",",
        "'",
        "\u2019",
        "«",
        "、",
        "？",
        "$",
        "£",
        "_",
        "\U0001f600",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
RULES = sorted(official.RULES, key=str)


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(golds=st.lists(TEXTS, min_size=1, max_size=3), predicted=TEXTS)
def test_equals_the_official_script(rule: tuple[Any, ...], golds: list[str], predicted: str) -> None:
    found, normal = find_rule(*rule), official.RULES[rule]
    assert found.normal_form(predicted) == normal(predicted)
    assert found.score(golds, predicted) == official.scores(golds, predicted, normal)


@pytest.mark.slow
def test_every_character_is_removed_or_kept_as_in_the_script_of_mlqa() -> None:
    found = find_rule("mlqa", "de").normal_form
    wrong = [
        character
        for character in map(chr, (*range(0xD800), *range(0xE000, 0x110000, 1)))
        if (found(f"x{character}y") == "xy") != (character in official.punctuation())
    ]
    assert wrong == []


def variants(text: str, source: random.Random) -> list[str]:
    """Predictions near a gold: itself, cut, with more words, in another case."""
    words = text.split()
    cut = text[: source.randrange(len(text) + 1)]
    return [text, cut, f"the {text}.", " ".join(reversed(words)), text.upper(), f"{text} {cut}", ""]


@pytest.mark.real_data
@pytest.mark.parametrize(
    "case",
    slow_but(
        [("squad-v1.1", "ar"), ("mlqa", "zh")],
        itertools.product(["squad", "squad-v1.1", "mrqa", "mlqa"], ["en", "ar", "zh", "hi"]),
    ),
)
def test_equals_the_official_script_on_every_example(case: tuple[Any, str]) -> None:
    need_real_data()
    name, language = case
    rule = find_rule(name, language if name == "mlqa" else None)
    source = random.Random(language)
    questions = official_squad.questions(official_squad.read_articles(xquad(language)))
    assert len(questions) == 1190
    for qa in questions:
        golds = [answer["text"] for answer in qa["answers"]]
        for predicted in variants(golds[0], source):
            if name == "squad":
                exact, f1 = (
                    max(score(gold, predicted) for gold in golds)
                    for score in (official_squad.compute_exact, official_squad.compute_f1)
                )
            else:
                exact, f1 = official.scores(
                    golds, predicted, official.RULES[name, language if name == "mlqa" else None]
                )
            assert rule.score(golds, predicted) == (exact, f1)


def test_the_last_language_of_the_table_is_known_to_the_oracle() -> None:
    assert {language for name, language in official.RULES if name == "mlqa"} == set(MLQA_LANGUAGES)


def test_two_texts_without_words() -> None:
    assert SQUAD.score(["the"], "a") == (1, 1.0)
    assert find_rule("mrqa").score(["the"], "a") == (1, 0.0)


@pytest.mark.parametrize(
    ("name", "language", "message"),
    [
        ("squad-v3", None, "^normalization: expected 'squad' or 'squad-v1.1' or 'mrqa' or 'mlqa', found 'squad-v3'"),
        (None, None, "^normalization: .*found None"),
        ("squad", "de", "^language: expected None with normalization='squad'.*found 'de'.*mlqa.*zh"),
        ("mlqa", None, "^language: expected one of ar, de, en, es, hi, vi, zh.*found None"),
        ("mlqa", "fr", "^language: .*found 'fr'"),
        ("mlqa", ["de"], r"^language: .*found \['de'\]"),
    ],
)
def test_wrong_names(name: Any, language: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        find_rule(name, language)
