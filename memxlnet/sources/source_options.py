"""How a source is opened and read, besides its name and split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memxlnet.sources.forms import Form
from memxlnet.sources.forms.form import Locate, Offsets

Transform = Callable[[Any], Any]
"""A function of an example, as a mapping, that gives none, one or several mappings."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a user may say of a source; `open_source` checks it.

    Attributes:
        name: Short name of an object in memory, which the directory of its cache begins with; None takes the name that
            it has, or ``in-memory``.
        identity: For an iterable, a stream or a transform: a text that changes whenever what it gives does. Without
            one, the rows are read once before the build and digested.
        config_name: Configuration of a Hub dataset.
        revision: Branch, tag or commit of a Hub dataset.
        token: Credentials for the Hub; never stored or shown.
        form: How records become examples: the name of a form, or a `Form`; None recognises it by the first record.
        columns: Names of the fields of other records; see `Columns`.
        transform: A function of an example that gives none, one or several mappings.
        locate: For answers without offsets: ``"first"``, ``"all"`` or ``"nearest"``; see `FormOptions`.
        offsets: What offsets of answers count: ``"characters"``, ``"bytes"`` or ``"utf-16"``.
    """

    name: str | None = None
    identity: str | None = None
    config_name: str | None = None
    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    form: Form | str | None = None
    columns: Mapping[str, str] | None = None
    transform: Transform | None = None
    locate: Locate = "first"
    offsets: Offsets = "characters"
