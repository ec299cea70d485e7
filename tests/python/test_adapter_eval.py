"""Two real adapters on the model that they were trained for: in one batch they answer what they
learnt, and the model alone does not; and routing finds the right one among others.

The thresholds are a little below what llama.cpp's own server answers with them (45 and 44 of 48).
"""

import json
import os
import pathlib
import subprocess

import pytest

from conftest import DEPS, PINS, ROOT

MODEL = pathlib.Path(os.environ.get("HS_GEMMA_MODEL") or DEPS / "models" / PINS["GEMMA_FILE"])
ADAPTERS = ROOT / "tests/data/adapters"


@pytest.fixture
def gemma(hs):
    if not MODEL.is_file():
        pytest.skip(f"{MODEL} is not there: scripts/bootstrap gemma fetches it")
    for name in ("json", "pirate"):
        hs.ok("adapter", "add", str(ADAPTERS / name), "--name", name, "--model", str(MODEL))
    return str(MODEL)


def add_others(hs, gemma, folder, examples):
    """Adapters of random weights beside the two, and what all are for."""
    names = [name for name in examples if name not in ("json", "pirate")]
    make = [str(ROOT / "bench/make_adapters"), gemma, str(folder), str(len(names)), "8"]
    subprocess.run(make, check=True)
    for i, name in enumerate(names):
        hs.ok("adapter", "add", str(folder / f"r8-{i}.gguf"), "--name", name, "--model", gemma)
    for name, texts in examples.items():
        hs.ok("adapter", "tag", name, *(part for text in texts for part in ("--example", text)))


def test_adapters_in_one_batch_and_routing(hs, gemma, tmp_path):
    """None of the examples (tests/data/routing.json) is a question of the files."""
    data = json.loads((ROOT / "tests/data/routing.json").read_text())
    add_others(hs, gemma, tmp_path, data["examples"])
    questions = tmp_path / "all.tsv"
    texts = [(ADAPTERS / name / "heldout.tsv").read_text() for name in ("json", "pirate")]
    questions.write_text("".join(texts) + "".join(f"{text}\t-\n" for text in data["none"]))
    process = hs.start("adapter", "eval", str(questions), "--model", gemma,
                       "--adapter", "json,pirate", "--routing", "--json")
    try:
        out, err = process.communicate(timeout=900)  # a minute where nothing else runs
    finally:
        process.kill()
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["lora_engine"] == "rewrite"
    assert result["mixed_batches"] > 20 and result["most_sets_in_a_batch"] >= 3
    exact = {}
    *columns, routed = result["results"]
    for column in columns:
        assert len(column["cases"]) == column["of"] == 96 + len(data["none"])
        exact[column["adapter"]] = (sum(case["exact"] for case in column["cases"][:48]),
                                    sum(case["exact"] for case in column["cases"][48:96]))
    assert exact[None] == (0, 0)
    assert exact["json"][0] >= 43
    assert exact["pirate"][1] >= 42
    chosen = [tuple(case["adapters"]) for case in routed["cases"]]
    right = (chosen[:48].count(("json",)), chosen[48:96].count(("pirate",)),
             chosen[96:].count(()))
    print(right, routed["exact"], routed["best_choice"])
    # The goal is 0.95; what was set without these questions reaches 0.90 (docs/adapters.md).
    assert routed["exact"] >= 0.85 * routed["best_choice"]
    assert right[2] >= 0.8 * len(data["none"])
