"""Clients of Dask for the command line: of a scheduler that runs, or of workers started here."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import DataError, MissingExtraError

# Seconds until a scheduler that does not answer is told of.
_PATIENCE = 20


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int | None, threads: int = 1) -> Iterator[Any]:
    """Have a client of a scheduler, or of worker processes on this machine; None of neither.

    Parameters
    ----------
    scheduler : str or None
        Address, such as ``"tcp://node1:8786"``, or the file that ``dask scheduler
        --scheduler-file`` wrote.
    workers : int or None
        Number of processes to start here, which end with the block.
    threads : int
        Threads of each of these.

    Yields
    ------
    client : distributed.Client or None

    Raises
    ------
    MissingExtraError
        If distributed is not installed.
    DataError
        If the scheduler cannot be reached, or processes cannot be started.
    """
    if scheduler is not None and workers is not None:
        raise click.UsageError("--scheduler and --workers are two ways to have workers: give one")
    with contextlib.ExitStack() as stack:
        client = None
        if scheduler is not None:
            client = stack.enter_context(_connect(scheduler))
            if not client.nthreads():
                click.echo(f"Waiting for a worker of {scheduler}", err=True)
        elif workers is not None:
            client = _start(workers, threads, stack)
        yield client


def _connect(scheduler: str) -> Any:
    distributed = _import_distributed("--scheduler")
    address = _address(scheduler)
    try:
        return distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise DataError(f"--scheduler {scheduler}: cannot be reached: {error}") from error


def _address(scheduler: str) -> str:
    """Return the address of a scheduler, which may be in a file."""
    found: Any = scheduler
    if Path(scheduler).is_file():
        try:
            found = json.loads(Path(scheduler).read_bytes())["address"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"--scheduler {scheduler}: is no file of a scheduler ({error}); give the one that "
                "dask scheduler --scheduler-file wrote"
            ) from error
    if not re.fullmatch(r"(\w+://)?[^/\s]+(:\d+)|inproc://\S+", str(found)):
        raise DataError(
            f"--scheduler {scheduler}: is no address, such as tcp://node1:8786, and no file"
        )
    return str(found)


def _start(workers: int, threads: int, stack: contextlib.ExitStack) -> Any:
    distributed = _import_distributed("--workers")
    import dask

    dask.config.set(
        {
            # Else a worker that dies twice in a short time is not started again.
            "distributed.deploy.lost-worker-timeout": "1 day",
            # Dask has memory given back at once, and arrays then take twice the time.
            "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
        }
    )
    try:
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            # Files that are mapped count as memory of the process, and it need not be ended.
            memory_limit=0,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,  # errors come here, and are told once
        )
    except (OSError, RuntimeError) as error:
        raise DataError(f"--workers {workers}: cannot be started: {error}") from error
    stack.enter_context(cluster)
    return stack.enter_context(distributed.Client(cluster, set_as_default=False))


def _import_distributed(option: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError(
            f'{option} needs distributed: pip install "itembed_gpu[cluster]"'
        ) from error
    return distributed
