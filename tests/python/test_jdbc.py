"""JDBC's driver for Flight SQL: the programs in tests/java against a server of here."""
import os
import re
import subprocess

import pytest

from conftest import DEPS, ROOT, TIMEOUT, need

SOURCES = ROOT / "tests" / "java"
DRIVER = re.search(r'^JDBC_DRIVER="(\S+) (\S+) (\S+) ', (ROOT / "pins.env").read_text(), re.M)
JAR = DEPS / "download" / f"{DRIVER[2]}-{DRIVER[3]}.jar"


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    need("javac")
    if not JAR.exists():
        pytest.skip(f"{JAR} is not there; scripts/bootstrap clients fetches it")
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-encoding", "UTF-8", "-d", folder,
                    *SOURCES.glob("*.java")], check=True, timeout=TIMEOUT)
    return folder


@pytest.fixture
def java(classes, tmp_path):
    def run(name, server, **env):
        done = subprocess.run(
            # without C2 and a large heap it is up sooner, and leaves the machine to the server
            ["java", "-XX:TieredStopAtLevel=1", "-Xmx512m", f"-Djava.io.tmpdir={tmp_path}",
             "-Duser.timezone=UTC", "--add-opens=java.base/java.nio=ALL-UNNAMED",
             "-cp", f"{classes}:{JAR}", name, address(server, "useEncryption=false")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * TIMEOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **env})
        assert done.returncode == 0, done.stdout.decode()
    return run


def address(server, options=""):
    return f"jdbc:arrow-flight-sql://127.0.0.1:{server.port}/?{options}"


def test_metadata(java, serve_flight):
    java("Metadata", serve_flight())


def test_statements(java, serve_flight):
    java("Statements", serve_flight())


def test_connections(java, serve_flight, hs, certificate):
    cert, private = certificate
    key = hs.ok("key", "create", "laptop").out.strip()
    login = serve_flight("--cert", cert, private, "--keys", hs.home / "keys.json")
    java("Connections", serve_flight(), HS_LOGIN=address(login), HS_KEY=key, HS_CERT=str(cert))
