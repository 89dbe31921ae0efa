"""Two processes of a run encode a share each, and both read the whole."""

from tavid_jax.data.shards import ShardedRecords
from tests.data.test_shards import contents, make
from tests.multi.together import free_address, run_together

WORKER = """
import sys
from pathlib import Path
import jax
from ml_collections import ConfigDict
from configs.common import encode_stage
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.engine.encode import Encoding
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.preemption import Preemption
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.processes import start_processes
from tests.data.test_shards import SIZE, Clips, Doubling

class Inputs(ConfiguredInputs):
    def open(self, name):
        return Clips() if name == "train" else super().open(name)

address, index, workdir = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
start_processes({"coordinator": address, "num_processes": 2, "process_id": index})
stage = encode_stage(shard_size=SIZE)
config = ConfigDict(dict(data_dir="/nowhere", cache="", stages=dict(encode=stage)))
encoder = Doubling()
result = Encoding(
    name="encode", stage=stage, method=encoder, inputs=Inputs(config, workdir),
    folder=StageFolder(workdir / "stages" / "encode"), mesh=make_mesh(), seed=0, earlier={},
    provenance={}, preemption=Preemption(),
    config=dict(stages=dict(encode=dict(data="train"), fit=dict(data="encode")), order=["fit"]),
).run()
assert set(result) == {"null_text"}
source = Inputs(config, workdir).open("encode")
assert [source[i]["id"] for i in range(len(source))] == [f"c{i}" for i in range(7)]
print("made", sum(map(len, encoder.calls)))
"""


def test_two_processes_make_a_share_each(tmp_path):
    address, workdir = free_address(), str(tmp_path / "run")
    ended = run_together(*[["-c", WORKER, address, str(i), workdir] for i in range(2)])
    assert [one.code for one in ended] == [0, 0], [one.err[-3000:] for one in ended]
    assert [one.out.split()[-1] for one in ended] == ["4", "3"]  # shards 0 and 2, and shard 1
    cache = tmp_path / "run" / "stages" / "encode" / "cache"
    make(tmp_path / "one")
    assert contents(cache) == contents(tmp_path / "one")
    assert len(ShardedRecords(cache)) == 7
