"""Each setting of a limit reaches what it limits: N passes, N + 1 does not."""
import http.client
import json
import socket
import time
import urllib.error

import pytest

from conftest import TIMEOUT

USER = {"role": "user", "content": "Hi"}
CHAT = "/v1/chat/completions"


def ask(server, path, body):
    """Status, and the field that an error names."""
    try:
        server.post(path, body)
        return 200, None
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]["param"]


def n_tokens(server, body):
    text = server.post("/apply-template", body)["prompt"]
    return len(server.post("/tokenize", {"content": text, "parse_special": True})["tokens"])


def test_of_fields(serve, say):
    server = serve("-m", say, "--max-messages", 2, "--max-choices", 2, "--max-stop", 1,
                   "--max-schema", 12, "--max-json-depth", 4, "--max-body", 400)
    good = {"messages": [USER, USER], "n": 2, "stop": ["zzz"], "grammar": "root ::= [a]",
            "metadata": {"a": [1]}}
    assert ask(server, CHAT, {**good, "metadata": {"a": [[1]]}}) == (200, None)
    assert ask(server, CHAT, {**good, "metadata": {"a": [[[1]]]}}) == (400, None)
    assert ask(server, CHAT, {**good, "messages": [USER] * 3}) == (400, "messages")
    assert ask(server, CHAT, {**good, "n": 3}) == (400, "n")
    assert ask(server, CHAT, {**good, "stop": ["y", "z"]}) == (400, "stop")
    assert ask(server, CHAT, {**good, "grammar": "root ::= [ab]"}) == (400, "grammar")
    assert ask(server, "/v1/completions", {"prompt": ["a", "b"]}) == (200, None)
    assert ask(server, "/v1/completions", {"prompt": ["a", "b", "c"]})[0] == 400
    body = json.dumps(good).encode()
    assert ask(server, CHAT, body + b" " * (400 - len(body))) == (200, None)
    assert ask(server, CHAT, body + b" " * (401 - len(body))) == (413, None)


def test_of_prompt_tokens(serve, say):
    body = {"messages": [USER]}
    n = n_tokens(serve("-m", say), body)
    server = serve("-m", say, "--max-prompt-tokens", n)
    assert ask(server, CHAT, body) == (200, None)
    longer = {"messages": [{"role": "user", "content": "Hi a"}]}
    assert n_tokens(server, longer) > n
    assert ask(server, CHAT, longer) == (400, "messages")
    assert ask(server, "/v1/completions", {"prompt": [65] * n}) == (200, None)
    assert ask(server, "/v1/completions", {"prompt": [65] * (n + 1)}) == (400, "prompt")


def head(server, n_bytes):
    """The status of a request whose line and headers have that many bytes."""
    text = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "
    text += b"x" * (n_bytes - len(text) - 4) + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as client:
        client.sendall(text)
        return int(client.recv(4096).split()[1])


def is_taken(server, held):
    """Open one more connection; whether the server speaks HTTP on it."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    client.request("GET", "/health")
    reply = client.getresponse()
    reply.read()
    held.append(client)
    return reply.status == 200


@pytest.mark.parametrize("flag", ["--max-connections", "--max-connections-per-address"])
def test_of_connections_and_headers(serve, say, flag):
    server = serve("-m", say, flag, 3, "--max-header", 1024)
    assert head(server, 1024) == 200
    assert head(server, 1025) == 431
    end = time.monotonic() + TIMEOUT
    held = []
    # those of before may still be closing; what was refused is closed here
    while not all([is_taken(server, held) for _ in range(3)]):
        assert time.monotonic() < end
        while held:
            held.pop().close()
    assert not is_taken(server, held)
    for client in held:
        client.close()


def closed_after(server, text):
    """Seconds until the server closes a connection on which only `text` was sent."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as client:
        client.sendall(text)
        received = b""
        while part := client.recv(4096):
            received += part
    return time.monotonic() - begin, received


def test_of_time(serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536, "--idle-timeout", 1, "--read-timeout", 2,
                   "--request-timeout", 1)
    took, received = closed_after(server, b"")
    assert took >= 1 and received == b""
    took, received = closed_after(server, b"GET /health HTTP/1.1\r\nX: ")
    assert took >= 2 and b" 408 " in received
    begin = time.monotonic()
    assert ask(server, CHAT, {"messages": [USER]}) == (504, None)
    assert time.monotonic() - begin >= 1
    server.wait_busy(0)


def test_of_handler_threads(serve, say):
    """One thread and one place to wait: everything still gets its turn."""
    server = serve("-m", say, "--threads-http", 1, "--max-pending", 1)
    for _ in range(5):
        assert ask(server, CHAT, {"messages": [USER]}) == (200, None)
