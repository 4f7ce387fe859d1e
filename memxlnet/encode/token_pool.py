"""The tokens of many texts in arrays, end to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memxlnet.errors import TokenizerError
from memxlnet.format.ragged import Ints, bounds_of, ragged_arange


class TokenPool(NamedTuple):
    """The tokens of many texts, end to end.

    Attributes:
        ids: int32[tokens].
        starts: int32[tokens], first character of each token in its text, in code points.
        stops: int32[tokens], one after its last character.
        bounds: int64[texts + 1]; text i has the tokens ``bounds[i]`` to ``bounds[i + 1]``.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    bounds: Ints

    @property
    def counts(self) -> Ints:
        """int64[texts], number of tokens of each text."""
        return np.diff(self.bounds)

    def split(self, texts: int) -> "tuple[TokenPool, TokenPool]":
        """Return the pool of the first `texts` texts, and that of all others: views."""
        cut = self.bounds[texts]
        return (
            TokenPool(self.ids[:cut], self.starts[:cut], self.stops[:cut], self.bounds[: texts + 1]),
            TokenPool(self.ids[cut:], self.starts[cut:], self.stops[cut:], self.bounds[texts:] - cut),
        )

    def take(self, texts: Ints) -> "TokenPool":
        """Return the pool of some of the texts, in the order that is asked for."""
        counts = self.counts[texts]
        source = ragged_arange(counts) + np.repeat(self.bounds[texts], counts)
        return TokenPool(self.ids[source], self.starts[source], self.stops[source], bounds_of(counts))


def concatenate(first: TokenPool, second: TokenPool) -> TokenPool:
    """Return the texts of one pool, then those of another."""
    if not len(second.counts):
        return first
    return TokenPool(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.starts, second.starts]),
        np.concatenate([first.stops, second.stops]),
        np.concatenate([first.bounds, second.bounds[1:] + first.bounds[-1]]),
    )


@contextmanager
def tokenizer_errors(subject: str) -> Iterator[None]:
    """Turn any error of a tokenizer into a `TokenizerError` that begins with a subject."""
    try:
        yield
    except TokenizerError:
        raise
    except BaseException as error:
        # A panic of the Rust side is a BaseException of its own; anything else that is not an Exception passes on.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{subject}: {error}") from error


def from_encodings(backend: Tokenizer, texts: list[str]) -> TokenPool:
    """Tokenize texts in one batch of the Rust tokenizer, without special tokens.

    Args:
        backend: A Rust tokenizer that neither pads nor truncates.
        texts: The texts; none may hold half of a surrogate pair.
    """
    encodings = backend.encode_batch(texts, add_special_tokens=False) if texts else []
    counts = np.fromiter(map(len, encodings), np.int64, len(encodings))
    total = int(counts.sum())
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, total)
    pairs = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
    offsets = np.fromiter(pairs, np.int32, 2 * total).reshape(total, 2)
    return TokenPool(ids, np.ascontiguousarray(offsets[:, 0]), np.ascontiguousarray(offsets[:, 1]), bounds_of(counts))
