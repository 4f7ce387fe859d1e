"""From the rows of chunks to the rows of a cache: contexts found again across chunks, ids that must not repeat.

Both need a look over all chunks. What is held for it are digests and row numbers in NumPy arrays, never the texts.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from memxlnet.encode.tokens import Ints
from memxlnet.errors import SourceError

ReadTexts = Callable[[], Iterator[pa.Array]]
"""Reads one text column chunk by chunk; called again for a second look."""


def number_contexts(contexts: Iterable[pa.Array]) -> Ints:
    """Number the distinct texts of all chunks in order of first use.

    Texts are told apart by 128 bits of a cryptographic digest: 16 bytes are held for each, never the text.

    Args:
        contexts: The texts of the contexts, chunk by chunk.

    Returns:
        int64[rows of all chunks], the number of each text.
    """
    pieces = [np.frombuffer(b"".join(_strong(text) for text in array), np.uint64).reshape(-1, 2) for array in contexts]
    digests = np.concatenate(pieces) if pieces else np.zeros((0, 2), np.uint64)
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    # The sort is stable, so the first row of a run of equal digests is the first use.
    firsts = np.empty(len(order), np.int64)
    firsts[order] = order[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    numbers = np.cumsum(firsts == np.arange(len(firsts))) - 1
    numbered: Ints = numbers[firsts]
    return numbered


def _strong(text: pa.Scalar) -> bytes:
    return hashlib.blake2b(text.as_buffer(), digest_size=16).digest()


def _rows_where(wanted: NDArray[np.bool_], read_texts: ReadTexts) -> Iterator[pa.Scalar]:
    base = 0
    for array in read_texts():
        for index in np.flatnonzero(wanted[base : base + len(array)]).tolist():
            yield array[index]
        base += len(array)


def check_unique(read_ids: ReadTexts, source: str) -> None:
    """Check that no document id repeats.

    Raises:
        SourceError: Ids repeat; the message names them.
    """
    pieces = [
        np.fromiter((xxhash.xxh3_64_intdigest(name.as_buffer()) for name in array), np.uint64, len(array))
        for array in read_ids()
    ]
    hashes = np.concatenate(pieces)
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not repeated.size:
        return
    counts: dict[str, int] = {}
    for text in _rows_where(np.isin(hashes, repeated), read_ids):
        counts[text.as_py()] = counts.get(text.as_py(), 0) + 1
    names = [name for name, count in counts.items() if count > 1]
    if names:
        raise repeated_ids(names, source)


def repeated_ids(names: list[str], source: str) -> SourceError:
    """The error for document ids that repeat."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    shown = ", ".join(f"{name!r:.120}" for name in names[:5]) + more
    return SourceError(f"{source}: expected every id once, found {shown} repeatedly; make the ids distinct")
