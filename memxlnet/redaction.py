"""What must not be shown: credentials, wherever an address or another library's text repeats them."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"

_SHORTEST = 4
_SHORTEST_OF_ENVIRONMENT = 8
_SECRET_NAME = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|ACCOUNT_KEY|CONNECTION_STRING", re.IGNORECASE
)
_USER = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?'\"<>]*)\?[^\s'\"<>]+")


class Redactor:
    """Puts ``***`` in the place of what may be a credential.

    That is every text in the options of a store, the environment's variables that are named like credentials, and in
    any address the user and the query string.

    Args:
        options: The options of a store.
    """

    def __init__(self, options: Mapping[str, Any]):
        secrets = {text for text in _texts(options) if len(text) >= _SHORTEST}
        secrets.update(
            value
            for name, value in os.environ.items()
            if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_OF_ENVIRONMENT
        )
        forms = {form for text in secrets for form in _forms(text)}
        self._forms = sorted(forms, key=len, reverse=True)  # one may hold another

    def __call__(self, text: str) -> str:
        """Return the text without credentials."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def safe_cause(error: BaseException, redact: Redactor) -> BaseException:
    """Return the cause to give: the error, or where a text in its chain holds credentials a copy without them."""
    chained: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is not None and not any(current is each for each in chained):
            chained.append(current)
            waiting += [current.__cause__, current.__context__]
    if all(redact(str(each)) == str(each) for each in chained):
        return error
    return OSError(f"{type(error).__name__}: {redact(str(error))}").with_traceback(error.__traceback__)


def _forms(text: str) -> tuple[str, ...]:
    """Return how other libraries write a text into theirs: as it is, in and out of an address, and quoted."""
    quoted = quote(text, safe="", errors="replace"), quote_plus(text, errors="replace")
    return text, *quoted, unquote(text), repr(text)[1:-1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _texts(part)
