"""A TCP proxy on the loopback interface that cuts or holds its connections after so many bytes."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit

_READ_BYTES = 1024


class CuttingProxy:
    """Stands before a server; use it in a with statement.

    Args:
        endpoint: The address of the server.

    Attributes:
        up: Bytes that went to the server.
        down: Bytes that came from it.
        reached: Set once a bound of `cut_after` is reached.
    """

    def __init__(self, endpoint: str):
        parts = urlsplit(endpoint)
        self._target = (parts.hostname or "", parts.port or 0)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._released = threading.Event()
        self.reached = threading.Event()
        self.up = self.down = 0
        self.heal()

    @property
    def endpoint(self) -> str:
        return "http://{}:{}".format(*self._listening.getsockname())

    @property
    def is_bounded(self) -> bool:
        """Whether not all is let through."""
        return min(self._most.values()) < float("inf")

    def heal(self) -> None:
        """Let everything through from now on."""
        self._most: dict[str, float] = {"up": float("inf"), "down": float("inf")}
        self._hold = False
        self.reached.clear()
        self._released.set()

    def cut_after(self, up: float = float("inf"), down: float = float("inf"), hold: bool = False) -> None:
        """Let so many more bytes through, then close all connections and each new one; or hold the bytes back."""
        self._released.clear()
        self._hold = hold
        self._most = {"up": self.up + up, "down": self.down + down}

    def __enter__(self) -> "CuttingProxy":
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._released.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._close_all()
        for thread in self._threads:
            thread.join(20)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.reached.is_set() and not self._hold:
                near.close()
                continue
            far = socket.create_connection(self._target)
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {near, far}
            self._start(self._pump, "up", near, far)
            self._start(self._pump, "down", far, near)

    def _pump(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(_READ_BYTES):
                with self._lock:
                    passed = getattr(self, direction) + len(content)
                    is_cut = passed > self._most[direction]
                    if not is_cut:
                        setattr(self, direction, passed)
                if is_cut:
                    self.reached.set()
                    if not self._hold:
                        self._close_all()
                        return
                    self._released.wait()
                target.sendall(content)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _close_all(self) -> None:
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._open.clear()
