"""The Arrow schemas of a memxlnet cache: columns, versioned metadata and a comparison of two schemas.

The tables of a cache are defined here and nowhere else. The package needs the standard library and pyarrow only, so
that a reader of the files can depend on it alone; pyarrow is loaded when a name that needs it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from arrow_schemas.names import ALIGNMENTS, DROPPED, KEPT, RESERVED, SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    from arrow_schemas.difference import Difference as Difference
    from arrow_schemas.difference import diff as diff
    from arrow_schemas.kept import filled_type as filled_type
    from arrow_schemas.kept import is_kept_type as is_kept_type
    from arrow_schemas.kept import joined_type as joined_type
    from arrow_schemas.kept import kept_schema as kept_schema
    from arrow_schemas.metadata import FileMetadata as FileMetadata
    from arrow_schemas.metadata import with_metadata as with_metadata
    from arrow_schemas.tables import contexts_schema as contexts_schema
    from arrow_schemas.tables import documents_schema as documents_schema
    from arrow_schemas.tables import dropped_schema as dropped_schema
    from arrow_schemas.tables import features_schema as features_schema
    from arrow_schemas.tables import table_schema as table_schema

_NAMES = {
    "Difference": "arrow_schemas.difference",
    "FileMetadata": "arrow_schemas.metadata",
    "contexts_schema": "arrow_schemas.tables",
    "diff": "arrow_schemas.difference",
    "documents_schema": "arrow_schemas.tables",
    "dropped_schema": "arrow_schemas.tables",
    "features_schema": "arrow_schemas.tables",
    "filled_type": "arrow_schemas.kept",
    "is_kept_type": "arrow_schemas.kept",
    "joined_type": "arrow_schemas.kept",
    "kept_schema": "arrow_schemas.kept",
    "table_schema": "arrow_schemas.tables",
    "with_metadata": "arrow_schemas.metadata",
}

__all__ = ["ALIGNMENTS", "DROPPED", "KEPT", "RESERVED", "SCHEMA_VERSION", "TABLES", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_NAMES[name]), name)
    return value
