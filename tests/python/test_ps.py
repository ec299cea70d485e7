"""hyprstream ps against a running server."""
import json
import re
import signal

import pytest

from conftest import TIMEOUT


def test_idle_and_busy(hs, serve, cycle):
    server = serve("-m", cycle, "--alias", "letters", "--ctx-size", 65536, "--max-sequences", 4)
    idle = hs.ok("ps", "--server", server.url).out.splitlines()
    assert idle[0].split() == ["MODEL", "CONTEXT", "BUSY", "KV", "QUEUE", "PARKED", "TOKENS",
                               "MEMORY"]
    assert idle[1].split()[:3] == ["letters", "65536", "0/4"]
    assert len(idle) == 2
    stream = server.chat(stream=True, extra_headers={"X-Request-Id": "mine-1"})
    next(iter(stream))
    server.wait_busy(1)
    busy = hs.ok("ps", "--port", server.port).out.splitlines()
    assert busy[1].split()[2] == "1/4"
    assert busy[4].split()[0] == "letters" and busy[4].split()[-1] == "mine-1"
    status = hs.ok("ps", "--json", env={"HYPRSTREAM_SERVER": server.url}).json
    assert status["models"][0]["running"] == 1
    assert status["models"][0]["busy"][0]["request_id"] == "mine-1"
    slots = server.get("/slots")
    assert [slot["is_processing"] for slot in slots].count(True) == 1
    assert {slot["request_id"] for slot in slots} == {"", "mine-1"}
    stream.close()
    server.wait_busy(0)


def test_watch(hs, serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536)
    process = hs.start("ps", "--watch", "--json", "--server", server.url)
    for _ in range(2):
        assert json.loads(process.stdout.readline())["models"][0]["running"] == 0
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


def test_no_server(hs):
    result = hs.run("ps", "--port", 1)
    assert result.code == 20
    assert "nothing answers at http://127.0.0.1:1" in result.err and "serve" in result.err
    assert hs.run("ps", "--check", "--port", 1).code == 20
    assert hs.run("ps", "--server", "ftp://127.0.0.1").code == 2


def test_keys(hs, serve, say):
    key = hs.ok("key", "create", "laptop").out.strip()
    server = serve("-m", say)
    result = hs.run("ps", "--server", server.url)
    assert result.code == 5
    assert "HYPRSTREAM_API_KEY" in result.err
    hs.ok("ps", "--check", "--server", server.url)
    hs.ok("ps", "--server", server.url, env={"HYPRSTREAM_API_KEY": key})


def test_tls(hs, serve, say, certificate):
    cert, key = certificate
    server = serve("-m", say, "--tls-cert", cert, "--tls-key", key)
    url = f"https://127.0.0.1:{server.port}"
    result = hs.run("ps", "--server", url)
    assert result.code == 5
    assert "--tls-ca" in result.err
    hs.ok("ps", "--server", url, "--tls-ca", cert)
    hs.ok("ps", "--server", url, "--tls-insecure")
    hs.ok("ps", "--port", server.port, "--tls-cert", cert, "--tls-ca", cert)
    result = hs.run("ps", "--server", url, "--tls-ca", key)
    assert re.search("--tls-ca|not trusted", result.err)
    result = hs.run("ps", "--server", url, "--tls-ca", "nowhere.pem")
    assert result.code == 2 and "'nowhere.pem'" in result.err and "PEM file" in result.err
    result = hs.run("ps", "--port", server.port)  # HTTP
    assert result.code != 0 and "https://" in result.err
    plain = serve("-m", say)
    result = hs.run("ps", "--server", f"https://127.0.0.1:{plain.port}")
    assert result.code != 0 and "called http://" in result.err
