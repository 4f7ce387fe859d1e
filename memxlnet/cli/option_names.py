"""Errors of the library in terms of options."""

import re
from collections.abc import Mapping


def in_options(message: str, names: Mapping[str, str]) -> str:
    """Return an error text of the library with the names of the options: ``max_seq_length`` is ``--max-seq-length``.

    Args:
        message: The text.
        names: The option of each parameter of the library.
    """
    for name, option in names.items():
        message = _outside_quotes(rf"\b{name}=True\b", option, message)
        message = _outside_quotes(rf"\b{name}=(['\"]?)(?P<value>[\w.-]+)\1", rf"{option} \g<value>", message)
        # A name without an underscore is a word like any other, but where a message begins with it.
        pattern = rf"(?<![\w/.-]){name}(?![\w/.-])" if "_" in name else rf"^{name}(?=:)"
        message = _outside_quotes(pattern, option, message)
    # An option that is not None is left out.
    return _outside_quotes(r" \(or None [^()]*\)", "", message)


def _outside_quotes(pattern: str, replacement: str, message: str) -> str:
    """Replace parameters by options, except in data: ids, names and texts are quoted."""

    def replaced(found: re.Match[str]) -> str:
        return found[0] if found["quoted"] else found.expand(replacement)

    # An apostrophe within a word begins no quote, and one after a backslash ends none.
    quoted = r"""(?<!\w)(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    return re.sub(rf"{pattern}|{quoted}", replaced, message)
