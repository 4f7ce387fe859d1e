"""What an error of a file system means: fsspec gives many libraries one face, but not one set of errors."""

from collections.abc import Sequence

from memxlnet.errors import TransferError, TransferPermissionError
from memxlnet.redaction import Redactor, safe_cause
from memxlnet.system_errors import OUT_OF_FILES, system_hint

_LONGEST_TEXT = 600
_ABSENT = 404
_REFUSED = (401, 403)
_TAKEN = (409, 412)
_UNKNOWN = 501

# Names, because these libraries are loaded only where their scheme is used.
_NO_CREDENTIALS = {
    "ClientAuthenticationError",
    "CredentialRetrievalError",
    "DefaultCredentialsError",
    "LocalTokenNotFoundError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "RefreshError",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_NO_CONTAINER = {"BucketNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"}
_NO_CONTAINER_CODES = {"ContainerNotFound", "NoSuchBucket"}
_TAKEN_CODES = {"ConditionalRequestConflict", "PreconditionFailed"}
_REFUSED_CODES = {"InvalidToken"}  # S3 answers a wrong session token with status 400


def chain(error: BaseException, outer: BaseException | None) -> list[BaseException]:
    """Return an error and what led to it, the error first.

    Args:
        error: The error.
        outer: What the caller was handling already when it asked the file system: no part of the story.
    """
    errors: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current is not outer and not any(current is each for each in errors):
        errors.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return errors


def shown(error: BaseException, redact: Redactor) -> str:
    """Return an error in one line: its kind and what it says, without credentials."""
    text = f"{type(error).__name__}: {redact(str(error))}".removesuffix(": ")
    return " ".join(text.split())[:_LONGEST_TEXT].rstrip(".")


def transfer_error(
    subject: str, what: str, errors: list[BaseException], redact: Redactor, options_name: str
) -> tuple[TransferError, BaseException]:
    """Return a `TransferError` for an error of a file system, and its cause: a copy where its text holds credentials.

    Args:
        subject: What it is about, without credentials.
        what: What was to be done, such as ``read``.
        errors: The error and what led to it.
        redact: Takes credentials out of texts.
        options_name: The argument that holds the options of the file system.
    """
    found = shown(errors[0], redact)
    kind = TransferError
    if lacks_container(errors) and not is_refused(errors):
        reason = f"expected a bucket or repository, found none ({found}); check the address, or create it"
    elif is_refused(errors):
        kind = TransferPermissionError
        reason = (
            f"the store refuses it ({found}); check the credentials in {options_name} or the environment, what they "
            "allow, and the address: some stores refuse also what is not there"
        )
    elif is_absent(errors) and what != "written":
        reason = f"expected a file, found none ({found}); try again, and where it stays so send the cache again"
    else:
        is_ours = what == "written" or getattr(errors[0], "errno", None) in OUT_OF_FILES
        way = (system_hint(errors[0]) if is_ours else None) or "check address and connection"
        reason = f"{found}; {way} and try again: what has arrived whole does not travel again"
    failure = kind(f"{subject}: cannot be {what}: {reason}")
    if isinstance(errors[0], OSError):
        failure.errno = errors[0].errno
    return failure, safe_cause(errors[0], redact)


def is_absent(errors: Sequence[BaseException]) -> bool:
    """Return whether the store says that there is no such thing.

    Some file systems make "not found" of any failure, so all that led to it must say the same.
    """
    return isinstance(errors[0], FileNotFoundError) and all(map(_says_absent, errors))


def is_refused(errors: Sequence[BaseException]) -> bool:
    """Return whether the store refuses these credentials, or no credentials were given."""
    return any(map(_says_refused, errors))


def lacks_container(errors: Sequence[BaseException]) -> bool:
    """Return whether it is the bucket, repository or revision that is not there, as far as the store reports it."""
    return any(_code(error) in _NO_CONTAINER_CODES or _names(error) & _NO_CONTAINER for error in errors)


def is_taken(errors: Sequence[BaseException]) -> bool:
    """Return whether a file was not written because there is one, or because another one is being written."""
    return any(
        isinstance(error, FileExistsError) or _status(error) in _TAKEN or _code(error) in _TAKEN_CODES
        for error in errors
    )


def is_unknown_request(errors: Sequence[BaseException]) -> bool:
    """Return whether the store does not know the request, or one of its conditions."""
    return any(
        isinstance(error, NotImplementedError) or _status(error) == _UNKNOWN or _code(error) == "NotImplemented"
        for error in errors
    )


def _says_absent(error: BaseException) -> bool:
    status = _status(error)
    return status == _ABSENT if status is not None else isinstance(error, FileNotFoundError | KeyError)


def _says_refused(error: BaseException) -> bool:
    if isinstance(error, PermissionError) or _status(error) in _REFUSED or _code(error) in _REFUSED_CODES:
        return True
    # gcsfs reports status 403 by this word alone.
    return bool(_names(error) & _NO_CREDENTIALS) or (type(error) is OSError and str(error).startswith("Forbidden:"))


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _code(error: BaseException) -> str | None:
    """Return the error code as a text, as botocore and Azure's library keep it."""
    response = getattr(error, "response", None)
    details = response.get("Error") if isinstance(response, dict) else None
    code = details.get("Code") if isinstance(details, dict) else getattr(error, "error_code", None)
    return code if isinstance(code, str) else None


def _status(error: BaseException) -> int | None:
    """Return the HTTP status, where the libraries keep it: botocore, requests and httpx, aiohttp, gcsfs, Azure."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    # One after the other: aiohttp warns where its `code` is read.
    for holder, name in ((response, "status_code"), (error, "status"), (error, "status_code"), (error, "code")):
        status = getattr(holder, name, None)
        if isinstance(status, int):
            return status
    return None
