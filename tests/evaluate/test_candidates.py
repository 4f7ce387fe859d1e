import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.evaluate import candidates as module
from memxlnet.evaluate.candidates import CandidateBuffer, Candidates, compacted, no_candidates, packed

Span = tuple[int, int, int, float, int]
"""Document, start, stop, score, row."""

KINDS = [values.dtype for values in no_candidates()]

SPANS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 2), st.integers(3, 5), st.sampled_from([0.0, 1.0, 2.5]), st.integers(0, 4)
    )
)


def made(spans: list[Span]) -> Candidates:
    columns = zip(*spans, strict=True) if spans else [()] * 5
    return Candidates._make(np.array(values, kind) for values, kind in zip(columns, KINDS, strict=True))


def spans_of(found: Candidates) -> list[Span]:
    return list(zip(*(values.tolist() for values in found), strict=True))


def kept_by(buffer: CandidateBuffer) -> list[Span]:
    return [span for block in buffer.best() for span in spans_of(block.unpacked())]


def expected(spans: list[Span], n_best: int) -> list[Span]:
    best: dict[tuple[int, int, int], tuple[float, int]] = {}
    for document, start, stop, score, row in spans:
        key = document, start, stop
        if key not in best or (-score, row) < (-best[key][0], best[key][1]):
            best[key] = score, row
    ordered = sorted(best, key=lambda key: (key[0], -best[key][0], *key[1:]))
    kept: list[Span] = []
    for key in ordered:
        if sum(one[0] == key[0] for one in kept) < n_best:
            kept.append((*key, *best[key]))
    return kept


@given(SPANS, st.integers(1, 5))
def test_each_span_once_and_the_best_of_each_document(spans: list[Span], n_best: int) -> None:
    assert spans_of(compacted(made(spans), n_best)) == expected(spans, n_best)


@pytest.fixture(scope="module", params=[1, 2, 2048])
def documents_in_block(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_DOCUMENTS_IN_BLOCK", request.param)
        yield


@pytest.mark.usefixtures("documents_in_block")
@given(SPANS, st.integers(1, 5), st.data())
def test_neither_order_nor_parts_matter(spans: list[Span], n_best: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(spans))
    size = data.draw(st.integers(1, 5))
    buffer = CandidateBuffer(n_best)
    for at in range(0, len(shuffled), size):
        buffer.add(made(shuffled[at : at + size]))
        if data.draw(st.booleans()):
            buffer = CandidateBuffer(n_best, buffer.best())
        if data.draw(st.booleans()):
            buffer.best()
    assert kept_by(buffer) == expected(spans, n_best)


def test_compacts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_ABOVE", 100)
    random = np.random.default_rng(0)
    spans: list[Span] = [
        (int(document), int(start), int(start) + 1, float(score), 0)
        for document, start, score in zip(
            random.integers(0, 3, 5000), random.integers(0, 50, 5000), random.normal(size=5000), strict=True
        )
    ]
    buffer = CandidateBuffer(4)
    for at in range(0, len(spans), 10):
        buffer.add(made(spans[at : at + 10]))
        assert buffer._num_waiting <= 100
    assert kept_by(buffer) == expected(spans, 4)


def test_memory_follows_the_documents_and_not_what_came_in() -> None:
    buffer = CandidateBuffer(2)
    rows = np.arange(20_000)
    tracemalloc.start()
    try:
        for score in range(60):
            spans = Candidates(
                rows % 100, rows.astype(np.int32), (rows + 1).astype(np.int32), np.full(len(rows), float(score)), rows
            )
            buffer.add(spans)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(kept_by(buffer)) == 200
    # All that came in has 38 MB.
    assert peak < 16e6


@pytest.mark.parametrize(
    ("span", "size"),
    [
        ((7, 3, 5, 0.1, 9), 12),
        ((2**40, 2**16, 2**16 + 1, -np.inf, 2**41), 15),
        ((0, 0, 2**31 - 1, 1e300, 0), 15),
        ((2**31, 2**31 - 2, 2**31 - 1, np.nextafter(1, 2), 2**33), 15),
    ],
)
def test_packed_spans_are_exact(span: Span, size: int) -> None:
    far = (span[0] + 2047, span[1], span[2], 1.0, span[4] + 300)
    for spans in ([span], [span, far]):
        assert spans_of(packed(made(spans)).unpacked()) == spans
    assert sum(values.itemsize for values in packed(made([span]))[2:]) <= size
