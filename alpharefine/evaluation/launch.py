"""Distribution of an evaluation over the processes of a launcher (torchrun or SLURM) on any number of machines.

Lightning Fabric determines rank, world size and rendezvous. Rank 0 assigns the sequences to the processes, and
broadcasts the assignment once. After that, the processes communicate only through files in the results folder,
so no collective operation can time out while a process is slow.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout

from alpharefine.errors import UserError
from alpharefine.evaluation.failures import Failure, unique
from alpharefine.evaluation.processes import end_with_parent
from alpharefine.evaluation.results import write_whole

_PREFIX = ".launch-"
"""Prefix of the folder in which the processes of a launch report that they have finished."""


class Plan(NamedTuple):
    """Assignment of sequences to processes, made by rank 0.

    Attributes:
        token: Unique identifier of the launch.
        shares: Names of the sequences of each process, by rank.
        error: Message of the error on rank 0. None if there was none.
    """

    token: str
    shares: list[list[str]]
    error: str | None = None


class Launch(NamedTuple):
    """One process of a launch.

    Attributes:
        rank: Global rank of the process.
        world_size: Number of processes.
        device: Torch device of the process.
        plan: Assignment of the sequences.
        lock: Lock in the folder of the launch, which shows that this process lives.
    """

    rank: int
    world_size: int
    device: str
    plan: Plan
    lock: FileLock | None = None

    @property
    def share(self) -> set[str]:
        """Names of the sequences that this process runs."""
        return set(self.plan.shares[self.rank])

    def finish(self, output_dir: Path, failures: list[Failure]) -> list[Failure] | None:
        """Record that this process has finished, and collect the failures of all processes if it is the last.

        Args:
            output_dir: Results folder, shared by all processes.
            failures: Sequences that failed in this process.

        Returns:
            Failures of all processes if all have finished, else None. Only one process gets the failures.
        """
        folder = _launch_folder(output_dir, self.plan.token)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{self.rank}.json", json.dumps(failures))
        finished = folder.with_name(f"{folder.name}-finished")
        try:
            if len(list(folder.glob("[0-9]*.json"))) < self.world_size:
                return None
            folder.rename(finished)
        except FileNotFoundError:  # another process was the last, and has moved the folder
            return None
        merged = [Failure(*row) for report in sorted(finished.glob("*.json")) for row in json.loads(report.read_text())]
        shutil.rmtree(finished)
        return unique(merged)


def is_launched() -> bool:
    """Return True in a process of torchrun, or in one of several tasks that srun started.

    A batch script of SLURM itself, without srun, is a single process.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return True
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1 and not interactive


def join_launch(make_costs: Callable[[], Mapping[str, float]], output_dir: Path) -> Launch:
    """Join the other processes of the launch and receive a share of the sequences.

    From then on, this process ends when its launcher has ended. Folders of launches that were killed are removed.

    Args:
        make_costs: Function that returns the cost of each unfinished sequence by name. It is called only on rank 0.
        output_dir: Results folder, shared by all processes.

    Raises:
        UserError: If `make_costs` raises a `UserError`. It is raised on every process.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    end_with_parent()
    num_local, num_nodes = _size_of_launch()
    # Rendezvous on the CPU: the broadcast is small, and several processes may share one GPU.
    strategy = DDPStrategy(process_group_backend="gloo")
    try:
        fabric = Fabric(accelerator="cpu", strategy=strategy, devices=num_local, num_nodes=num_nodes)
        fabric.launch()
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"The launch cannot be joined ({error!r}); start the command by torchrun, or by `srun "
            "--ntasks-per-node=N` with the number of tasks on each machine."
        ) from error
    plan = Plan("", [])
    if fabric.global_rank == 0:
        try:
            plan = Plan(uuid.uuid4().hex, share_out(make_costs(), fabric.world_size))
        except UserError as error:
            plan = Plan("", [], str(error))
    plan = fabric.broadcast(plan)
    lock = None if plan.error is not None else _lock(_launch_folder(output_dir, plan.token), fabric.global_rank)
    fabric.barrier()  # all processes hold their locks before one of them can end
    torch.distributed.destroy_process_group()
    if plan.error is not None:
        raise UserError(plan.error)
    if fabric.global_rank == 0:
        remove_killed_launches(output_dir)
    num_gpus = torch.cuda.device_count()
    device = f"cuda:{fabric.local_rank % num_gpus}" if num_gpus else "cpu"
    return Launch(fabric.global_rank, fabric.world_size, device, plan, lock)


def _launch_folder(output_dir: Path, token: str) -> Path:
    return output_dir / f"{_PREFIX}{token}"


def _lock(folder: Path, rank: int) -> FileLock:
    """Hold a lock in the folder of a launch until this process ends, however that happens."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{rank}.lock")
    lock.acquire()
    return lock


def remove_killed_launches(output_dir: Path) -> None:
    """Remove the folders of launches of which no process lives. Those of launches in progress stay.

    Args:
        output_dir: Results folder.
    """
    for folder in output_dir.glob(f"{_PREFIX}*"):
        locks = [FileLock(path) for path in folder.glob("*.lock")]
        with contextlib.ExitStack() as held, contextlib.suppress(Timeout, OSError):
            for lock in locks:
                held.enter_context(lock.acquire(timeout=0))
            if locks:
                shutil.rmtree(folder, ignore_errors=True)


def share_out(costs: Mapping[str, float], num_shares: int) -> list[list[str]]:
    """Assign each sequence, the most expensive first, to the process with the least work.

    Args:
        costs: Cost of each sequence by name.
        num_shares: Number of processes.

    Returns:
        Names of the sequences of each process, the most expensive first.

    >>> share_out({"a": 1, "b": 5, "c": 3, "d": 2}, 2)
    [['b', 'a'], ['c', 'd']]
    """
    shares: list[list[str]] = [[] for _ in range(num_shares)]
    totals = [0.0] * num_shares
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        least = totals.index(min(totals))
        shares[least].append(name)
        totals[least] += costs[name]
    return shares


def _size_of_launch() -> tuple[int, int]:
    """Return the number of processes per machine and the number of machines."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        num_local = int(os.environ["LOCAL_WORLD_SIZE"])
        return num_local, int(os.environ["WORLD_SIZE"]) // num_local
    num_nodes = int(os.environ.get("SLURM_NNODES", "1"))
    return int(os.environ["SLURM_NTASKS"]) // num_nodes, num_nodes
