"""SQL over HTTP: POST /api/v1/sql, and `hyprstream sql --server`."""
import http.client
import json
import subprocess
import threading
import urllib.error
import urllib.request

import pexpect
import pytest

from conftest import BINARY, TIMEOUT, interrupt

if not (BINARY.parents[1] / "tests" / "flight_server").exists():
    pytest.skip("built without SQL", allow_module_level=True)

EVERY_TYPE = (
    "SELECT 1::TINYINT a, 200::UTINYINT b, -3::SMALLINT c, 7::BIGINT d, 9::HUGEINT e, "
    "1.25::DECIMAL(10, 2) f, 0.5::FLOAT g, 0.1::DOUBLE h, true i, 'gr\u00fc\u00df, \"x\"' j, "
    "'ab'::BLOB k, NULL::INTEGER l, DATE '2020-02-29' m, TIME '10:11:12.5' n, "
    "TIMESTAMP '2020-01-01 01:02:03' o, [1, NULL, 3] p, {'a': [1], 'b': 'x'} q, MAP {'k': 1} r, "
    "[1, 2]::INTEGER[2] s, 'b'::ENUM('a', 'b') t, INTERVAL 3 DAY u, '' v "
    "FROM range(5000)")
LONG = "SELECT count(*) FROM range(100000000000) a, range(10) b"
FAILS_LATE = ("SELECT CAST(CASE WHEN i < 300000 THEN '1' ELSE 'late' END AS INTEGER) AS n "
              "FROM range(300001) t(i)")


@pytest.fixture
def server(serve, say):
    return serve("-m", say, "--sql-threads", 1)


