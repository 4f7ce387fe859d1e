"""Where raw examples come from: files, directories, stores, the Hub, tables and objects in memory.

Every source is read as a stream: nothing holds all of it.
"""

from memxlnet.format.manifest import KnownFile
from memxlnet.sources.file_origin import Files
from memxlnet.sources.forms import Form, FormOptions, form_names, register_form
from memxlnet.sources.listing import is_file_name
from memxlnet.sources.opening import open_files, open_source, place_of_files, shown_name, source_name
from memxlnet.sources.source import Source
from memxlnet.sources.source_options import SourceOptions, Transform

__all__ = [
    "Files",
    "Form",
    "FormOptions",
    "KnownFile",
    "Source",
    "SourceOptions",
    "Transform",
    "form_names",
    "is_file_name",
    "open_files",
    "open_source",
    "place_of_files",
    "register_form",
    "shown_name",
    "source_name",
]
