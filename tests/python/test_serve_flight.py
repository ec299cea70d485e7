"""Each setting of Flight SQL's limits reaches what it limits: N passes, N + 1 does not."""
import re
import socket
import struct
import time

import pytest

from conftest import BINARY, TIMEOUT

if not (BINARY.parents[1] / "tests" / "flight_server").exists():
    pytest.skip("built without Flight SQL", allow_module_level=True)

import pyarrow as pa  # noqa: E402
import pyarrow.flight as flight  # noqa: E402

from flight_sql import Client, command, field  # noqa: E402

EMPTY_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
MAX_CONCURRENT_STREAMS = 3


@pytest.fixture
def database(serve, say):
    """Starts a server; the port of its Flight SQL."""
    def start(*args):
        server = serve("-m", say, "--flight-port", 0, *args)
        return int(re.search(r"Flight SQL on grpc://[\d.]+:(\d+)", "".join(server.errors))[1])
    return start


def prepare(client, text):
    request = command("ActionCreatePreparedStatementRequest", field(1, text))
    return list(client.client.do_action(("CreatePreparedStatement", request), client.options))


def test_of_handles(database):
    client = Client(database("--flight-handles", 2))
    client.login("x", "y")
    prepare(client, "SELECT 1")
    prepare(client, "SELECT 2")
    with pytest.raises(pa.ArrowInvalid, match="2 statements .* --flight-handles"):
        prepare(client, "SELECT 3")


def test_of_messages(database):
    """A Ticket has five bytes, its tag and length, before that many of its own."""
    client = Client(database("--flight-max-message", "4M"))
    with pytest.raises(pa.ArrowInvalid, match="the ticket is malformed"):
        list(client.client.do_get(flight.Ticket(b"x" * ((4 << 20) - 5))))
    with pytest.raises(pa.ArrowInvalid, match="the limit is 4194304"):
        list(client.client.do_get(flight.Ticket(b"x" * ((4 << 20) - 4))))


def test_of_streams(database):
    """What a server allows it says in its first frame (RFC 9113, section 6.5)."""
    port = database("--flight-streams", 7)
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EMPTY_SETTINGS)
        received = b""
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3], "big"):
            part = client.recv(4096)
            assert part
            received += part
    size, kind = int.from_bytes(received[:3], "big"), received[3]
    assert kind == 4
    settings = dict(struct.iter_unpack(">HI", received[9:9 + size]))
    assert settings[MAX_CONCURRENT_STREAMS] == 7


def test_of_idle_clients(database):
    client = Client(database("--flight-idle-timeout", 1))
    client.login("x", "y")
    client.query("SELECT 1")
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:  # each call counts anew
        time.sleep(1.5)
        try:
            client.query("SELECT 1")
        except flight.FlightUnauthenticatedError:
            return
    pytest.fail("the client is still logged in")


@pytest.mark.parametrize("flag, value", [
    ("--flight-handles", "0"), ("--flight-handles", "65537"), ("--flight-streams", "0"),
    ("--flight-max-message", "4194303"), ("--flight-max-message", "2G"),
    ("--flight-idle-timeout", "0")])
def test_out_of_range(hs, flag, value):
    done = hs.run("serve", "--flight-port", 0, flag, value)
    assert done.code == 2
    assert flag in done.err
