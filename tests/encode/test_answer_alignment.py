"""Where an answer stands: in the characters, and in the tokens and segments of encoded documents."""

import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memxlnet.encode.answer_alignment import Alignment, Context, align
from tests.encode.label_oracle import compare_labels, core_of, smallest_run
from tests.encode.oracle import documents, encode, features, fragments, make_example, offsets_of
from tests.styles import STYLES, make, shared
from tests.support import in_quarters


def found(context: str, *golds: tuple[str, int]) -> Alignment:
    return align(Context(context), tuple(text for text, _ in golds), tuple(start for _, start in golds))


Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")


def nfkd(text: str) -> str:
    return unicodedata.normalize("NFKD", text)


def test_an_answer_at_its_offset_is_exact() -> None:
    assert found("a b a b", ("b", 6)) == Alignment("exact", "", 0, 6, 7)


def test_the_first_exact_answer_is_chosen() -> None:
    assert found("one two three", ("two", 5), ("three", 8), ("one", 0)) == Alignment("exact", "", 1, 8, 13)


def test_an_exact_answer_goes_before_an_earlier_one_that_needs_repair() -> None:
    assert found("one two three", ("one", 1), ("two", 4)).chosen == 1


def test_offsets_are_code_points() -> None:
    assert found("\U0001f600\U0001d11e Paris", ("Paris", 3)) == Alignment("exact", "", 0, 3, 8)


@pytest.mark.parametrize(
    ("given_at", "start"), [(0, 0), (3, 0), (4, 6), (7, 6), (9, 6), (10, 12), (99, 12), (-1, 0), (-99, 0)]
)
def test_a_shifted_answer_is_repaired_to_the_nearest_occurrence(given_at: int, start: int) -> None:
    alignment = found("Paris Paris Paris", ("Paris", given_at))
    if given_at == start:
        assert alignment == Alignment("exact", "", 0, start, start + 5)
    else:
        detail = f"answer 0 found at {start}, given at {given_at}"
        assert alignment == Alignment("repaired", detail, 0, start, start + 5)


def test_of_two_occurrences_at_the_same_distance_the_earlier_is_taken() -> None:
    assert found("ab..ab", ("ab", 2))[2:] == (0, 0, 2)


def test_occurrences_may_overlap_each_other() -> None:
    assert occurrences("aaaa", "aa") == [(0, 2), (1, 3), (2, 4)]
    assert occurrences("áaáa", "áa") == [(0, 2), (2, 4)]


def occurrences(text: str, answer: str) -> list[tuple[int, int]]:
    """Every occurrence: each is the nearest one to its own offset."""
    context = Context(text)
    return sorted({span for given in range(len(text) + 1) if (span := context.nearest(answer, given)) is not None})


@given(
    text=st.text("ae\u0301\u00e9", max_size=12),
    answer=st.text("ae\u0301\u00e9", max_size=3),
    given_at=st.integers(-3, 15),
)
def test_the_nearest_of_all_occurrences(text: str, answer: str, given_at: int) -> None:
    nearest = min(occurrences(text, answer), key=lambda span: (abs(span[0] - given_at), span[0]), default=None)
    assert Context(text).nearest(answer, given_at) == nearest


def test_a_search_in_a_long_text_of_one_letter_is_no_search_from_every_place() -> None:
    assert Context("a" * 300_000).nearest("a" * 100_000, 250_000) == (200_000, 300_000)
    long_cluster = "e" + "\u0301" * 300_000 + " Paris"
    assert Context(long_cluster).nearest("Paris", 0) == (300_002, 300_007)


def test_a_negative_offset_is_no_offset_from_the_end() -> None:
    assert found("one two", ("two", -3)) == Alignment("repaired", "answer 0 found at 4, given at -3", 0, 4, 7)


