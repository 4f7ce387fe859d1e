"""The Arrow schemas of a memxlnet cache: columns, versioned metadata and a comparison of two schemas.

The tables of a cache are defined here and nowhere else. The package needs the standard library and pyarrow only, so
that a reader of the files can depend on it alone.
"""

from arrow_schemas.difference import Difference, diff
from arrow_schemas.metadata import SCHEMA_VERSION, FileMetadata, with_metadata
from arrow_schemas.tables import (
    ALIGNMENTS,
    DROPPED,
    TABLES,
    contexts_schema,
    documents_schema,
    dropped_schema,
    features_schema,
    table_schema,
)

__all__ = [
    "ALIGNMENTS",
    "DROPPED",
    "SCHEMA_VERSION",
    "TABLES",
    "Difference",
    "FileMetadata",
    "contexts_schema",
    "diff",
    "documents_schema",
    "dropped_schema",
    "features_schema",
    "table_schema",
    "with_metadata",
]
