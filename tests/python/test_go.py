"""Arrow's Go client of Flight SQL: tests/go against servers of here."""
import os
import subprocess

import pytest

from conftest import DEPS, ROOT, TIMEOUT

GO = DEPS / "go" / "bin" / "go"
CACHE = DEPS / "cache" / "go"


def test_go(serve_flight, hs, certificate, tmp_path):
    if not GO.exists():
        pytest.skip(f"{GO} is not there; scripts/bootstrap clients fetches it")
    cert, private = certificate
    key = hs.ok("key", "create", "laptop").out.strip()
    login = serve_flight("--cert", cert, private, "--keys", hs.home / "keys.json")
    done = subprocess.run(
        [GO, "test", "-count=1", "-timeout", f"{5 * TIMEOUT}s", "./..."],
        cwd=ROOT / "tests" / "go", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path),
             "GOMODCACHE": str(CACHE / "modules"), "GOCACHE": str(CACHE / "build"),
             "GOFLAGS": "-mod=readonly -modcacherw", "GOPROXY": "off", "GOTOOLCHAIN": "local",
             "CGO_ENABLED": "0", "HS_PLAIN": f"127.0.0.1:{serve_flight().port}",
             "HS_LOGIN": f"127.0.0.1:{login.port}", "HS_KEY": key, "HS_CERT": str(cert)})
    assert done.returncode == 0, done.stdout.decode()
