"""Names that are loaded when they are first used (PEP 562)."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from memxlnet.earlier_names import hint


def lazy_names(package: str, names: Mapping[str, str], name: str) -> Any:
    """Load one name of a package and keep it there.

    Args:
        package: Name of the package.
        names: Module of each of its lazy names.
        name: The name that was asked for.

    Raises:
        AttributeError: The package has no such name.
    """
    if name not in names:
        # Not for the names that Python and tools look for, such as __path__.
        told = "" if name.startswith("_") else f"; {hint(name)}"
        raise AttributeError(f"module {package!r} has no attribute {name!r}{told}")
    value = getattr(importlib.import_module(names[name]), name)
    setattr(sys.modules[package], name, value)
    return value
