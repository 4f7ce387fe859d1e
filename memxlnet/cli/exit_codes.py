"""The exit codes, and which error has which."""

from memxlnet.errors import (
    BuildOSError,
    CacheError,
    CacheOSError,
    ExampleError,
    ExportOSError,
    LossLimitError,
    MemoryLimitError,
    MemxlnetError,
    MissingLibraryError,
    SettingsError,
    SourceError,
    TokenizerError,
    TransferError,
)

EXIT_OTHER, EXIT_USAGE, EXIT_LOST, EXIT_SOURCE, EXIT_CACHE, EXIT_TRANSFER, EXIT_SYSTEM, EXIT_UNEXPECTED = range(1, 9)
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    0: "done",
    EXIT_OTHER: "any other error; of diff: the caches differ",
    EXIT_USAGE: "wrong usage: an option, an argument or a setting",
    EXIT_LOST: "more was lost than a limit allows; nothing was published",
    EXIT_SOURCE: "the source, an example or the tokenizer is wrong",
    EXIT_CACHE: "a cache is missing, damaged or another one",
    EXIT_TRANSFER: "a store or a transfer failed",
    EXIT_SYSTEM: "the system failed: disk, memory or access; or a library is missing",
    EXIT_UNEXPECTED: "an unexpected error: a bug, shown with its traceback",
    EXIT_INTERRUPTED: "interrupted",
}
"""Every code with its meaning."""

_OF_ERRORS: dict[type[BaseException], int] = {
    MemxlnetError: EXIT_OTHER,
    SettingsError: EXIT_USAGE,
    LossLimitError: EXIT_LOST,
    **dict.fromkeys((SourceError, ExampleError, TokenizerError), EXIT_SOURCE),
    CacheError: EXIT_CACHE,
    TransferError: EXIT_TRANSFER,
    **dict.fromkeys(
        (CacheOSError, BuildOSError, ExportOSError, MemoryLimitError, MissingLibraryError, OSError, MemoryError),
        EXIT_SYSTEM,
    ),
    KeyboardInterrupt: EXIT_INTERRUPTED,
    BaseException: EXIT_UNEXPECTED,
}


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of an error: that of its nearest class."""
    return next(_OF_ERRORS[kind] for kind in type(error).__mro__ if kind in _OF_ERRORS)
