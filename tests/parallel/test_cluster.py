"""Which process this is, from what each kind of launcher says."""

import socket

import pytest

from tavid_jax.parallel.cluster import DETECTED, Place, find_place, first_node
from tavid_jax.parallel.processes import (
    any_process,
    barrier,
    exchange,
    first_does,
    gather_to_host,
    is_first,
    shared_fate,
    start_processes,
)

SRUN = {
    "SLURM_JOB_ID": "70001",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
}
HOSTS = {"hosts": "alpha:1234, beta,gamma"}


def here(name: str):
    return lambda host: host == name


def test_single_process_starts_nothing():
    assert start_processes() is False
    assert start_processes({"coordinator": ""}) is False
    one = {"coordinator": "localhost:1234", "num_processes": 1, "process_id": 0}
    assert start_processes(one) is False
    assert find_place({"coordinator": "auto"}, {"JAX_PLATFORMS": "cpu"}) is None
    assert find_place({"hosts": "alpha"}, {}, here("alpha")) is None


def test_helpers_are_trivial_alone():
    assert is_first() and exchange("x") == ["x"] and any_process(True) and not any_process(False)
    assert first_does(lambda: {"a": 1}) == {"a": 1}
    assert gather_to_host({"a": 1.5})["a"] == 1.5
    barrier("nobody else")
    with pytest.raises(KeyError), shared_fate():
        raise KeyError


@pytest.mark.parametrize(
    ("name", "environ", "index"),
    [
        ("alpha", {}, 0),
        ("gamma", {}, 2),
        ("elsewhere", {"TAVID_PROCESS_ID": "1"}, 1),
    ],
)
def test_one_command_for_all_hosts(name: str, environ: dict[str, str], index: int):
    assert find_place(HOSTS, environ, here(name)) == Place("alpha:1234", 3, index)


def test_this_machine_is_found_by_its_names_and_addresses():
    name = socket.gethostname()
    assert find_place({"hosts": f"nowhere.invalid,{name}"}, {}).index == 1
    assert find_place({"hosts": "nowhere.invalid,127.0.0.1"}, {}).index == 1
    # 192.0.2.0/24 is nobody's.
    assert find_place({"hosts": "localhost,192.0.2.1"}, {}).index == 0


@pytest.mark.parametrize(
    ("fields", "environ", "message"),
    [
        ({"port": 1}, {}, r"distributed\.port is not a field"),
        ({"coordinator": "a:1", "num_processes": 4, "process_id": 4}, {}, r"process_id=4.*=N"),
        ({"coordinator": "a:1", "num_processes": 4}, {}, r"process_id=None.*TAVID_PROCESS_ID"),
        ({"coordinator": "a:1"}, {"TAVID_PROCESS_ID": "one"}, r"'one' is no number"),
        (HOSTS, {}, r"none of them is this machine.*TAVID_PROCESS_ID=0 \.\.\. 2"),
        ({"hosts": "localhost,localhost"}, {}, r"2 of them are this machine"),
        (HOSTS, {"TAVID_PROCESS_ID": "3"}, r"=3 but distributed\.hosts has 3"),
    ],
)
def test_errors_name_the_mend(fields, environ, message: str):
    with pytest.raises(ValueError, match=message):
        find_place(fields, environ)


def test_explicit_index_may_come_from_the_environment():
    fields = {"coordinator": "a:1", "num_processes": 4, "process_id": -1}
    assert find_place(fields, {"TAVID_PROCESS_ID": "3"}) == Place("a:1", 4, 3)


def test_a_task_of_srun():
    auto = {"coordinator": "auto"}
    expected = Place(f"gpu07:{61440 + 70001 % 4096}", 8, 6)
    assert find_place(auto, SRUN) == expected
    # All GPUs of a node are visible: the tasks share them.
    eight = SRUN | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
    assert find_place(auto, eight).devices == (4, 5)
    assert find_place(auto, SRUN | {"SLURM_GPUS_ON_NODE": "4"}).devices == (2,)
    # Each sees its own only, or there is one task on each node.
    assert find_place(auto, SRUN | {"CUDA_VISIBLE_DEVICES": "0"}).devices is None
    whole = eight | {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_STEP_NUM_TASKS": "2"}
    assert find_place(auto, whole | {"SLURM_PROCID": "1"}).devices is None
    # The script of sbatch is a task, too, but no step of srun; and one task is no group.
    assert (
        find_place(auto, {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "JAX_PLATFORMS": "cpu"}) is None
    )
    assert find_place(auto, SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[007-012,20],login", "gpu007"),
        ("rack[3,5]n", "rack3n"),
    ],
)
def test_first_node(nodes: str, first: str):
    assert first_node(nodes) == first


def test_what_jax_finds_by_itself():
    auto = {"coordinator": "auto"}
    assert find_place(auto, {"OMPI_COMM_WORLD_SIZE": "4"}) == DETECTED
    pod = {"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "tpu,cpu"}
    assert find_place(auto, pod) == DETECTED
    assert find_place(auto, pod | {"TPU_WORKER_HOSTNAMES": "a"}) is None
    assert find_place(auto, pod | {"JAX_PLATFORMS": "cpu"}) is None
