"""Ray's workers: each loads the encoder once and makes shards, one after the other.

Ray starts a worker that dies again, and gives it its shard again. The others go on meanwhile.
"""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from likewise.errors import LikewiseError
from likewise.model import NAME, Model, load
from likewise.shards.manifest import Manifest
from likewise.shards.place import Place
from likewise.shards.shard import Made, Maker, Task

DEATHS = 3  # of the workers that make one shard, after which the work stops
STORE = 256 << 20  # bytes of the memory that processes of a local cluster share: the encoder is all that is in it


class Worker:
    """What runs in a process of Ray.

    Args:
        place: the folder of the shards.
        manifest: what they are made of.
    """

    def __init__(self, place: Place, manifest: Manifest) -> None:
        self._content: list[Any] = []
        self._maker = Maker(self._load, place, manifest)

    def _load(self) -> Model:
        import ray

        with TemporaryDirectory(prefix="likewise-") as folder:
            file = Path(folder) / NAME
            file.write_bytes(ray.get(self._content[0]))
            return load(file)

    def shard(self, task: Task, content: list[Any]) -> Made:
        """Makes a shard, or finds that it is there and whole.

        ``content`` refers to the bytes of the model's file, so that machines need no folder in common with the run. It
        is in a list, for then Ray gives the reference, and the bytes are fetched once.
        """
        self._content = content
        return self._maker.shard(task)


def spread(
    tasks: Iterator[Task], content: bytes, place: Place, manifest: Manifest, workers: int | None
) -> Iterator[Made]:
    """The shards in the order in which workers have made them.

    The cluster is the one at the address ``RAY_ADDRESS``, if there is one, or one of this machine that ends with the
    work.

    Raises LikewiseError when Ray is not installed, its cluster can't be reached, a shard can't be made, or the worker
    that makes it dies four times.
    """
    ray = ray_here()
    from ray.util import ActorPool

    began = not ray.is_initialized()
    if began:
        _start(ray, workers)
    try:
        count = min(manifest.count, workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
        kind = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=DEATHS)(Worker)
        shared = [ray.put(content)]
        pool: Any = ActorPool([kind.remote(place, manifest) for _ in range(count)])
        yield from pool.map_unordered(lambda worker, task: worker.shard.remote(task, shared), tasks)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LikewiseError):
            raise LikewiseError(str(error.cause)) from None
        if isinstance(error.cause, OSError):  # such as a full disk
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError:
        raise LikewiseError(
            f"a worker of Ray died {DEATHS + 1} times at the same shard, perhaps for want of memory; the other shards "
            "stay. Give fewer --workers, and run this again."
        ) from None
    finally:
        if began:
            ray.shutdown()


def ray_here() -> Any:
    """The module, which tells nobody how it is used. Raises LikewiseError when it is not installed.

    Ray reads these variables when it is imported, and so do its processes; who has imported it before has chosen.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_ADDRESS" not in os.environ and "ray" not in sys.modules:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # its processes listen at 127.0.0.1 alone
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # and not to other users of this machine
        os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(16))
    try:
        import ray
    except ImportError:
        raise LikewiseError("--engine ray needs Ray: pip install 'likewise[ray]'.") from None
    return ray


def _start(ray: Any, workers: int | None) -> None:
    """Joins the cluster of ``RAY_ADDRESS``, or starts one of this machine alone."""
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                num_cpus=workers or os.cpu_count() or 1,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=STORE,
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the cluster at RAY_ADDRESS={address} can't be reached" if address else "Ray does not start here"
        first = str(error).partition("\n")[0].strip(" .")
        raise LikewiseError(f"{where} ({first}); start one with ray start --head, or leave --engine out.") from None
