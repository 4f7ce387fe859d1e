"""The label of a window is the smallest run of its tokens that holds the answer: against every run there is."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from memxlnet.encode import answer_labels
from memxlnet.encode.answer_labels import AnswerTokens, non_blank_counts
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import parse_example
from memxlnet.encode.token_pool import TokenPool
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.format.ragged import bounds_of
from memxlnet.settings import EncodeSettings
from memxlnet.sources import open_source
from tests.encode.families import FAMILIES, LANGUAGES, family
from tests.encode.label_oracle import Token, compare_labels, core_of, smallest_run
from tests.encode.oracle import documents, encode, features, make_example
from tests.styles import STYLES, shared
from tests.support import SQUAD, need_real_data, slow_but, xquad


def pool_of(contexts: Sequence[Sequence[Token]]) -> TokenPool:
    tokens = [token for context in contexts for token in context]
    starts, stops = np.array(tokens, np.int32).reshape(-1, 2).T
    bounds = bounds_of(np.array([len(context) for context in contexts], np.int64))
    return TokenPool(np.zeros(len(tokens), np.int32), starts, stops, bounds)


def label(text: str, tokens: Sequence[Token], answer: Token, window: tuple[int, int] | None = None) -> list[int]:
    """The label of one window (first token and number of tokens), of the whole context where none is given."""
    found = AnswerTokens([text], pool_of([tokens]), *np.array([[0], [0], [answer[0]], [answer[1]]]))
    if window is None:
        return [int(side[0]) for side in found.documents]
    return [int(side[0]) for side in found.in_windows(*np.array([[0], [window[0]], [window[1]]]))]


NONE = [-1, -1]


@pytest.mark.parametrize(
    ("text", "tokens", "answer", "expected"),
    [
        ("abcdefghi", [(0, 3), (3, 7), (7, 9)], (3, 7), [1, 2]),
        ("(1999", [(0, 5)], (1, 5), [0, 1]),
        ("1990s", [(0, 4), (4, 5)], (0, 4), [0, 1]),
        ("abcdef", [(0, 2), (2, 4), (4, 6)], (1, 5), [0, 3]),
        ("abcd", [(0, 2), (2, 2), (2, 4)], (2, 4), [2, 3]),  # zero width before
        ("abcd", [(0, 2), (2, 4), (4, 4)], (2, 4), [1, 2]),  # zero width after
        ("abcd", [(0, 2), (1, 1), (2, 4)], (0, 4), [0, 3]),  # zero width within
        ("abcd", [(1, 1), (3, 3)], (0, 4), NONE),
        ("ab cd", [(0, 2), (2, 3), (3, 5)], (2, 3), NONE),
        ("ab cd", [(0, 2), (2, 3), (3, 5)], (2, 5), [2, 3]),  # a lone blank before
        ("ab cd", [(0, 2), (2, 3), (3, 5)], (0, 3), [0, 1]),  # and after
        ("ab cd", [(0, 2), (2, 3), (3, 5)], (0, 5), [0, 3]),  # and within
        ("ab cd", [(0, 2), (2, 5)], (3, 5), [1, 2]),  # a blank that is part of its word
        ("ab cd", [(0, 2), (3, 4), (3, 5)], (3, 5), [2, 3]),  # the blank has the word's first character
        ("ab cd", [(0, 2), (3, 4), (3, 5)], (3, 4), [1, 2]),  # of which it is the shorter text
        ("a  \u3000b", [(0, 1), (3, 4), (4, 5)], (1, 5), [2, 3]),
        ("xay", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], (1, 2), [1, 2]),  # bytes of one character: the first
        ("xaby", [(0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (3, 4)], (1, 3), [2, 4]),  # of two: the fewest tokens
        ("ab", [(0, 2), (1, 2)], (1, 2), [1, 2]),  # a byte of b within the token before: the shortest text
        ("ab", [(0, 2), (0, 2), (1, 2), (1, 2)], (1, 2), [2, 3]),
        ("abcd", [(0, 1), (3, 4)], (0, 4), [0, 2]),  # characters without a token, within
        ("abcd", [(0, 1), (3, 4)], (1, 4), [1, 2]),  # and at the ends
        ("abcd", [(0, 1), (3, 4)], (1, 3), NONE),
        ("abcd", [(2, 3), (0, 1), (3, 4), (1, 2)], (0, 2), [1, 4]),  # out of order
        ("abcd", [(2, 4), (0, 2)], (0, 4), NONE),
        ("abcd", [(2, 4), (0, 2), (0, 4)], (2, 4), [0, 1]),
        ("", [], (0, 1), NONE),
    ],
)
def test_written_out(text: str, tokens: list[Token], answer: Token, expected: list[int]) -> None:
    assert label(text, tokens, answer) == expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [((0, 1), NONE), ((0, 2), [1, 2]), ((0, 5), [1, 2]), ((2, 3), [2, 3]), ((3, 2), [3, 4]), ((4, 1), NONE)],
)
def test_any_token_of_one_character_is_enough_for_a_window(window: tuple[int, int], expected: list[int]) -> None:
    assert label("xay", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], (1, 2), window) == expected


def test_a_blank_in_the_window_before_decides_nothing() -> None:
    tokens = [(0, 2), (2, 3), (3, 5), (5, 6), (6, 8)]
    assert label("ab cd ef", tokens, (2, 6), (2, 3)) == [2, 3]
    assert label("ab cd ef", tokens, (3, 8), (2, 2)) == NONE


_TEXTS = st.text("ab \u3000", max_size=9)


@st.composite
def tokens_of(draw: st.DrawFn, text: str) -> list[Token]:
    """Tokens as tokenizers give them, or anyhow: of no width, sharing characters, apart, out of order."""
    places = st.integers(0, len(text))
    tokens = [(min(pair), max(pair)) for pair in draw(st.lists(st.tuples(places, places), max_size=9))]
    return tokens if draw(st.integers(0, 3)) == 0 else sorted(tokens, key=lambda token: (sum(token), token))


@st.composite
def contexts(draw: st.DrawFn) -> list[tuple[str, list[Token]]]:
    texts = draw(st.lists(_TEXTS, min_size=1, max_size=4))
    return [(text, draw(tokens_of(text))) for text in texts]


@given(found=contexts(), data=st.data(), group=st.sampled_from([1, 8, 1 << 18]))
@example(found=[("a", [(0, 1)]), ("", []), ("b", [(0, 1)])], data=None, group=1)
def test_many_answers_in_many_windows(found: list[tuple[str, list[Token]]], data: Any, group: int) -> None:
    answers, windows = [], []
    for number, (text, tokens) in enumerate(found):
        for _ in range(data.draw(st.integers(0, 3)) if data else 1):
            start = data.draw(st.integers(-1, len(text) - 1)) if data else -1 + len(text)
            stop = data.draw(st.integers(start + 1, len(text))) if data and start >= 0 else start + 1
            answers.append((number, start, stop if start >= 0 else -1))
            first = data.draw(st.integers(0, len(tokens))) if data else 0
            windows.append((len(answers) - 1, first, (data.draw(st.integers(0, 9)) if data else 9)))
    windows = [
        (answer, first, min(count, len(found[answers[answer][0]][1]) - first)) for answer, first, count in windows
    ]
    order = np.arange(len(found))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answer_labels, "GROUP_CHARACTERS", group)
        pool = pool_of([tokens for _, tokens in found])
        made = AnswerTokens([text for text, _ in found], pool, order, *np.array(answers, np.int64).reshape(-1, 3).T)
    in_windows = made.in_windows(*np.array(windows, np.int64).reshape(-1, 3).T)
    for at, (answer, first, count) in enumerate(windows):
        number, start, stop = answers[answer]
        text, tokens = found[number]
        core = core_of(text, tokens, start, stop) if start >= 0 else None
        for base, part, one in ((0, tokens, made.documents), (first, tokens[first : first + count], in_windows)):
            run = smallest_run(text, part, core)
            event("none" if run is None else "some")
            expected = (-1, -1) if run is None else (base + run[0], base + run[1] + 1)
            which = answer if one is made.documents else at
            assert (int(one.start[which]), int(one.stop[which])) == expected


def test_blanks_are_those_of_python() -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert non_blank_counts(everything)[1:].tolist() == np.cumsum([not c.isspace() for c in everything]).tolist()
    assert non_blank_counts("").tolist() == [0]


def test_a_text_of_any_length_is_looked_at_in_groups() -> None:
    assert list(answer_labels._groups(["a" * 5, "", "b" * (1 << 18), "c", "d" * ((1 << 18) - 1), "e"])) == [
        (0, 2),
        (2, 3),
        (3, 5),
        (5, 6),
    ]


@pytest.mark.parametrize("name", STYLES)
def test_blanks_around_an_answer_never_decide(name: str) -> None:
    """The same words, with one or with many blanks: the same answers in the same number of windows."""
    held = []
    for blank in (" ", "   ", " \u3000 ", "\t\n"):
        context = blank.join(["the river of Paris was in a capital"] * 3 + ["born"] + ["of the German river"] * 3)
        made = make_example(context, "is", [("born", context.index("born"))])
        tables = encode(shared(name), [made], max_seq_length=STYLES[name].overhead + 2 + 20, doc_stride=19)
        assert set(compare_labels(tables)) == {"rows"}
        held.append(documents(tables)[0]["num_answer_segments"])
        rows = [row for row in features(tables) if row["has_answer_in_segment"]]
        assert rows
        tokens = tables["contexts"].to_pylist()[0]
        for row in rows:
            shift = row["context_token_start"] - row["context_row_start"]
            start, stop = (
                tokens["token_starts"][row["start_positions"] + shift],
                tokens["token_stops"][row["end_positions"] + shift],
            )
            assert context[start:stop].strip() == "born"


class Source(NamedTuple):
    """Real data: its name, and the sizes of rows."""

    name: str
    length: int
    overlap: int


def wrong_labels(name: str, source: Source, most: int | None) -> Counter[str]:
    tokenizer = family(name)
    content = read_tokenizer(tokenizer)
    settings = EncodeSettings(max_seq_length=source.length, doc_stride=source.overlap, on_bad_example="drop")
    encoder = Encoder(content.backend, content.layout, settings)
    rows = open_source(SQUAD if source.name == "squad" else xquad(source.name), "test").rows()
    examples = [parse_example(row, raw, "real") for row, raw in zip(range(most or 10**6), rows, strict=False)]
    found: Counter[str] = Counter()
    for start in range(0, len(examples), 500):
        tables = encoder.encode(examples[start : start + 500])
        assert tables["dropped"].num_rows < 50  # questions of many tokens
        found += compare_labels(tables)
    return found


@pytest.mark.real_data
@pytest.mark.parametrize("name", slow_but(["roberta", "bert-uncased", "decomposed"], FAMILIES))
def test_real_texts_and_tokenizers_of_every_family(name: str) -> None:
    need_real_data()
    found = sum((wrong_labels(name, Source(language, 128, 32), 40) for language in LANGUAGES), Counter[str]())
    assert found == {"rows": found["rows"]}
    assert found["rows"] > 200


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("length", "overlap"), [(384, 128), (128, 32)])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_real_texts_and_tokenizers_of_every_family(name: str, length: int, overlap: int) -> None:
    need_real_data()
    for source in (*LANGUAGES, "squad"):
        found = wrong_labels(name, Source(source, length, overlap), None)
        assert found == {"rows": found["rows"]}, source
        assert found["rows"] > 1000