@pytest.mark.parametrize("form_of_answer", FORMS)
@pytest.mark.parametrize("form_of_context", FORMS)
@pytest.mark.parametrize("word", ["Ångström", "Việt", "한국어", "\ufb01sh", "カﾞ", "\u0915\u093c\u0940", "Ⅻ½"])
def test_an_answer_in_another_normal_form_is_found(form_of_context: Form, form_of_answer: Form, word: str) -> None:
    before, after = "é the ", " ends ﬁ."
    context = before + unicodedata.normalize(form_of_context, word) + after
    alignment = found(context, (unicodedata.normalize(form_of_answer, word), 3))
    assert alignment.status == "repaired"
    assert context[alignment.start : alignment.stop] == unicodedata.normalize(form_of_context, word)
    same = unicodedata.normalize(form_of_answer, word) == unicodedata.normalize(form_of_context, word)
    assert ("as its NFKD equal" in alignment.detail) == (not same)


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("caf\u00e9", "cafe"),
        ("cafe\u0301", "cafe"),
        ("e\u0301a", "\u0301a"),
        ("\u1e69", "s\u0323"),
        ("s\u0323\u0307", "s\u0323"),
        ("\uac01", "\uac00"),
        ("\u1100\u1161\u11a8", "\uac00"),
        ("\u1100\u1161\u11a8", "\u1100"),
        ("\uff76\uff9e", "\u30ab"),
        ("\ufb01", "f"),
        ("\u0f71\u0f72", "\u0f71"),
    ],
)
def test_no_answer_is_found_within_a_cluster(context: str, answer: str) -> None:
    assert found(context, (answer, 99)) == Alignment("dropped", "no gold answer occurs in the context")


def test_whole_clusters_are_found_beside_parts_of_others() -> None:
    assert found("caf\u00e9 cafe", ("cafe", 0)) == Alignment("repaired", "answer 0 found at 5, given at 0", 0, 5, 9)


def test_the_order_of_marks_does_not_matter() -> None:
    assert found("xs\u0323\u0307y", ("s\u0307\u0323", 0))[2:] == (0, 1, 4)


def test_the_first_answer_that_occurs_is_repaired() -> None:
    alignment = found("one two", ("zwei", 0), ("two", 0), ("one", 3))
    assert alignment == Alignment("repaired", "answer 1 found at 4, given at 0", 1, 4, 7)


def test_dropped_answers_have_a_reason() -> None:
    assert found("one", ("two", 0), ("three", 0)) == Alignment("dropped", "no gold answer occurs in the context")
    assert found("", ("one", 0)) == Alignment("dropped", "no gold answer occurs in the context")


@pytest.mark.parametrize(
    ("golds", "status"),
    [
        (["yes"], "yes_no"),
        (["No", "TRUE ", "false"], "yes_no"),
        (["yes", "5"], "dropped"),
        (["yes", "perhaps"], "dropped"),
        (["yes."], "dropped"),
        (["0"], "number"),
        (["-3.5", "1,024", "1.024,5", "1 024", "1\u202f024 %", "12%", ".5", "\u2212 7", "+7", "1'000'000"], "number"),
        (["\u0661\u0662\u066a"], "number"),
        *(
            (["7", text], "dropped")
            for text in ("1,0,2", "1.2.3", "1,024.000,5", "1,024 000", "1/2", "7 km", "seven", "--7")
        ),
        *((["7", text], "dropped") for text in ("%", ".", "5 5", "2020-01-01", "1.", "IV", "\u00bd")),
    ],
)
def test_yes_no_and_numbers_that_occur_nowhere_are_of_their_own_kind(golds: list[str], status: str) -> None:
    detail = "no gold answer occurs in the context" if status == "dropped" else ""
    assert found("one", *((gold, 0) for gold in golds)) == Alignment(status, detail)
    # One that occurs is an answer as any other.
    assert found("one", *((gold, 0) for gold in golds), ("one", 0)).status == "exact"


def test_no_answer_is_unanswerable() -> None:
    assert found("one") == Alignment("unanswerable")


MARKS = st.sampled_from(["e", "a", "\u00e9", "\u0301", "\u0323", "\u0307", "\u1e69", "s", "\ufb01", "f", "i", "\u0344"])
HANGUL = st.sampled_from(
    ["\uac00", "\uac01", "\u1100", "\u1161", "\u11a8", "\uffa1", "\uffc2", "\u3099", "\uff76", "\uff9e"]
)
OTHER = st.sampled_from(
    ["\u0f73", "\u0f71", "\u0f72", "\u09c7", "\u09be", "\u0915", "\u093c", "\u0958", " ", "\U0001d15e"]
)
near_texts = st.lists(st.one_of(MARKS, HANGUL, OTHER, st.characters(codec="utf-8")), max_size=9).map("".join)


def _boundaries(text: str) -> Iterator[int]:
    """Places where a text may be cut without cutting what normalisation puts together: found from the forms alone."""
    for place in range(len(text) + 1):
        head, tail = text[:place], text[place:]
        parts_stay = all(
            unicodedata.normalize(form, head) + unicodedata.normalize(form, tail) == unicodedata.normalize(form, text)
            for form in FORMS
        )
        if parts_stay and not (head and tail and unicodedata.combining(nfkd(tail)[0])):
            yield place


