"""The page of figures: what was compiled, what does not fit, what is missing."""

import json


def test_the_page_is_made_of_results_and_says_what_is_missing(call, tmp_path):
    results, output = tmp_path / "results.jsonl", tmp_path / "page.md"
    arguments = (f"--results={results}", f"--output={output}", "--rows=^$")
    assert call("compilation.page", *arguments).returncode == 0
    empty = output.read_text()
    assert "| llama2_70b | DPO LoRA | v5p:4x4x4 | | | | not yet compiled |" in empty
    decode = "--program=decode --config.model.dtype=bfloat16 --architecture=llama2_70b"
    name = f"Generation, decode: --config=configs/leco_smollm2.py {decode} --topology=v5e:4x4"
    common = {"batch": 16, "unit": "slots", "compile_cpu_seconds": 56.0, "host_bytes": 1e9}
    rows = [
        {
            "name": f"{name} --config.mesh.tensor=16",
            "figures": common | {
                "memory": {"parameters": 11e9, "cache": 10e9}, "fits": False, "seconds": {},
                "reason": "needs 23 GB", "largest": [[7e9, "cache['k'][0]"]],
            },
        },
        {
            "name": f"{name} --config.mesh.tensor=16 --config.engine.slots=4",
            "figures": common | {
                "memory": {"parameters": 11e9, "temporaries": 1e9}, "fits": True, "tokens": 32,
                "seconds": {"compute": 0.001, "hbm": 0.02}, "bound": "hbm", "mfu_ceiling": 0.05,
                "batch": 4,
            },
        },
    ]  # fmt: skip
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("compilation.page", *arguments).returncode == 0
    page = output.read_text()
    assert "| v5e:4x4 | 16 slots | 21.00 |  | no |  |  |  |  | 56 CPU s, 1.0 GB |" in page
    fits = (
        "| v5e:4x4 | 4 slots | 11.00 | 1.00 | yes | 20.0 ms | HBM | 5% | 1,600 | 56 CPU s, 1.0 GB |"
    )
    assert fits in page
    assert "v5e:4x4: needs 23 GB; largest buffers: 7.00 GB cache['k'][0]" in page
