"""Processes of one run: they share arrays, agree, and end together; and how a start fails."""

from tests.multi.together import free_address, run_together

WORKER = """
import sys
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tavid_jax.parallel import processes
from tavid_jax.parallel.mesh import make_mesh, to_global

index, count = int(sys.argv[2]), int(sys.argv[3])
fields = {"coordinator": sys.argv[1], "num_processes": count, "process_id": index}
assert processes.start_processes(fields)
with processes.shared_fate():
    assert jax.process_count() == processes.count() == 2 and jax.device_count() == 4
    mesh = make_mesh({"replica": 2, "fsdp": -1})
    whole = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
    batch = to_global({"x": whole[4 * index : 4 * index + 4]}, mesh)
    assert batch["x"].shape == (8, 3)
    for shard in batch["x"].addressable_shards:
        np.testing.assert_array_equal(shard.data, whole[shard.index])
    total = jax.jit(lambda x: (x * np.arange(8)[:, None]).sum())(batch["x"])
    assert float(total) == float((whole * np.arange(8)[:, None]).sum())
    try:
        to_global({"x": whole[:3]}, mesh)
    except ValueError as error:
        assert "6 examples" in str(error) and "multiple of 4" in str(error)

    assert processes.exchange([index, "a"]) == [[0, "a"], [1, "a"]]
    assert processes.any_process(index == 1) and not processes.any_process(False)
    assert processes.first_does(lambda: f"by {index}") == "by 0"
    processes.barrier("here")
    with processes.alone():  # as if there were no others
        assert processes.exchange(index) == [index] and processes.first_does(lambda: index) == index
        assert processes.devices() == jax.local_devices() and make_mesh().size == 2
        assert processes.is_first()
    assert processes.is_first() == (index == 0)
    assert processes.announced("news") is None
    processes.barrier("nobody has announced")
    if index == 1:
        processes.announce("news", {"at": 3})
        processes.announce("news", {"at": 4})  # the first one counts
    processes.barrier("announced")
    assert processes.announced("news") == {"at": 3}

    processes._PIECE_BYTES = 40  # pieces of three rows, the last of which overlaps
    tree = {"x": batch["x"], "total": total, "own": np.ones(2), "words": np.arange(3)}
    for name, value in processes.gather_to_host(tree).items():
        assert isinstance(value, np.ndarray)
        np.testing.assert_array_equal(value, {**tree, "x": whole, "total": np.asarray(total)}[name])
    print("done", flush=True)
    processes.barrier("both have said so")
    if index == 1:
        raise ValueError("the clip bear.mp4 is broken")
    processes.barrier("which the other one never reaches")
"""


def start(address: str, index: int, count: int) -> list[str]:
    return ["-c", WORKER, address, str(index), str(count)]


def test_two_processes_agree_and_end_together():
    address = free_address()
    ended = run_together(*[start(address, i, 2) for i in range(2)], devices=2)
    assert all("done" in one.out for one in ended), [one.err[-3000:] for one in ended]
    assert [one.code for one in ended] == [1, 1]
    message = "process 1 has failed, so this one ends, too: the clip bear.mp4 is broken"
    assert message in ended[0].err
    assert "ValueError: the clip bear.mp4 is broken" in ended[1].err


def test_processes_that_were_told_different_counts():
    address = free_address()
    ended = run_together(start(address, 0, 2), start(address, 1, 3), devices=2)
    assert [one.code for one in ended] == [1, 1]
    message = "process 1 was told of 3 processes, process 0 of 2: give all of them the same"
    assert all(message in one.err for one in ended), [one.err[-3000:] for one in ended]


def test_nobody_waits_for_ever():
    """A process whose coordinator is not there, and one to which the others do not come."""
    program = (
        "from tavid_jax.parallel.processes import start_processes; import sys;"
        "start_processes(dict(coordinator=sys.argv[1], num_processes=2,"
        " process_id=int(sys.argv[2]), timeout=1))"
    )
    lost, left = run_together(
        ["-c", program, free_address(), "1"], ["-c", program, free_address(), "0"]
    )
    assert [lost.code, left.code] == [1, 1]
    assert "process 1 of 2 waited 1 s in vain: the coordinator localhost:" in lost.err
    assert "cannot be reached" in lost.err and "process 0 has to run there" in lost.err
    assert "process 0 of 2 waited 1 s in vain: not all 2 processes have come" in left.err
