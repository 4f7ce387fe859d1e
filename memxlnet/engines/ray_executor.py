"""Ray as an executor: each call is a task of the cluster."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import Any

from memxlnet.errors import MissingLibraryError, SettingsError


class RayExecutor(Executor):
    """Runs each call as a task of the Ray cluster that this process is connected to.

    Ray runs a call again where the process or the machine that runs it is lost, up to `max_retries` times. Workers
    need memxlnet. A cancelled call is interrupted, also where it has begun. The cluster stays the caller's.

    Args:
        num_cpus: Cores that a call occupies.
        max_retries: How often a lost call is run again; -1 is without end.
        **options: Other options of ``ray.remote`` for functions, such as `memory` (bytes), `resources` or
            `runtime_env`.

    Raises:
        MissingLibraryError: Ray is not installed.
        SettingsError: This process is not connected to a cluster, or Ray refuses an option.
    """

    def __init__(self, *, num_cpus: float = 1, max_retries: int = 3, **options: Any):
        try:
            import ray
        except ImportError as error:
            raise MissingLibraryError("RayExecutor: expected Ray, found none; pip install 'memxlnet[ray]'") from error
        if not ray.is_initialized():
            raise SettingsError("RayExecutor: expected a connection to a cluster, found none; call ray.init() before")
        try:
            remote = ray.remote(num_cpus=num_cpus, max_retries=max_retries, **options)
            self._task = remote(_call)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"RayExecutor: expected options of ray.remote for functions: {error}") from error
        self._cancel = ray.cancel
        self._lock = threading.Lock()
        self._pending: set[Future[Any]] = set()
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run a call as a task; function, arguments and result are serialized by Ray.

        Raises:
            RuntimeError: The executor is shut down.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            reference = self._task.remote(fn, args, kwargs)
            self._pending.add(future)
        future.add_done_callback(partial(self._finished, reference))
        reference.future().add_done_callback(partial(_pass_on, future))
        return future

    def _finished(self, reference: Any, future: "Future[Any]") -> None:
        self._pending.discard(future)
        if future.cancelled():
            self._cancel(reference, force=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the cluster keeps running.

        Args:
            wait: Return when all calls are done.
            cancel_futures: Cancel the calls that are not done.
        """
        with self._lock:
            self._is_shut_down = True
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            _wait(pending)


_wait = wait
"""`concurrent.futures.wait`, which an argument hides."""


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _pass_on(future: "Future[Any]", task: "Future[Any]") -> None:
    """Give a future the outcome of Ray's, which cannot be cancelled itself."""
    if not future.set_running_or_notify_cancel():
        return
    error = task.exception()
    if error is None:
        future.set_result(task.result())
    else:
        future.set_exception(error)
