"""Where raw examples come from: files, directories, stores, the Hub, tables and objects in memory.

Every source is read as a stream: nothing holds the whole of it.
"""

from memxlnet.encode.known_file import KnownFile
from memxlnet.encode.sources.listing import is_file_name
from memxlnet.encode.sources.opening import open_source, source_name
from memxlnet.encode.sources.source import Source

__all__ = ["KnownFile", "Source", "is_file_name", "open_source", "source_name"]
