"""Errors of workers: they cross processes as fields, since an exception may fail to."""

import traceback
from collections.abc import Mapping
from typing import Any

from memxlnet import errors
from memxlnet.errors import BuildError, MemoryLimitError, MemxlnetError


def error_fields(error: BaseException) -> dict[str, Any]:
    """Return ``error``, ``message``, ``errno`` and ``traceback`` of what is being handled."""
    try:
        message = str(error)
    except BaseException:
        message = "(its text cannot be shown)"
    return {
        "error": type(error).__name__,
        "message": message,
        "errno": error.errno if isinstance(error, OSError) else None,
        "traceback": traceback.format_exc(),
    }


def reported_error(shown: str, result: Mapping[str, Any]) -> MemxlnetError:
    """Return the error that a worker reports, in its class where that is a `MemxlnetError`.

    Args:
        shown: What the worker had, for messages.
        result: What `error_fields` gave.
    """
    name, message = result["error"], result["message"]
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, MemxlnetError):
        error: MemxlnetError = kind(message)
        if isinstance(error, OSError):
            error.errno = result.get("errno")
    elif name.endswith("MemoryError"):  # NumPy and Arrow have their own
        error = MemoryLimitError(
            f"{shown}: the worker ran out of memory; lower num_workers or streaming_chunk_size, or free memory"
        )
    else:
        error = BuildError(f"{shown}: failed in a worker with {name}: {message}; finished chunks are kept")
    error.add_note(f"in a worker, {shown}:\n{result['traceback']}")
    return error
