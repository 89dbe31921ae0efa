"""Two processes with two devices each hold one batch together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]

WORKER = """
import sys
import jax
import numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from tavid_jax.parallel.mesh import make_mesh, to_global
from tavid_jax.parallel.processes import start_processes
index = int(sys.argv[2])
joined = start_processes(
    {"coordinator": sys.argv[1], "num_processes": 2, "process_id": index}
)
assert joined and jax.process_count() == 2 and jax.device_count() == 4
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
    print("done")
"""


def test_two_processes_share_a_batch():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, address, str(index)],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        for worker in workers:
            out, err = worker.communicate(timeout=120)
            assert worker.returncode == 0 and out.strip().endswith("done"), err[-3000:]
    finally:
        for worker in workers:
            worker.kill()
