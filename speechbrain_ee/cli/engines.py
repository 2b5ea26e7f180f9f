# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that run batches in several processes or on a Ray cluster."""

from enum import Enum
from typing import Annotated

import typer

from ee_runtime.threads import default_threads


class BulkEngine(str, Enum):
    """What runs the batches."""

    local = "local"
    ray = "ray"


ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Processes that run batches; default: 1, or with --engine ray one per --threads CPUs."),
]
EngineOption = Annotated[
    BulkEngine, typer.Option(help="What runs batches: processes of this machine, or workers on a Ray cluster.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Ray cluster, such as auto or HOST:6379; default: Ray on this machine only.")
]


def threads_of(engine: BulkEngine, processes: int | None, address: str | None, threads: int | None) -> int | None:
    """Return the threads of each process; None leaves the choice to the program.

    Without ``threads``, several processes share the CPUs, and a worker on Ray has one.
    """
    if address is not None and engine is not BulkEngine.ray:
        raise typer.BadParameter("--address is the address of a Ray cluster: add --engine ray")
    if threads is not None or (processes is None and engine is BulkEngine.local):
        return threads
    return 1 if engine is BulkEngine.ray else default_threads(processes)


def bulk_engine(
    engine: BulkEngine, processes: int | None, address: str | None, threads: int | None, device: str | None
):
    """Return the engine of the options, see :data:`~speechbrain_ee.bulk.engines.Engine`; None means this process."""
    if engine is BulkEngine.ray:
        from speechbrain_ee.bulk.ray_engine import RayCluster

        return RayCluster(address=address, workers=processes, cpus=threads, gpus=int((device or "").startswith("cuda")))
    if processes is None or processes == 1:
        return None
    from speechbrain_ee.bulk.engines import Processes

    return Processes(processes)
