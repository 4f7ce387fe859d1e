"""Number types of Arrow in NumPy."""

from typing import Any

import numpy as np
import pyarrow as pa


def numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    """What a number type of Arrow is in NumPy; pyarrow's own answer loads pandas in older releases."""
    return np.dtype(str(kind))
