"""Ray as an executor."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import ray

from memxlnet.errors import SettingsError


class RayExecutor(Executor):
    """Runs calls as tasks of the Ray cluster that this process is connected to.

    Ray itself runs a task again whose worker or node died. Shutting the executor down cancels what has not begun; the
    cluster stays.

    Args:
        **options: Options of the tasks, as ``ray.remote`` takes them: ``num_cpus``, ``max_retries``, ``runtime_env``.

    Raises:
        SettingsError: This process is connected to no cluster.
    """

    def __init__(self, **options: Any):
        if not ray.is_initialized():
            raise SettingsError("RayExecutor: expected a connection to a cluster, found none; call ray.init() before")
        self._call = ray.remote(**{"num_cpus": 1, **options})(_call)
        self._pending: dict[Future[Any], Any] = {}
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call as a task.

        Raises:
            RuntimeError: The executor is shut down.
        """
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        reference = self._call.remote(fn, args, kwargs)
        future: Future[Any] = reference.future()
        self._pending[future] = reference
        future.add_done_callback(self._forget)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: Wait for those under way.
            cancel_futures: Cancel those that have not begun.
        """
        self._is_shut_down = True
        references = list(self._pending.values())
        if cancel_futures:
            for reference in references:
                ray.cancel(reference)
        if wait and references:
            ray.wait(references, num_returns=len(references))

    def _forget(self, future: Future[Any]) -> None:
        reference = self._pending.pop(future, None)
        if future.cancelled() and reference is not None:
            ray.cancel(reference)


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
