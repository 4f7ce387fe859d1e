"""Two names exchanged in one step, so that there is no moment without one of them."""

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100  # Linux: paths are relative to the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS

_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
"""What a kernel, a file system or a sandbox answers that has no such call."""


def exchange(one: Path, other: Path) -> bool:
    """Let two names of one file system change places, whatever they name.

    Returns:
        False where the system cannot: nothing has changed then.

    Raises:
        OSError: One of them is missing, or they cannot be renamed.
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        call, arguments = getattr(library, "renamex_np", None), (*map(ctypes.c_char_p, names),)
    else:
        call = getattr(library, "renameat2", None)  # glibc since 2.28, musl since 1.2.6
        at = ctypes.c_int(_AT_FDCWD)
        arguments = (at, ctypes.c_char_p(names[0]), at, ctypes.c_char_p(names[1]))
    if call is None:
        return False
    if call(*arguments, ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
