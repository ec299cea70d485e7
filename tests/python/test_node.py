"""OpenAI's client for Node.js: tests/node against a server of here."""
import os
import subprocess

import pytest

from conftest import DEPS, ROOT, SHOWS_TOOLS, TIMEOUT, need

MODULES = DEPS / "node" / "node_modules"


@pytest.fixture
def node(tmp_path):
    need("node")
    if not (MODULES / "openai").exists():
        pytest.skip(f"{MODULES / 'openai'} is not there; scripts/bootstrap node fetches it")

    def run(name, **env):
        done = subprocess.run(["node", str(ROOT / "tests" / "node" / name)], timeout=5 * TIMEOUT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path),
                                   "HS_NODE_MODULES": str(MODULES), **env})
        assert done.returncode == 0, done.stdout.decode()
    return run


def test_openai(serve, say, caller, cycle, tiny, node):
    models = {"HS_SAY": say, "HS_CALLER": caller, "HS_CYCLE": cycle,
              "HS_EMBED": tiny("bert", "mean")}
    server = serve(*(word for path in models.values() for word in ("-m", path)),
                   "--ctx-size", 32768, *SHOWS_TOOLS)
    node("test_openai.mjs", HS_SERVER=server.url,
         **{name: path.stem for name, path in models.items()})
