"""The server is what /openapi.json says: schemathesis makes requests, right and wrong, from it.

Left out is its check that every request which fits the schema is accepted: some rules cannot be
said there (a prompt that is not empty, an id that exists, a model that can rank).
"""
import os
import subprocess
import sys

SCHEMATHESIS = (sys.executable, "-m", "schemathesis.cli")


def schemathesis(server, folder, *options):
    result = subprocess.run(
        [*SCHEMATHESIS, "run", f"{server.url}/openapi.json", "--continue-on-failure", "--no-color",
         "--generation-deterministic", "--exclude-checks", "positive_data_acceptance", *options],
        env={**os.environ, "HOME": str(folder)}, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_the_description_is_kept(serve, say, tmp_path):
    server = serve("-m", say)
    report = schemathesis(server, tmp_path, "--max-examples", "5", "--phases", "coverage,fuzzing",
                          "--exclude-checks", "ignored_auth,positive_data_acceptance")
    paths = server.get("/openapi.json")["paths"]
    n_operations = sum(len(operations) for operations in paths.values())
    assert f"Tested: {n_operations}" in report
    # it still answers
    assert server.chat().choices[0].message.content == "Hello world, my friend"


def test_no_way_around_the_key(hs, serve, say, tmp_path):
    key = hs.ok("key", "create", "tester").out.strip()
    schemathesis(serve("-m", say), tmp_path, "--max-examples", "1", "--phases", "fuzzing",
                 "--checks", "ignored_auth", "--header", f"Authorization: Bearer {key}")
