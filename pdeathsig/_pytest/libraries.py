"""What libraries know of processes: those shared between tests, and the objects for them."""

import gc
import sys
import threading
from typing import Any

_POOL = 2.0  # seconds for a Pool to end its workers


def shared_pids() -> "set[int]":
    """Return the PIDs that outlive a test on purpose.

    They are the fork server and the workers of loky's reusable pool, which joblib uses.
    """
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pids = {getattr(server, "_forkserver_pid", None) or 0}
    for name in ("loky.reusable_executor", "joblib.externals.loky.reusable_executor"):
        module = sys.modules.get(name)
        storage = getattr(module, "_executor_storage", None)  # since loky 3.7: one per thread
        executor = getattr(storage, "executor", None) or getattr(module, "_executor", None)
        pids.update(getattr(executor, "_processes", None) or ())
    return pids


def process_objects() -> "list[Any]":
    """Return every ``subprocess.Popen`` and ``multiprocessing.pool.Pool`` that exists."""
    classes = [("subprocess", "Popen"), ("multiprocessing.pool", "Pool")]
    found = [getattr(sys.modules.get(module), name, None) for module, name in classes]
    wanted = tuple(one for one in found if isinstance(one, type))
    return [thing for thing in gc.get_objects() if issubclass(type(thing), wanted)]


def terminate_pools(objects: "list[Any]", pids: "set[int]") -> None:
    """Terminate the pools that these processes work for.

    A pool would start new workers in place of the killed ones.
    """
    for pool in objects:
        if pids.intersection(getattr(worker, "pid", None) for worker in getattr(pool, "_pool", ())):
            # In a thread: a pool that has lost a worker may hang.
            thread = threading.Thread(target=pool.terminate, daemon=True)
            thread.start()
            thread.join(_POOL)


def reap(objects: "list[Any]", pids: "set[int]") -> None:
    """Let the objects of these processes reap them. Reaped by others, a Popen would report 0."""
    for popen in objects:
        if getattr(popen, "pid", None) in pids:
            popen.poll()
    children = sys.modules.get("multiprocessing.process")
    if children is not None:
        children.active_children()  # reaps those that have ended