def post(server, query, **fields):
    """The whole answer: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.request("POST", "/api/v1/sql", json.dumps({"query": query, **fields}))
    reply = connection.getresponse()
    try:
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


def rows(server, query, *parameters):
    status, _, body = post(server, query, parameters=list(parameters))
    assert status == 200, body
    return json.loads(body)


def error(server, query, **fields):
    status, _, body = post(server, query, **fields)
    return status, json.loads(body)["error"]["message"]


def test_formats(server):
    query = "SELECT i, 'n' || i AS s FROM range(2) t(i)"
    status, headers, body = post(server, query)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == [{"i": 0, "s": "n0"}, {"i": 1, "s": "n1"}]
    _, headers, body = post(server, query, format="ndjson")
    assert headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in body.splitlines()] == json.loads(
        post(server, query)[2])
    _, headers, body = post(server, query, format="csv")
    assert headers["Content-Type"].startswith("text/csv")
    assert body == b"i,s\r\n0,n0\r\n1,n1\r\n"
    _, headers, body = post(server, query, format="arrow")
    assert headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    pa = pytest.importorskip("pyarrow")
    with pa.ipc.open_stream(body) as reader:
        assert reader.read_all().to_pydict() == {"i": [0, 1], "s": ["n0", "n1"]}
    assert rows(server, "SELECT 1 AS a WHERE false") == []


def test_statements_that_give_no_rows(server):
    status, headers, body = post(server, "CREATE TABLE t (n INTEGER)")
    assert (status, json.loads(body), headers["Sql-Rows-Changed"]) == (200, [], None)
    _, headers, body = post(server, "INSERT INTO t VALUES (1), (2), (3)")
    assert (json.loads(body), headers["Sql-Rows-Changed"]) == ([], "3")
    assert rows(server, "SELECT sum(n) AS s FROM t") == [{"s": "6"}]
    assert post(server, "DELETE FROM t", format="csv")[2] == b""
    # several: they share a connection, and the rows of the last are the answer
    assert rows(server, "CREATE TEMP TABLE u AS SELECT 5 AS n; SELECT n FROM u") == [{"n": 5}]
    assert error(server, "FROM u")[0] == 400


def test_parameters(server):
    assert rows(server, "SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e",
                1, 0.5, "x", True, None) == [{"a": 1, "b": 0.5, "c": "x", "d": True, "e": None}]
    assert rows(server, "SELECT i FROM range(10) t(i) WHERE i > $1 LIMIT 1", 6) == [{"i": 7}]
    assert rows(server, "SELECT ?::DATE + 1 AS d", "2020-02-28")[0]["d"].startswith("2020-02-29")
    assert error(server, "SELECT ?")[0] == 400
    assert "1 parameter" in error(server, "SELECT ?", parameters=[1, 2])[1]
    for bad in ("x", {"a": 1}, [[1]], [{}]):
        status, message = error(server, "SELECT ?", parameters=bad)
        assert status == 400 and "parameters" in message


def test_errors(server):
    status, message = error(server, "SELECT 1,\n  nix FROM range(3)")
    assert status == 400 and "nix" in message and "line 2" in message
    assert error(server, "COPY (SELECT 1) TO '/tmp/x.csv'")[0] == 403
    assert error(server, "SELECT generate('Hi', {model: 'moon'})")[0] == 404
    assert "format" in error(server, "SELECT 1", format="table")[1]
    assert error(server, "SELECT 1", format="xml")[0] == 400
    assert error(server, "")[0] == 400
    for body in (b"", b"SELECT 1", b"{}", b'{"query": 1}', b'{"query": "SELECT \\u0000"}'):
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.post("/api/v1/sql", body)
        assert refused.value.code == 400
        refused.value.close()


def test_errors_after_the_first_rows(hs, server):
    pa = pytest.importorskip("pyarrow")
    _, _, body = post(server, FAILS_LATE, format="ndjson")
    assert "late" in json.loads(body.splitlines()[-1])["error"]["message"]
    for cut in ("csv", "json"):
        with pytest.raises(http.client.IncompleteRead):
            post(server, FAILS_LATE, format=cut)
    with pytest.raises(pa.ArrowInvalid):
        pa.ipc.open_stream(post(server, FAILS_LATE, format="arrow")[2]).read_all()
    result = hs.run("sql", "--server", server.url, FAILS_LATE, "--format", "csv")
    assert result.code != 0 and "late" in result.err


@pytest.mark.parametrize("style", ["table", "csv", "json", "ndjson", "arrow"])
def test_a_server_prints_as_the_process_does(hs, server, style):
    for query in (EVERY_TYPE, "SELECT 1 AS a WHERE false", "CREATE OR REPLACE TEMP TABLE t (a INT)",
                  "SELECT generate('Hi') AS answer"):
        model = server.process.args[server.process.args.index("-m") + 1]
        here = hs.ok("sql", "--sql-file", ":memory:", "-m", model, "--format", style, query)
        there = hs.ok("sql", "--server", server.url, "--format", style, query)
        if style == "arrow" and here.out_bytes:  # bytes behind a NULL are anything
            pa = pytest.importorskip("pyarrow")
            assert (pa.ipc.open_stream(there.out_bytes).read_all()
                    == pa.ipc.open_stream(here.out_bytes).read_all())
        else:
            assert there.out_bytes == here.out_bytes
        assert there.err == here.err


def test_statements_of_the_command(hs, server):
    run = ("sql", "--server", server.url)
    hs.ok(*run, "CREATE TABLE t (n INT)")
    terminal = hs.terminal(*run, "INSERT INTO t VALUES (1), (2)")
    terminal.expect("2 rows")
    terminal.expect(pexpect.EOF)
    assert hs.ok(*run, "FROM t ORDER BY n", env={"HYPRSTREAM_API_KEY": "any"}).out == "n\n1\n2\n"
    assert hs.ok("sql", input="FROM t; SELECT 3 AS n;\n",
                 env={"HYPRSTREAM_SERVER": server.url}).out == "n\n1\n2\nn\n3\n"
    # statements share a session
    assert hs.ok(*run, "CREATE TEMP TABLE u AS SELECT 5 AS n; FROM u; FROM u").out == "n\n5\n" * 2
    (hs.folder / "u.sql").write_text("CREATE TEMP TABLE u AS SELECT 6 AS n; FROM u")
    assert hs.ok(*run, ".read u.sql").out == "n\n6\n"
    # the server has the tables open
    result = hs.run("sql", "FROM t")
    assert result.code == 14 and "--server" in result.err
    result = hs.run(*run, "SELEC 1")
    assert result.code == 2 and "SELEC" in result.err
    assert hs.run(*run, "ATTACH 'x'").code == 5
    for flag in (("--model", "x"), ("--sql-allow", "/"), ("--threads", "1")):
        result = hs.run(*run, *flag, "SELECT 1")
        assert result.code == 2 and flag[0] in result.err
    assert hs.run("sql", "--server", "http://127.0.0.1:1", "SELECT 1").code == 20


def call(server, method, path, key="", body=None):
    """The status and the JSON of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    data = json.dumps(body or {}) if method == "POST" else None
    connection.request(method, "/api/v1/sql" + path, data, headers)
    reply = connection.getresponse()
    try:
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def test_sessions(server):
    status, made = call(server, "POST", "/sessions")
    assert status == 200 and made["object"] == "sql_session" and len(made["id"]) == 32
    mine = {"session": made["id"]}

    def ask(query):
        return call(server, "POST", "", body={"query": query, **mine})
    assert ask("CREATE TEMP TABLE u AS SELECT 1 AS n") == (200, [])
    assert ask("SET VARIABLE x = 7") == (200, [])
    assert ask("SELECT n, getvariable('x') AS x FROM u") == (200, [{"n": 1, "x": 7}])
    assert error(server, "FROM u")[0] == 400  # nobody else sees it
    assert ask("BEGIN") == (200, []) and ask("CREATE TABLE kept AS SELECT 2 AS n") == (200, [])
    assert error(server, "FROM kept")[0] == 400
    assert ask("selec")[0] == 400  # an error ends no session
    ask("ROLLBACK")
    assert ask("FROM kept")[0] == 400
    assert ask("BEGIN; CREATE TABLE kept AS SELECT 2 AS n; COMMIT") == (200, [])
    assert rows(server, "FROM kept") == [{"n": 2}]
    # parameters and formats are as without
    assert call(server, "POST", "", body={"query": "SELECT ? + n AS m FROM u", "parameters": [1],
                                          **mine}) == (200, [{"m": 2}])
    status, told = call(server, "GET", "/sessions/" + made["id"])
    assert (status, told["id"]) == (200, made["id"]) and told["idle_ms"] >= 0
    status, told = call(server, "DELETE", "/sessions/" + made["id"])
    assert (status, told["deleted"]) == (200, True)
    for again in (ask("SELECT 1"), call(server, "GET", "/sessions/" + made["id"]),
                  call(server, "DELETE", "/sessions/" + made["id"])):
        assert again[0] == 404 and "no such SQL session" in again[1]["error"]["message"]
    assert error(server, "SELECT 1", session=7)[0] == 400
    for body in (b"[]", b"nothing"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.post("/api/v1/sql/sessions", body)
        assert refused.value.code == 400
        refused.value.close()


def test_a_session_runs_one_statement(serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536, "--max-sequences", 4)
    session = call(server, "POST", "/sessions")[1]["id"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.request("POST", "/api/v1/sql", json.dumps(
        {"query": "SELECT generate('x', {max_tokens: 60000})", "session": session}))
    server.wait_busy(1)
    status, message = error(server, "SELECT 1", session=session)
    assert status == 409 and "another statement" in message
    assert call(server, "GET", "/sessions/" + session)[1]["idle_ms"] == 0
    assert call(server, "DELETE", "/sessions/" + session)[0] == 200
    assert connection.getresponse().status != 200  # its statement ended with it
    connection.close()
    server.wait_busy(0)
    # one whose client leaves goes on with the next statement
    session = call(server, "POST", "/sessions")[1]["id"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.request("POST", "/api/v1/sql", json.dumps({"query": LONG, "session": session}))
    wait_until(lambda: server.get("/api/v1/status")["statements"] != [])
    connection.close()
    wait_until(lambda: post(server, "SELECT 1 AS n", session=session)[0] == 200)


def test_limits_of_sessions(hs, serve, say):
    keys = [hs.ok("key", "create", name).out.strip() for name in ("ann", "bob")]
    server = serve("-m", say, "--sql-sessions", 2)
    assert call(server, "POST", "/sessions")[0] == 401
    ids = []
    for key in keys:
        made = [call(server, "POST", "/sessions", key) for _ in range(3)]
        assert [status for status, _ in made] == [200, 200, 429]
        assert "sql-sessions" in made[2][1]["error"]["message"]
        ids.append(made[1][1]["id"])
    for key, other in zip(keys, reversed(ids)):
        assert call(server, "GET", "/sessions/" + other, key)[0] == 404
        assert call(server, "POST", "", key, {"query": "SELECT 1", "session": other})[0] == 404
    server.stop()
    server = serve("-m", say, "--sql-idle-timeout", 1)
    made = call(server, "POST", "/sessions", keys[0])[1]["id"]
    wait_until(lambda: call(server, "GET", "/sessions/" + made, keys[0])[0] == 404)
    server.stop()
    server = serve("-m", say, "--sql-statements", 0)
    assert call(server, "POST", "/sessions", keys[0])[0] == 404


def test_a_session_that_the_server_ended(hs, serve, say):
    server = serve("-m", say)
    shell = hs.terminal("sql", "--server", server.url, "--format", "csv")
    for text in ("CREATE TEMP TABLE u AS SELECT 1 AS n;", "FROM u;"):
        shell.expect_exact("sql> ")
        shell.send(text + "\r")
    shell.expect_exact("sql> ")
    server.stop()
    shell.send("FROM u;\r")
    shell.expect_exact("nothing answers")
    shell.expect_exact("sql> ")
    serve("-m", say, "--port", server.port)
    shell.send("FROM u;\r")
    shell.expect_exact("what was temporary is gone")
    shell.expect_exact("sql> ")
    shell.send("SELECT 41 + 1 AS n;\r")
    shell.expect_exact("42")
    shell.expect_exact("sql> ")
    shell.send("\x04")
    shell.expect(pexpect.EOF)


def test_keys(hs, serve, say):
    key = hs.ok("key", "create", "ann").out.strip()
    server = serve("-m", say)
    assert error(server, "SELECT 1")[0] == 401
    assert hs.run("sql", "--server", server.url, "SELECT 1").code == 5
    told = hs.ok("sql", "--server", server.url, "CREATE TEMP TABLE t AS SELECT generate('Hi'); "
                 "SELECT \"user\" FROM hyprstream.requests", env={"HYPRSTREAM_API_KEY": key})
    assert told.out == "user\nann\n"


def test_many_rows_are_streamed(server):
    status, _, body = post(server, "SELECT i, 'row ' || i AS s FROM range(400000) t(i)",
                           format="ndjson")
    lines = body.splitlines()
    assert status == 200 and len(lines) == 400000
    assert json.loads(lines[-1]) == {"i": 399999, "s": "row 399999"}


def ask_later(server, query):
    """A connection whose answer nobody reads yet."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.request("POST", "/api/v1/sql", json.dumps({"query": query}))
    return connection


def test_a_client_that_leaves_ends_its_statement(serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536, "--max-sequences", 4, "--sql-statements", 1)
    connection = ask_later(server, "SELECT generate('x' || i, {max_tokens: 60000}) "
                                   "FROM range(9) t(i)")
    server.wait_busy(4)
    status, message = error(server, "SELECT 1")
    assert status == 429 and "sql-statements" in message
    connection.close()
    server.wait_busy(0)
    wait_until(lambda: post(server, "SELECT 1")[0] == 200)  # the place is free again
    # one that asks no model ends as well
    ask_later(server, LONG).close()
    wait_until(lambda: post(server, "SELECT 1")[0] == 200)


def test_ps_shows_statements(hs, serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536, "--max-sequences", 4, "--sql-threads", 1)
    assert server.get("/api/v1/status")["statements"] == []
    connection = ask_later(server, "SELECT i,\n  generate('x' || i, {max_tokens: 60000}) "
                                   "FROM range(9) t(i) -- and a comment behind it")
    server.wait_busy(4)
    shown = "SELECT i, generate('x' || i, {max_tokens: 60000}) FROM range"
    (row,) = server.get("/api/v1/status")["statements"]
    assert row["statement"] == shown and len(shown) == 60
    assert row["user"] == "127.0.0.1" and row["age_ms"] > 0
    assert (row["n_asked"], row["n_answered"]) == (9, 0)
    lines = hs.ok("ps", "--server", server.url).out.splitlines()
    assert lines[-2].split() == ["USER", "SECONDS", "ANSWERED", "STATEMENT"]
    assert lines[-1].split()[0] == "127.0.0.1" and lines[-1].split()[2] == "0/9"
    assert lines[-1].endswith(shown)
    seen = rows(server, "FROM hyprstream.statements ORDER BY n_asked DESC")
    assert [one["statement"][:9] for one in seen] == ["SELECT i,", "FROM hypr"]
    assert (seen[0]["n_asked"], seen[0]["n_answered"]) == (9, 0)
    with urllib.request.urlopen(server.url + "/metrics", timeout=TIMEOUT) as reply:
        assert "\nhyprstream_sql_statements 1\n" in reply.read().decode()
    connection.close()
    server.wait_busy(0)
    wait_until(lambda: server.get("/api/v1/status")["statements"] == [])


def wait_until(is_so):
    """For what comes soon: the time is for a fault."""
    tick = threading.Event()
    for _ in range(TIMEOUT * 20):
        if is_so():
            return
        tick.wait(0.05)
    raise AssertionError("it never came")


def test_interruption(hs, serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536)
    process = hs.start("sql", "--server", server.url,
                       "SELECT generate('x', {max_tokens: 60000})")
    server.wait_busy(1)
    interrupt(process)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    server.wait_busy(0)


def test_a_stopping_server_ends_statements(serve, cycle):
    server = serve("-m", cycle, "--ctx-size", 65536, "--drain-timeout", 0)
    connections = [ask_later(server, "SELECT generate('x', {max_tokens: 60000})"),
                   ask_later(server, LONG)]
    server.wait_busy(1)
    assert server.stop() == 0
    for connection in connections:
        connection.close()


def test_limits(hs, serve, say):
    server = serve("-m", say, "--request-timeout", 1)
    assert not (hs.home / "data" / "tables.duckdb").exists()
    assert post(server, LONG)[0] == 504
    server.stop()
    server = serve("-m", say, "--sql-statements", 0)
    status, message = error(server, "SELECT 1")
    assert status == 404 and "sql-statements" in message
    result = subprocess.run(["find", hs.home, "-name", "*.duckdb"], capture_output=True, text=True,
                            check=True)
    assert len(result.stdout.splitlines()) == 1
