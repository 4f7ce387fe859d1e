"""What labels must be: from texts and offsets alone, every run of every window tried."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.encode.oracle import Tables, documents, features

Token = tuple[int, int]


def core_of(text: str, tokens: Sequence[Token], start: int, stop: int) -> tuple[int, int] | None:
    """First and one after the last of the characters that count: no blanks, and none that every token passes over."""
    covered = [False] * len(text)
    for first, last in tokens:
        covered[first:last] = [True] * max(last - first, 0)
    counting = [at for at in range(start, stop) if covered[at] and not text[at].isspace()]
    return (counting[0], counting[-1] + 1) if counting else None


def smallest_run(text: str, window: Sequence[Token], core: tuple[int, int] | None) -> tuple[int, int] | None:
    """The run of a window's tokens (first and last) that the rule asks for: every pair is looked at."""
    visible = [bool(text[start:stop].strip()) for start, stop in window]
    if core is None or not any(visible):
        return None
    starts, stops = np.array(window).T
    first, last = np.indices((len(window), len(window)))
    holds = np.array(visible)[:, None] & np.array(visible)[None, :] & (first <= last)
    holds &= (starts[:, None] <= core[0]) & (stops[None, :] >= core[1])
    runs = np.argwhere(holds)
    if not runs.size:
        return None
    first, last = runs.T
    best = np.lexsort((first, last - first, stops[last] - starts[first]))[0]
    return int(first[best]), int(last[best])


def compare_labels(tables: Tables) -> Counter[str]:
    """Count the rows of answered documents by how their label differs from what the rule gives.

    Returns:
        ``rows`` compared; ``missed`` and ``invented``: the window holds the answer though the row says it does not,
        or the other way round; ``text``: the label's text is not the smallest; ``tokens``: it is, but of other tokens.
    """
    contexts, all_documents = tables["contexts"].to_pylist(), documents(tables)
    found: Counter[str] = Counter()
    cores: dict[int, tuple[int, int] | None] = {}
    held: Counter[int] = Counter()
    for row in features(_without_ids(tables)):
        number = row["document"]
        document = all_documents[number]
        context = contexts[document["context"]]
        tokens = list(zip(context["token_starts"], context["token_stops"], strict=True))
        if number not in cores:
            span = document["answer_char_start"], document["answer_char_stop"]
            cores[number] = core_of(context["text"], tokens, *span)
        first = row["context_token_start"]
        expected = smallest_run(context["text"], tokens[first : first + row["context_token_count"]], cores[number])
        found += Counter(_outcome(row, context["text"], tokens, expected))
        held[number] += expected is not None
    assert (
        [document["num_answer_segments"] for document in all_documents]
        == [held[number] for number in range(len(all_documents))]
        or found["missed"]
        or found["invented"]
    )
    return found


def _outcome(
    row: dict[str, Any], text: str, tokens: Sequence[Token], expected: tuple[int, int] | None
) -> dict[str, int]:
    shift = row["context_row_start"] - row["context_token_start"]
    label = row["start_positions"], row["end_positions"]
    if not row["has_answer_in_segment"]:
        assert label == (row["cls_index"], row["cls_index"])
        return {"rows": 1, "missed": expected is not None}
    if expected is None:
        return {"rows": 1, "invented": 1}
    wanted = [row["context_token_start"] + at for at in expected]
    mine = [at - shift for at in label]
    differs = mine != wanted
    same_text = [tokens[mine[0]][0], tokens[mine[1]][1]] == [tokens[wanted[0]][0], tokens[wanted[1]][1]]
    return {"rows": 1, "text": differs and not same_text, "tokens": differs and same_text}


def _without_ids(tables: Tables) -> Tables:
    """The features without the columns of tokens, which take long as lists."""
    batch = tables["features"]
    names = [name for name in batch.schema.names if name not in ("input_ids", "attention_mask", "token_type_ids")]
    return {"features": batch.select(names)}
