"""Names that are loaded when they are first used (PEP 562)."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from memxlnet.earlier_names import missing


def lazy_names(package: str, names: Mapping[str, str], name: str) -> Any:
    """Load one name of a package and keep it there.

    Args:
        package: Name of the package.
        names: Module of each of its lazy names.
        name: The name that was asked for.

    Raises:
        AttributeError: The package has no such name.
        ImportError: It had one earlier.
    """
    if name not in names:
        raise missing(package, name)
    value = getattr(importlib.import_module(names[name]), name)
    setattr(sys.modules[package], name, value)
    return value
