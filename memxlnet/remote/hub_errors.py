"""Names and credentials for the Hub, checked before any work; and its client's errors as errors that say what to do."""

import contextlib
import re
import sys
from collections.abc import Iterator

import huggingface_hub

from memxlnet.errors import MemxlnetError, SettingsError, TransferError, TransferPermissionError
from memxlnet.redaction import Redactor, safe_cause
from memxlnet.remote.store_errors import chain, shown
from memxlnet.settings import check_text
from memxlnet.system_errors import system_hint


def check_hub_id(name: str, value: object) -> str:
    """Check that an argument is the name of a repository, and return it.

    Raises:
        SettingsError: It is not.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(check_text(name, value))
    except HFValidationError as error:
        raise SettingsError(
            f"{name}: expected the name of a dataset repository such as 'user/name', found {value!r}: {error}"
        ) from None
    return str(value)


def check_token(value: object) -> str | None:
    """Check credentials for the Hub, and return them; the error does not show them.

    Raises:
        SettingsError: They are not a string, or hold what no HTTP header may hold.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise SettingsError(f"hub_token: expected a string or None, found {type(value).__name__}")
    # The HTTP library would quote a header that it refuses, and the token with it.
    if not re.fullmatch(r"[!-~]+", value):
        raise SettingsError(
            "hub_token: expected printable ASCII characters without blanks, found others; check it for a line end"
        )
    return value


@contextlib.contextmanager
def hub_errors(subject: str, token: str | None) -> Iterator[None]:
    """Turn what the Hub's client raises into errors of the package.

    Args:
        subject: What it is about, for the message.
        token: Credentials; None takes those that the client has stored. No text shows them.

    Raises:
        TransferPermissionError: The Hub refuses these credentials.
        TransferError: Anything else failed; the client's error is the cause, or a copy where it shows credentials.
    """
    outer = sys.exception()
    try:
        yield
        return
    except MemxlnetError:
        raise
    except Exception as error:
        # The client's errors have no root of their own: its HTTP library changes with its version, and Xet adds others.
        redact = Redactor({"token": token or _stored_token()})
        found = _as_own_error(chain(error, outer), subject, redact)
        cause = safe_cause(error, redact)
    try:
        raise found from cause
    finally:
        # The with statement is handling the client's error, which would stay the context, credentials and all.
        found.__context__ = outer


def _stored_token() -> str | None:
    with contextlib.suppress(OSError):  # it was raised already if that is what failed
        return huggingface_hub.get_token()  # type: ignore[no-any-return]
    return None


def _as_own_error(chained: list[BaseException], subject: str, redact: Redactor) -> TransferError:
    from huggingface_hub import errors

    links = {kind: link for link in reversed(chained) for kind in type(link).__mro__}
    http = links.get(errors.HfHubHTTPError)
    status = http.response.status_code if http is not None else None  # type: ignore[attr-defined]
    kind = TransferPermissionError if status in (401, 403) else TransferError
    if errors.OfflineModeIsEnabled in links:
        return TransferError(f"{subject}: expected to reach the Hub, found offline mode; unset HF_HUB_OFFLINE")
    if errors.GatedRepoError in links:
        return TransferPermissionError(
            f"{subject}: expected a repository that these credentials may read, found a gated one; accept its terms on "
            "its page and pass the hub_token of that account"
        )
    if errors.RepositoryNotFoundError in links:
        return kind(
            f"{subject}: expected a dataset repository, found none that these credentials may see (HTTP {status}); "
            "check its name, and pass a hub_token where it is private"
        )
    if errors.RevisionNotFoundError in links:
        return kind(f"{subject}: expected a branch, tag or commit of the repository, found none of this name")
    found = shown(chained[0], redact)
    if kind is TransferPermissionError:
        return kind(f"{subject}: expected permission, found HTTP {status}: {found}; pass a hub_token that may do this")
    way = system_hint(chained[0])
    return TransferError(f"{subject}: {found}; {f'{way} and ' if way else ''}try again")
