"""The exceptions of memxlnet: one root, each subclass also of the built-in that a caller would expect.

Every exception can be built from one string and survives pickling, so that it crosses process borders whole. One that
stands for an error of the operating system is an `OSError` as well, with the `errno` and `filename` of that error.
"""

from typing import Any, TypeVar

_SYSTEM_FIELDS = ("errno", "strerror", "filename")


class MemxlnetError(Exception):
    """Root of all errors that memxlnet raises on purpose."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument and OSError expects an errno; a message is a message.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> str | tuple[Any, ...]:
        if not isinstance(self, OSError):
            return super().__reduce__()
        # OSError keeps these outside of __dict__.
        fields = {name: value for name in _SYSTEM_FIELDS if (value := getattr(self, name)) is not None}
        return type(self), self.args, {**self.__dict__, **fields}


_Ours = TypeVar("_Ours", bound=MemxlnetError)


def with_fields_of(ours: _Ours, error: OSError) -> _Ours:
    """Give a `MemxlnetError` the ``errno``, ``strerror`` and ``filename`` of the system's error that it stands for."""
    if isinstance(ours, OSError):
        for name in _SYSTEM_FIELDS:
            setattr(ours, name, getattr(error, name))
    return ours


class SettingsError(MemxlnetError, ValueError):
    """A setting or argument is wrong; the data play no part in it."""


class TokenizerError(MemxlnetError, ValueError):
    """The tokenizer cannot be used: slow, without pad or cls token, truncating on the left, or not decomposable."""


class SourceError(MemxlnetError, ValueError):
    """The source of the examples is missing, damaged, empty or not what it was."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The file or dataset that was named does not exist."""

    # Of its two built-in bases the one that has fields of its own: pickling support of other libraries asks for it.
    __new__ = FileNotFoundError.__new__  # type: ignore[assignment]


class ExampleError(MemxlnetError, ValueError):
    """One example is bad: a field is missing, a text is not a string, or the question leaves no room for context."""


class CacheError(MemxlnetError):
    """Root of the errors of a published cache."""


class CacheNotFoundError(CacheError, FileNotFoundError):
    """There is no cache for what was asked."""


class CacheMismatchError(CacheError, ValueError):
    """A cache belongs to other settings, another source or another tokenizer."""


class CacheDamagedError(CacheError, ValueError):
    """A file of a cache is missing, swapped, truncated or altered.

    Attributes:
        hint: What to do, shown after the message; who fetches the cache, or builds it, has another one.
    """

    def __init__(self, *message: object, hint: str = ""):
        super().__init__(*message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.hint}" if self.hint else super().__str__()


class AmbiguousCacheError(CacheError, LookupError):
    """Several caches fit what was asked."""


class CacheOSError(CacheError, OSError):
    """The operating system failed at a file of a cache: too many open files, a full or failing disk, no access."""


class CacheDirectoryError(CacheOSError, PermissionError):
    """The cache directory cannot be created, read or written: no access, or something else is in its place."""


class BuildError(MemxlnetError, RuntimeError):
    """A build could not be completed."""


class BuildOSError(BuildError, OSError):
    """A build stopped because the operating system failed: a full or failing disk, too many open files, no access."""


class MemoryLimitError(BuildError, MemoryError):
    """The work does not fit within ``max_memory_gb``."""


class LossLimitError(BuildError):
    """More examples or answers were lost than ``max_dropped`` or ``max_lost_answers`` allows; nothing was published."""


class TransferError(MemxlnetError, OSError):
    """A cache could not be sent or fetched: the connection, the store, or what arrived."""


class TransferPermissionError(TransferError, PermissionError):
    """The store refuses to be read or written with these credentials."""


class ExportError(MemxlnetError, ValueError):
    """A cache cannot be exported: the format cannot hold it, or what was written is not what was read back."""


class ExportOSError(ExportError, OSError):
    """An export stopped because the operating system failed: a full or failing disk, no access."""

    # Of its two built-in bases the one that has fields of its own: pickling support of other libraries asks for it.
    __new__ = OSError.__new__  # type: ignore[assignment]


class MissingLibraryError(MemxlnetError, ImportError):
    """What was asked needs a library that is not installed; the message names it."""


class DocumentNotFoundError(MemxlnetError, KeyError):
    """No document has the id that was asked for."""


class IndexTypeError(MemxlnetError, TypeError):
    """A row, step or document was asked for by something that is not an integer."""


class RowIndexError(MemxlnetError, IndexError):
    """A row, chunk, group or step index is out of range."""
