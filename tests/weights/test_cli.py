"""The commands: what they print, and one clear line with exit code 1 on bad input."""

import io
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from tavid_jax.weights import progress
from tavid_jax.weights.cli import main


@pytest.fixture
def folder(tmp_path, tiny_model):
    tiny_model("5b").save_pretrained(tmp_path / "published")
    return str(tmp_path / "published")


def test_import_inspect_export_diff(folder, tmp_path, capsys):
    imported, exported = str(tmp_path / "imported"), str(tmp_path / "exported")
    assert main(["import", folder, imported, "--dtype", "bf16"]) == 0
    out, err = capsys.readouterr()
    assert f"{imported}: cogvideox, " in out and "bfloat16" in out
    assert "import: " in err and "100 %" in err and "GB/s" in err
    assert main(["inspect", imported]) == 0
    out, _ = capsys.readouterr()
    assert "kind        cogvideox" in out and f"source      {folder}" in out
    assert re.search(r"\nblocks/attn/q/kernel +2x32x32 +bfloat16 +4.10 kB\n", out)
    assert main(["export", imported, exported, "--dtype", "f32"]) == 0
    assert "diffusion_pytorch_model.safetensors" in capsys.readouterr().out
    assert main(["diff", exported, imported]) == 0
    assert " equal, 0 different" in capsys.readouterr().out
    assert main(["diff", folder, imported]) == 1
    assert "blocks/attn/q/kernel: largest difference 0.0" in capsys.readouterr().out
    assert main(["diff", folder, imported, "--tolerance", "0.05"]) == 0


def test_inspect_shows_a_total_and_the_own_keys(folder, capsys, tiny):
    _, _, state = tiny("5b")
    assert main(["inspect", folder]) == 0
    out, _ = capsys.readouterr()
    elements = sum(value.size for value in state.values())
    assert f"{elements:,} parameters" in out and "preset      none of the published" in out
    assert main(["inspect", folder, "--keys"]) == 0
    out, _ = capsys.readouterr()
    assert "transformer_blocks.1.attn1.to_out.0.weight" in out and f"{len(state)} arrays" in out


def test_tensors_inside_a_training_script_s_file(folder, tmp_path, capsys, tiny):
    torch = pytest.importorskip("torch")
    _, _, state = tiny("5b")
    saved = {"model": {key: torch.tensor(value) for key, value in state.items()}, "step": 7}
    (tmp_path / "saved").mkdir()
    torch.save(saved, tmp_path / "saved" / "last.pt")
    shutil.copy(f"{folder}/config.json", tmp_path / "saved")
    file = str(tmp_path / "saved" / "last.pt")
    for arguments in (["inspect", file], ["inspect", file, "--keys"], ["diff", folder, file]):
        assert main(arguments) == 0, capsys.readouterr().err
    assert main(["import", file, str(tmp_path / "imported")]) == 0


def test_bad_input_is_one_error_and_exit_code_1(folder, tmp_path, capsys):
    save_file({"x": np.zeros(2)}, tmp_path / "x.safetensors")
    cases = {
        "no checkpoint at /nowhere": ["inspect", "/nowhere"],
        "none of the known checkpoints": ["inspect", str(tmp_path / "x.safetensors")],
        "no preset 'cogvideox-9b'": ["import", folder, "out", "--preset", "cogvideox-9b"],
        "no checkpoint kind 'gan'": ["import", folder, "out", "--kind", "gan"],
        "num_layers: 2 in config.json, 42 here": [
            "import",
            folder,
            "out",
            "--preset",
            "cogvideox-5b",
        ],
        "exists already": ["export", folder, folder],
    }
    for words, arguments in cases.items():
        assert main(arguments) == 1, arguments
        out, err = capsys.readouterr()
        assert err.startswith("error: ") and words in err and "Traceback" not in err
        assert not out


def test_help_names_every_command():
    run = [sys.executable, "-m", "tavid_jax.weights"]
    done = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True)
    for command in ("inspect", "import", "export", "diff"):
        assert f"    {command} " in done.stdout


def test_progress_lines():
    stream = io.StringIO()
    with progress.ProgressBar("import", stream) as bar:
        bar(1, 4)  # too early for a line
        bar(4, 4)
    assert stream.getvalue().count("\n") == 1 and "(100 %)" in stream.getvalue()
    text = progress.line("import", int(1e9), int(4e9), 10.0)
    assert text == "import: 1.00 of 4.00 GB (25 %), 0.10 GB/s, 30 s left"


def test_progress_bar_in_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with progress.ProgressBar("import", stream) as bar:
        bar(1, 4)
        bar(4, 4)
    assert "import" in stream.getvalue()
