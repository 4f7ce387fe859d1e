"""How a source is opened and read, besides its name and split."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from memxlnet.sources.forms import Form
from memxlnet.sources.forms.form import Locate, Offsets
from memxlnet.sources.records_to_examples import Transform


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a user may say of a source; `open_source` checks it.

    Attributes:
        name: Short name of an object in memory, which the directory of its cache begins with.
        identity: For an iterable or a transform: a text that changes whenever what it gives does.
        config_name: Configuration of a Hub dataset.
        revision: Branch, tag or commit of a Hub dataset.
        token: Credentials for the Hub; never stored or shown.
        form: How records become examples: the name of a form, or a `Form`; None recognises it by the first record.
        columns: Names of the fields of other records.
        transform: A function of an example that gives none, one or several mappings.
        locate: Which occurrences of answers without offsets are golds.
        offsets: What offsets of answers count.
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
