"""Every error can be built from one string, says it, survives pickling, and is the built-in that a caller expects."""

import copy
import inspect
import pickle

import pytest

from memxlnet import errors
from memxlnet.errors import MemxlnetError

BASES: dict[str, tuple[type[Exception], ...]] = {
    "MemxlnetError": (Exception,),
    "SettingsError": (ValueError,),
    "TokenizerError": (ValueError,),
    "SourceError": (ValueError,),
    "SourceNotFoundError": (errors.SourceError, FileNotFoundError, OSError),
    "ExampleError": (ValueError,),
    "CacheError": (MemxlnetError,),
    "CacheNotFoundError": (errors.CacheError, FileNotFoundError, OSError),
    "CacheMismatchError": (errors.CacheError, ValueError),
    "CacheDamagedError": (errors.CacheError, ValueError),
    "AmbiguousCacheError": (errors.CacheError, LookupError),
    "CacheOSError": (errors.CacheError, OSError),
    "CacheDirectoryError": (errors.CacheOSError, PermissionError),
    "BuildError": (RuntimeError,),
    "BuildOSError": (errors.BuildError, OSError),
    "MemoryLimitError": (errors.BuildError, MemoryError),
    "LossLimitError": (errors.BuildError, RuntimeError),
    "ExportError": (ValueError,),
    "ExportOSError": (errors.ExportError, OSError),
    "TransferError": (OSError,),
    "TransferPermissionError": (errors.TransferError, PermissionError, OSError),
    "MissingLibraryError": (ImportError,),
    "DocumentNotFoundError": (KeyError, LookupError),
    "IndexTypeError": (TypeError,),
    "RowIndexError": (IndexError, LookupError),
}

MESSAGE = "chunk 3 of squad_v2/train: expected 'a' \u2014 found \n\"b\" \U0001f600"

ALL = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]


def test_every_error_is_listed_here() -> None:
    assert {kind.__name__ for kind in ALL} == set(BASES)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: str(kind.__name__))
def test_an_error_is_its_message(kind: type[MemxlnetError]) -> None:
    assert issubclass(kind, MemxlnetError)
    for base in BASES[kind.__name__]:
        assert issubclass(kind, base)
    error = kind(MESSAGE)
    assert str(error) == MESSAGE
    assert error.args == (MESSAGE,)
    with pytest.raises(kind, match="'a'"):
        raise error


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[MemxlnetError], protocol: int) -> None:
    error = kind(MESSAGE)
    error.add_note("a note")
    for found in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(found) is kind
        assert str(found) == MESSAGE
        assert found.args == (MESSAGE,)
        assert found.__notes__ == ["a note"]


def test_every_error_is_documented() -> None:
    for kind in ALL:
        assert kind.__doc__
        assert kind.__doc__.strip().endswith(".")


def test_an_error_without_a_message_is_empty() -> None:
    assert str(MemxlnetError()) == ""
    assert str(errors.DocumentNotFoundError()) == ""