def _spans(text: str, answer: str) -> list[tuple[int, int]]:
    places = list(_boundaries(text))
    return [
        (start, stop) for start in places for stop in places if start < stop and nfkd(text[start:stop]) == nfkd(answer)
    ]


@given(text=near_texts, answer=near_texts, data=st.data())
def test_occurrences_are_all_spans_of_whole_clusters_with_the_same_normal_form(
    text: str, answer: str, data: st.DataObject
) -> None:
    if text and data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(text) - 1))
        answer = text[start : data.draw(st.integers(start + 1, len(text)))]
        answer = unicodedata.normalize(data.draw(st.sampled_from(FORMS)), answer)
    assert occurrences(text, answer) == (_spans(text, answer) if answer else [])


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFKC", "NFKD")])
@given(text=near_texts, answer=near_texts)
def test_composed_or_not_the_same_is_found(forms: tuple[Form, Form], text: str, answer: str) -> None:
    places = []
    for form in forms:
        written = unicodedata.normalize(form, text)
        spans = occurrences(written, answer)
        # As places of the decomposed text, where both are the same.
        places.append([(len(nfkd(written[:start])), len(nfkd(written[:stop]))) for start, stop in spans])
    assert places[0] == places[1]


@given(text=near_texts, golds=st.lists(st.tuples(near_texts.filter(str.strip), st.integers(-3, 12)), max_size=3))
def test_the_rule_of_the_choice(text: str, golds: list[tuple[str, int]]) -> None:
    alignment = found(text, *golds)
    exact = [n for n, (gold, at) in enumerate(golds) if at >= 0 and text[at : at + len(gold)] == gold]
    elsewhere = [number for number, (gold, _) in enumerate(golds) if _spans(text, gold)]
    if not golds:
        assert alignment == Alignment("unanswerable")
    elif exact:
        gold, at = golds[exact[0]]
        assert alignment == Alignment("exact", "", exact[0], at, at + len(gold))
    elif elsewhere:
        gold, at = golds[elsewhere[0]]
        nearest = min(_spans(text, gold), key=lambda span: (abs(span[0] - at), span[0]))
        assert (alignment.status, alignment.chosen, (alignment.start, alignment.stop)) == (
            "repaired",
            elsewhere[0],
            nearest,
        )
        assert f"answer {elsewhere[0]} found at {nearest[0]}" in alignment.detail
        assert alignment.detail.endswith(f"given at {at}")
    else:
        assert alignment.status in ("dropped", "number")
        assert alignment[2:] == (-1, -1, -1)
        assert bool(alignment.detail) == (alignment.status == "dropped")


def answer_tokens(name: str, context: str, answer: str, at: int) -> str:
    """The text that the chosen tokens cover."""
    tables = encode(shared(name), [make_example(context, "?", [(answer, at)])], max_seq_length=64, doc_stride=8)
    [row], [mapping] = features(tables), offsets_of(tables)
    assert row["has_answer_in_segment"] == 1
    chosen = mapping[row["start_positions"] : row["end_positions"] + 1]
    return context[chosen[0][0] : chosen[-1][1]]


@pytest.mark.parametrize("name", ["xlnet", "bert-uncased", "bert-cased", "roberta", "roberta-untrimmed"])
@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("was born (1990 in Paris)", "1990"),
        ("was born in the 1990s", "1990"),
        ("a German-born of Paris", "German"),
        ("a German-born of Paris", "born"),
        ("the river", "river"),
        ("in  1990  was", "1990"),
    ],
)
def test_no_neighbour_is_pulled_in_and_nothing_is_lost(name: str, context: str, answer: str) -> None:
    covered = answer_tokens(name, context, answer, context.index(answer))
    assert covered.strip() == answer


def test_an_answer_within_a_token_takes_the_whole_token() -> None:
    assert answer_tokens("xlnet", "the Paris river", "ari", 5) == "Paris"


ENCODED = ["xlnet", "bert-uncased", "roberta", "roberta-untrimmed"]


