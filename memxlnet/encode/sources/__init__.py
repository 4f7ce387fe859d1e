"""Where raw examples come from: a Hub name, a local file, a `datasets` object, or any iterable of mappings.

Every source is read as a stream: nothing holds the whole of it.
"""

from memxlnet.encode.known_file import KnownFile
from memxlnet.encode.sources.base import Source
from memxlnet.encode.sources.files import FileSource
from memxlnet.encode.sources.opening import is_file_name, open_source, source_name

__all__ = ["FileSource", "KnownFile", "Source", "is_file_name", "open_source", "source_name"]
