"""Two real adapters on the model that they were trained for: in one batch they answer what they
learnt, and the model alone does not.

The thresholds are a little below what llama.cpp's own server answers with them (45 and 44 of 48).
"""

import json
import os
import pathlib

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


def test_adapters_answer_in_one_batch(hs, gemma, tmp_path):
    questions = tmp_path / "both.tsv"
    texts = [(ADAPTERS / name / "heldout.tsv").read_text() for name in ("json", "pirate")]
    questions.write_text("".join(texts))
    process = hs.start("adapter", "eval", str(questions), "--model", gemma,
                       "--adapter", "json,pirate", "--json")
    try:
        out, err = process.communicate(timeout=900)  # half a minute where nothing else runs
    finally:
        process.kill()
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["lora_engine"] == "rewrite"
    assert result["mixed_batches"] > 20 and result["most_sets_in_a_batch"] == 3
    exact = {}
    for column in result["results"]:
        assert len(column["cases"]) == column["of"] == 96
        exact[column["adapter"]] = (sum(case["exact"] for case in column["cases"][:48]),
                                    sum(case["exact"] for case in column["cases"][48:]))
    assert exact[None] == (0, 0)
    assert exact["json"][0] >= 43
    assert exact["pirate"][1] >= 42