@pytest.mark.parametrize("name", ENCODED)
@in_quarters
@given(data=st.data(), parts=st.lists(fragments, min_size=1, max_size=20), memory_tokens=st.sampled_from([0, 2]))
def test_answers_of_encoded_documents(
    name: str, quarter: int, data: st.DataObject, parts: list[str], memory_tokens: int
) -> None:
    """Documents and segments hold what the rule says, recomputed from offsets and columns."""
    context = "".join(parts)
    assume(context)
    start = data.draw(st.integers(0, len(context) - 1))
    stop = data.draw(st.integers(start + 1, min(len(context), start + 30)))
    assume(context[start:stop].strip())
    overhead = STYLES[name].overhead + 2 * memory_tokens
    settings = {
        "max_seq_length": overhead + data.draw(st.integers(12, 30)),
        "doc_stride": data.draw(st.integers(0, 9)),
        "max_n_segs": data.draw(st.sampled_from([None, None, 1, 2])),
    }
    made = make_example(context, "is", [(context[start:stop], start)])
    tables = encode(shared(name, memory_tokens), [made], **settings)
    [document], [pool] = documents(tables), tables["contexts"].to_pylist()
    tokens = list(zip(pool["token_starts"], pool["token_stops"], strict=True))
    run = smallest_run(context, tokens, core_of(context, tokens, start, stop))
    if run is not None:
        assert (document["alignment"], document["chosen_answer"]) == ("exact", 0)
        assert (document["answer_char_start"], document["answer_char_stop"]) == (start, stop)
        assert (document["answer_token_start"], document["answer_token_stop"]) == (run[0], run[1] + 1)
    else:
        assert (document["alignment"], document["chosen_answer"]) == ("dropped", -1)
        assert document["alignment_detail"] == f"answer 0 at {start}: no token of the context overlaps it"
        assert document["answer_char_start"] == document["answer_char_stop"] == -1
        assert document["answer_token_start"] == document["answer_token_stop"] == -1
    assert set(compare_labels(tables)) <= {"rows"}


@pytest.mark.parametrize("name", ["xlnet", "bert-uncased"])
def test_an_answer_longer_than_the_overlap_may_be_whole_in_no_segment(name: str) -> None:
    context = "a " * 40
    answers = [("a a a a a a", 10)]
    # Rows with room for 8 tokens, that share 2: tokens 5 to 10 lie across the cut at 8.
    length = STYLES[name].overhead + 1 + 8
    tables = encode(make(name), [make_example(context, "is", answers)], max_seq_length=length, doc_stride=2)
    [document] = documents(tables)
    assert (document["alignment"], document["answer_token_start"], document["answer_token_stop"]) == ("exact", 5, 11)
    assert document["num_answer_segments"] == 0
    assert document["num_segments"] > 1
    assert all(row["start_positions"] == row["cls_index"] for row in features(tables))


def test_an_answer_after_max_n_segs_keeps_its_alignment() -> None:
    context = "a " * 40 + "Paris"
    examples = [make_example(context, "is", [("Paris", 80)])]
    settings: dict[str, Any] = {"max_seq_length": 12, "doc_stride": 2}
    [whole] = documents(encode(make("xlnet"), examples, **settings))
    [cut] = documents(encode(make("xlnet"), examples, max_n_segs=2, **settings))
    assert (whole["num_answer_segments"], cut["num_answer_segments"]) == (1, 0)
    assert (cut["alignment"], cut["answer_char_start"], cut["answer_token_start"]) == ("exact", 80, 40)
    assert cut["num_segments"] == 2


def test_an_answer_in_the_overlap_is_in_both_segments() -> None:
    # Room for 8 tokens of context in a row, 4 of them shared: token 5 is in both.
    context = "a a a a a Paris a a a a a a"
    tables = encode(make("xlnet"), [make_example(context, "is", [("Paris", 10)])], max_seq_length=12, doc_stride=4)
    assert [row["start_positions"] for row in features(tables)] == [5, 1]
    assert documents(tables)[0]["num_answer_segments"] == 2


def test_every_document_has_a_status() -> None:
    golds: list[list[tuple[str, int]]] = [[("river", 4)], [("river", 0)], [("sea", 4)], []]
    examples = [make_example("the river", "is", gold, row) for row, gold in enumerate(golds)]
    tables = encode(make("xlnet"), examples, max_seq_length=16, doc_stride=2)
    assert [row["alignment"] for row in documents(tables)] == ["exact", "repaired", "dropped", "unanswerable"]
    assert [row["answer_texts"] for row in documents(tables)] == [["river"], ["river"], ["sea"], []]
    assert [row["answer_starts"] for row in documents(tables)] == [[4], [0], [4], []]
    assert [row["has_answer_in_segment"] for row in features(tables)] == [1, 1, 0, 0]
