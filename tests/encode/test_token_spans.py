"""Many spans searched at once are the spans found one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.encode.answers import token_span, token_spans
from memxlnet.encode.tokens import TokenPool, bounds_of

Token = tuple[int, int]

anywhere = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=8)
in_order = anywhere.map(lambda tokens: sorted(tokens))


@given(
    contexts=st.lists(st.one_of(in_order, anywhere), min_size=1, max_size=5),
    spans=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 16), st.integers(1, 6)), max_size=8),
)
def test_many_spans_at_once(contexts: list[list[Token]], spans: list[tuple[int, int, int]]) -> None:
    tokens = [token for context in contexts for token in context]
    starts = np.array([start for start, _ in tokens], np.int32)
    stops = np.array([start + width for start, width in tokens], np.int32)
    bounds = bounds_of(np.array([len(context) for context in contexts], np.int64))
    pool = TokenPool(np.zeros(len(tokens), np.int32), starts, stops, bounds)
    asked = [(context % len(contexts), start, start + width) for context, start, width in spans]
    columns = np.array(asked, np.int64).reshape(-1, 3).T
    first, last = token_spans(pool, columns[0], columns[1], columns[2])
    for number, (context, start, stop) in enumerate(asked):
        part = slice(int(bounds[context]), int(bounds[context + 1]))
        expected = token_span(starts[part], stops[part], start, stop)
        assert (int(first[number]), int(last[number])) == (expected or (-1, -1))
