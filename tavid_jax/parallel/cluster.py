"""Which of a run's processes this one is: from a config, a list of hosts, or the cluster's word."""

from __future__ import annotations

import glob
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# Says which process this is where a list of hosts, or one command for all, cannot.
INDEX_VARIABLE = "TAVID_PROCESS_ID"
FIELDS = ("coordinator", "num_processes", "process_id", "hosts", "timeout")
DEFAULT_PORT = 8476
_GOOGLE = "0x1ae0"  # vendor of TPU chips on the PCI bus


class Place(NamedTuple):
    """One process among those of a run.

    Attributes:
      coordinator: "host:port" where process 0 listens; "" leaves it all to jax.
      count, index: of the processes, from 0.
      devices: numbers of the host's accelerators that are this process's; None is all.
    """

    coordinator: str
    count: int = 0
    index: int = 0
    devices: tuple[int, ...] | None = None


#: jax reads the environment itself: TPU pods, Open MPI
DETECTED = Place("")


def find_place(
    config: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    is_here: Callable[[str], bool] | None = None,
) -> Place | None:
    """The place of this process; None where it is the only one.

    Args:
      config: `config.distributed`: see configs/common.py; missing fields take their defaults.
      environ: environment variables.
      is_here: whether a host of that name is this machine; None asks the network's names.

    Raises:
      ValueError: an unknown field, or an address without a usable count and index of processes.
    """
    fields = dict(config or {})
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise ValueError(f"distributed.{unknown[0]} is not a field: use {', '.join(FIELDS)}")
    coordinator, hosts = fields.get("coordinator") or "", fields.get("hosts") or ""
    if hosts:
        place = _listed(hosts, environ, is_here or _is_here)
    elif coordinator == "auto":
        place = _slurm(environ) or (DETECTED if _jax_knows(environ) else None)
    elif coordinator:
        place = _given(coordinator, fields, environ)
    else:
        return None
    return None if place is None or place.count == 1 else place


def _given(coordinator: str, fields: Mapping[str, Any], environ: Mapping[str, str]) -> Place:
    count, index = fields.get("num_processes"), fields.get("process_id")
    if index is None or index < 0:
        index = _own_index(environ)
    if not count or index is None or not 0 <= index < count:
        raise ValueError(
            f"distributed.coordinator={coordinator!r} with num_processes={count} and "
            f"process_id={index}: set --config.distributed.num_processes=N and "
            f"--config.distributed.process_id (or {INDEX_VARIABLE}) in [0, N)"
        )
    return Place(_with_port(coordinator), count, index)


def _listed(
    hosts: str | tuple[str, ...], environ: Mapping[str, str], is_here: Callable[[str], bool]
) -> Place:
    names = hosts.split(",") if isinstance(hosts, str) else list(hosts)
    names = [name.strip() for name in names]
    index = _own_index(environ)
    if index is None:
        mine = [i for i, name in enumerate(names) if is_here(_host(name))]
        if len(mine) != 1:
            what = f"{len(mine)} of them are" if mine else "none of them is"
            raise ValueError(
                f"distributed.hosts={','.join(names)}: {what} this machine, "
                f"{socket.gethostname()}; say which process this is by the environment variable "
                f"{INDEX_VARIABLE}=0 ... {len(names) - 1}"
            )
        index = mine[0]
    if not 0 <= index < len(names):
        raise ValueError(f"{INDEX_VARIABLE}={index} but distributed.hosts has {len(names)} hosts")
    return Place(_with_port(names[0]), len(names), index)


def _own_index(environ: Mapping[str, str]) -> int | None:
    text = environ.get(INDEX_VARIABLE, "")
    if text and not text.isdigit():
        raise ValueError(f"{INDEX_VARIABLE}={text!r} is no number of a process, 0, 1, ...")
    return int(text) if text else None


def _host(address: str) -> str:
    return re.sub(r":\d+$", "", address)


def _with_port(address: str) -> str:
    return address if _host(address) != address else f"{address}:{DEFAULT_PORT}"


def _is_here(host: str) -> bool:
    """Whether a name is this machine's: as it calls itself, or by an address that it owns."""
    own = {socket.gethostname(), socket.getfqdn()}
    if host in own | {name.split(".")[0] for name in own}:
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind((address[0], 0))  # only to an address of one's own
                return True
            except OSError:
                continue
    return False


# ---- clusters ------------------------------------------------------------------------------------


def _slurm(environ: Mapping[str, str]) -> Place | None:
    """A task of `srun`; None elsewhere, also in the script of sbatch itself."""
    nodes = environ.get("SLURM_STEP_NODELIST")
    if not nodes or "SLURM_PROCID" not in environ:
        return None
    count = int(environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS") or 1)
    # Jobs that share a node need ports of their own: among the last 4096 there are.
    port = 61440 + int(environ.get("SLURM_JOB_ID", 0)) % 4096
    coordinator = f"{first_node(nodes)}:{port}"
    return Place(coordinator, count, int(environ["SLURM_PROCID"]), _slurm_devices(environ))


def first_node(nodes: str) -> str:
    """The first of SLURM's list: "gpu[07-09,12],login" -> "gpu07"."""
    first = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in first.groups()) if first else nodes


def _slurm_devices(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """The tasks of a node share its GPUs; a task that sees no more than its own keeps them."""
    per_node = environ.get("SLURM_STEP_TASKS_PER_NODE", "1")  # "4(x2),3": of each node
    counts = [
        int(count)
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", per_node)
        for _ in range(int(times or 1))
    ]
    node = int(environ.get("SLURM_NODEID", 0))
    tasks = counts[min(node, len(counts) - 1)]
    if "CUDA_VISIBLE_DEVICES" in environ:
        visible = len([name for name in environ["CUDA_VISIBLE_DEVICES"].split(",") if name])
    else:
        visible = int(environ.get("SLURM_GPUS_ON_NODE") or 0)
    share, mine = visible // tasks, int(environ.get("SLURM_LOCALID", 0))
    return tuple(range(mine * share, (mine + 1) * share)) if tasks > 1 and share else None


def _jax_knows(environ: Mapping[str, str]) -> bool:
    """Whether jax finds several processes by itself: on a host of a TPU pod, under Open MPI."""
    if int(environ.get("OMPI_COMM_WORLD_SIZE") or 1) > 1:
        return True
    platforms = environ.get("JAX_PLATFORMS") or "tpu"
    if "tpu" not in platforms or environ.get("TPU_SKIP_MDS_QUERY"):
        return False
    hosts = environ.get("TPU_WORKER_HOSTNAMES")
    if hosts is not None and int(environ.get("MEGASCALE_NUM_SLICES") or 1) == 1:
        return "," in hosts
    return any(Path(path).read_text().strip() == _GOOGLE for path in _pci_vendors())


def _pci_vendors() -> list[str]:
    return glob.glob("/sys/bus/pci/devices/*/vendor")
