"""Flight SQL with pyarrow.flight and ADBC, as their users call them."""
import concurrent.futures
import datetime
import decimal
import re

import pytest

from conftest import FLIGHT_SERVER, FlightServer

if not FLIGHT_SERVER.exists():
    pytest.skip("built without Flight SQL", allow_module_level=True)

import adbc_driver_flightsql  # noqa: E402
import adbc_driver_flightsql.dbapi as adbc  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.flight as flight  # noqa: E402

from flight_sql import Client, command, field, statement  # noqa: E402

TYPES = {
    "1::TINYINT": 1, "2::UTINYINT": 2, "3::SMALLINT": 3, "4::USMALLINT": 4, "5::INTEGER": 5,
    "6::UINTEGER": 6, "7::BIGINT": 7, "8::UBIGINT": 8, "9::HUGEINT": decimal.Decimal(9),
    "1.25::DECIMAL(10, 2)": decimal.Decimal("1.25"), "0.5::FLOAT": 0.5, "0.1::DOUBLE": 0.1,
    "true": True, "'gr\u00fc\u00df'": "gr\u00fc\u00df", "'ab'::BLOB": b"ab", "NULL::INTEGER": None,
    "DATE '2020-02-29'": datetime.date(2020, 2, 29),
    "TIME '10:11:12.5'": datetime.time(10, 11, 12, 500000),
    "TIMESTAMP '2020-01-01 01:02:03'": datetime.datetime(2020, 1, 1, 1, 2, 3),
    "[1, NULL, 3]": [1, None, 3], "{'a': [1], 'b': 'x'}": {"a": [1], "b": "x"},
    "MAP {'k': 1}": [("k", 1)], "[1, 2]::INTEGER[2]": [1, 2], "'b'::ENUM('a', 'b')": "b",
    "union_value(n := 2)": 2,
    "'2f0c5ee5-3c5b-4a55-8f3b-0d9a9b8ed7a5'::UUID": "2f0c5ee5-3c5b-4a55-8f3b-0d9a9b8ed7a5",
}


@pytest.fixture
def client(serve_flight):
    made = Client(serve_flight().port)
    yield made
    made.close()


@pytest.fixture
def connection(serve_flight):
    with adbc.connect(serve_flight().uri, autocommit=True) as made:
        yield made


def fetch(connection, text, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return cursor.fetchall()


def run(connection, text):
    with connection.cursor() as cursor:
        cursor.execute(text)


# ---- pyarrow ----

def test_every_type(client):
    table = client.query("SELECT " + ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(TYPES)))
    assert list(table.to_pylist()[0].values()) == list(TYPES.values())


def test_many_rows(client):
    table = client.query("SELECT i, CASE WHEN i % 3 = 0 THEN NULL ELSE 'row ' || i END AS s "
                         "FROM range(300001) t(i)")
    assert table["i"].to_pylist() == list(range(300001))
    assert table["s"].to_pylist() == [None if i % 3 == 0 else f"row {i}" for i in range(300001)]


def test_batches_are_small_enough_for_every_client(client):
    largest = 0
    for chunk in client.reader("SELECT repeat('x', 10000) AS s FROM range(3000)"):
        largest = max(largest, chunk.data.nbytes)
    assert 1 << 18 < largest < 4 << 20
    # one row of more than that has a batch of its own
    assert [c.data.num_rows for c in client.reader("SELECT repeat('x', 5000000) AS s FROM range(2)")
            ] == [1, 1]


def test_errors(client):
    with pytest.raises(pa.ArrowInvalid, match="(?s)syntax error.*selec"):
        client.query("selec 1")
    with pytest.raises(pa.ArrowInvalid, match="ticket is malformed"):
        client.client.do_get(flight.Ticket(b"xx")).read_all()
    with pytest.raises(pa.ArrowInvalid, match="no such ticket"):
        client.client.do_get(flight.Ticket(command("TicketStatementQuery", field(1, b"x" * 16)))
                             ).read_all()
    with pytest.raises(NotImplementedError, match="CommandGetMoon"):
        client.info("CommandGetMoon")
    with pytest.raises(NotImplementedError, match="CommandGetMoon"):
        client.client.do_get(flight.Ticket(command("CommandGetMoon"))).read_all()
    with pytest.raises(NotImplementedError, match="BeginSavepoint"):
        client.act("BeginSavepoint", command("ActionBeginSavepointRequest"))
    with pytest.raises(pa.ArrowInvalid, match="paths"):
        client.client.get_flight_info(flight.FlightDescriptor.for_path("a"))
    with pytest.raises(pa.ArrowInvalid, match="malformed"):
        client.client.get_flight_info(flight.FlightDescriptor.for_command(b"\x0a\xff"))
    for body in (b"", b"\xff\xff", command("ActionCreatePreparedStatementRequest")[:-1] + b"\x05"):
        with pytest.raises(pa.ArrowInvalid):
            client.act("CreatePreparedStatement", body)
    with pytest.raises(NotImplementedError):
        list(client.client.list_flights())
    with pytest.raises(pa.ArrowInvalid, match="Conversion"):  # after rows were sent
        client.query("SELECT CAST(CASE WHEN i < 100000 THEN '1' ELSE 'x' END AS INTEGER) "
                     "FROM range(100001) t(i)")
    assert client.query("SELECT 1 AS one")["one"].to_pylist() == [1]


def test_texts_are_whole(client):
    client.query("CREATE TABLE t(i INTEGER)")
    for bad in (b"\x00", b"\xff", b"\xed\xa0\x80"):
        text = b"INSERT INTO t VALUES (1) --" + bad + b" (2)"
        nested = field(1, b"catalog" + bad) + field(2, field(1, "memory"))
        with pytest.raises(pa.ArrowInvalid, match="UTF-8"):
            client.client.get_flight_info(statement(text))
        with pytest.raises(pa.ArrowInvalid, match="UTF-8"):
            client.act("CreatePreparedStatement",
                       command("ActionCreatePreparedStatementRequest", field(1, text)))
        with pytest.raises(pa.ArrowInvalid, match="UTF-8"):
            client.act("SetSessionOptions", field(1, nested))
        with pytest.raises(pa.ArrowInvalid, match="UTF-8"):
            client.ask("CommandGetTables", field(4, "TABLE"), field(4, b"VIEW" + bad))
        descriptor = flight.FlightDescriptor.for_command(
            command("CommandStatementUpdate", field(1, text)))
        writer, reader = client.client.do_put(descriptor, pa.schema([]))
        with pytest.raises(pa.ArrowInvalid, match="UTF-8"):
            writer.done_writing()
            reader.read()
            writer.close()
    assert client.query("SELECT i FROM t").num_rows == 0
    assert client.query("SELECT 'gr\u00fc\u00df' AS s")["s"].to_pylist() == ["gr\u00fc\u00df"]


def test_ticket_is_for_one_use_and_its_session(serve_flight):
    server = serve_flight()
    one, two = Client(server.port), Client(server.port, flight.FlightCallOptions())
    two.login("other", "")
    info = one.client.get_flight_info(statement("SELECT 1 AS x"))
    ticket = info.endpoints[0].ticket
    with pytest.raises(pa.ArrowInvalid, match="no such ticket"):
        two.client.do_get(ticket, two.options).read_all()
    assert one.client.do_get(ticket).read_all().num_rows == 1
    with pytest.raises(pa.ArrowInvalid, match="no such ticket"):
        one.client.do_get(ticket).read_all()
    one.close()
    two.close()


def test_schema_without_execution(client):
    client.query("CREATE TABLE t(i INTEGER)")
    schema = client.client.get_schema(statement("INSERT INTO t VALUES (1)")).schema
    assert len(schema) == 0
    schema = client.client.get_schema(statement("SELECT i, 'x' AS s FROM t")).schema
    assert schema.names == ["i", "s"]
    assert client.query("SELECT * FROM t").num_rows == 0
    client.query("INSERT INTO t VALUES (1)")
    assert client.query("SELECT * FROM t").num_rows == 1


def test_two_results_at_once(client):
    first = client.reader("SELECT * FROM range(5000000)")
    first.read_chunk()
    assert client.query("SELECT 7 AS x")["x"].to_pylist() == [7]
    assert first.read_all().num_rows > 0


def test_temporary_tables_stay_visible(client):
    client.query("CREATE TEMP TABLE mine AS SELECT 1 AS x")
    for _ in range(3):
        assert client.query("SELECT x FROM mine")["x"].to_pylist() == [1]


def test_cancel_and_deadline(client):
    reader = client.reader("SELECT * FROM range(100000000)")
    reader.read_chunk()
    reader.cancel()
    with pytest.raises((pa.ArrowException, flight.FlightError, KeyboardInterrupt)):
        reader.read_all()
    with pytest.raises(flight.FlightTimedOutError):
        client.options = flight.FlightCallOptions(timeout=0.2)
        client.query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
    client.options = None
    assert client.query("SELECT 1 AS x").num_rows == 1


def test_cancel_flight_info(client):
    text = "SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b"
    made = client.act("CreatePreparedStatement", command("ActionCreatePreparedStatementRequest",
                                                         field(1, text)))[0]
    handle = made[made.index(b"\x0a\x10") + 2:][:16]
    info = client.info("CommandPreparedStatementQuery", field(1, handle))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(
            lambda: client.client.do_get(info.endpoints[0].ticket).read_all())
        while not running.done():  # the first may come before the statement runs
            client.act("CancelFlightInfo", field(1, info.serialize()))
        assert isinstance(running.exception(), (pa.ArrowCancelled, flight.FlightCancelledError))
    client.act("ClosePreparedStatement", command("ActionClosePreparedStatementRequest",
                                                 field(1, handle)))
    with pytest.raises(pa.ArrowInvalid, match="no such prepared statement"):
        client.info("CommandPreparedStatementQuery", field(1, handle))


def test_metadata(client):
    client.query("CREATE SCHEMA s2")
    client.query("CREATE TABLE parent(a INTEGER, b INTEGER, PRIMARY KEY (a, b))")
    client.query("CREATE TABLE s2.other(\"we\"\"ird\" VARCHAR)")
    client.query("CREATE TABLE child(x INTEGER, y INTEGER, FOREIGN KEY (x, y) "
                 "REFERENCES parent(a, b))")
    client.query("CREATE VIEW view1 AS SELECT a FROM parent")
    catalog = client.ask("CommandGetCatalogs")["catalog_name"].to_pylist()
    assert catalog == ["memory"]
    assert {"main", "s2"} <= set(client.ask("CommandGetDbSchemas", field(1, catalog[0]))
                                 ["db_schema_name"].to_pylist())
    assert client.ask("CommandGetDbSchemas", field(1, "none")).num_rows == 0
    tables = client.ask("CommandGetTables", field(2, "main"))
    assert list(zip(tables["table_name"].to_pylist(), tables["table_type"].to_pylist())) == [
        ("child", "TABLE"), ("parent", "TABLE"), ("view1", "VIEW")]
    assert client.ask("CommandGetTables", field(3, "%ther"), field(4, "TABLE"))[
        "table_name"].to_pylist() == ["other"]
    with_schema = client.ask("CommandGetTables", field(3, "other"), field(5, 1))
    inner = pa.ipc.read_schema(pa.py_buffer(with_schema["table_schema"][0].as_py()))
    assert inner.names == ['we"ird'] and inner.field(0).type == pa.string()
    assert inner.field(0).metadata[b"ARROW:FLIGHT:SQL:TABLE_NAME"] == b"other"
    assert client.ask("CommandGetTableTypes")["table_type"].to_pylist() == [
        "LOCAL TEMPORARY", "TABLE", "VIEW"]
    keys = client.ask("CommandGetPrimaryKeys", field(3, "parent"))
    assert list(zip(keys["column_name"].to_pylist(), keys["key_sequence"].to_pylist())) == [
        ("a", 1), ("b", 2)]
    for name, fields in (("CommandGetExportedKeys", [field(3, "parent")]),
                         ("CommandGetImportedKeys", [field(3, "child")]),
                         ("CommandGetCrossReference", [field(3, "parent"), field(6, "child")])):
        foreign = client.ask(name, *fields)
        assert list(zip(foreign["pk_column_name"].to_pylist(),
                        foreign["fk_column_name"].to_pylist())) == [("a", "x"), ("b", "y")]
    assert client.ask("CommandGetImportedKeys", field(3, "parent")).num_rows == 0
    assert not client.ask("CommandGetTables").schema.field("table_name").nullable


def test_many_tables(client):
    """More than the 2,048 rows of one vector."""
    client.query("; ".join(f"CREATE TABLE t{i}(c{i} INTEGER)" for i in range(2100)))
    tables = client.ask("CommandGetTables", field(3, "t%"), field(4, "TABLE"), field(5, 1))
    schemas = dict(zip(tables["table_name"].to_pylist(), tables["table_schema"].to_pylist()))
    assert set(schemas) == {f"t{i}" for i in range(2100)}
    for i in (0, 2047, 2099):
        assert pa.ipc.read_schema(pa.py_buffer(schemas[f"t{i}"])).names == [f"c{i}"]


def test_sql_info(client):
    table = client.ask("CommandGetSqlInfo")
    ids = table["info_name"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert set(range(500, 577)) | {0, 1, 2, 3, 4, 5, 8, 9, 100, 101} <= set(ids)
    values = dict(zip(ids, table["value"].to_pylist()))
    assert values[0] == "hyprstream" and values[4] is True and values[8] == 1
    assert client.ask("CommandGetSqlInfo", field(1, b"\x08"))["value"].to_pylist() == [1]
    functions = set(client.query("SELECT DISTINCT function_name AS n FROM duckdb_functions()")
                    ["n"].to_pylist())
    for word in ("ATTACH", "CALL", "CHECKPOINT", "COPY", "DETACH", "EXPORT", "FORCE", "IMPORT",
                 "INSTALL", "LOAD", "PRAGMA"):  # refused
        assert word not in values[508]
    for number in (509, 510, 511, 512):  # those that are named are there
        assert set(values[number]) <= functions, set(values[number]) - functions


def test_type_info(client):
    types = client.ask("CommandGetXdbcTypeInfo")
    numbers = types["data_type"].to_pylist()
    assert numbers == sorted(numbers) and 12 in numbers
    for name in types["type_name"].to_pylist():
        client.query(f"SELECT NULL::{name}")
    assert client.ask("CommandGetXdbcTypeInfo", field(1, 12))["type_name"].to_pylist() == [
        "UUID", "VARCHAR"]


def test_update_with_an_empty_batch(client):
    """What JDBC sends for a statement without parameters."""
    client.query("CREATE TABLE t(i INTEGER)")
    made = client.act("CreatePreparedStatement", command(
        "ActionCreatePreparedStatementRequest", field(1, "INSERT INTO t VALUES (7)")))[0]
    handle = made[made.index(b"\x0a\x10") + 2:][:16]
    descriptor = flight.FlightDescriptor.for_command(
        command("CommandPreparedStatementUpdate", field(1, handle)))
    empty = pa.record_batch([], schema=pa.schema([]))
    writer, reader = client.client.do_put(descriptor, empty.schema)
    writer.write_batch(empty)
    writer.done_writing()
    assert reader.read().to_pybytes() == field(1, 1)
    writer.close()
    assert client.query("SELECT i FROM t")["i"].to_pylist() == [7]


def test_actions(client):
    names = {action.type for action in client.client.list_actions()}
    assert {"CreatePreparedStatement", "BeginTransaction", "CloseSession"} <= names
    option = field(1, "catalog") + field(2, field(1, "memory"))
    assert client.act("SetSessionOptions", field(1, option)) == [b""]
    unknown = field(1, "colour") + field(2, field(1, "red"))
    assert b"colour" in client.act("SetSessionOptions", field(1, unknown))[0]
    assert b"memory" in client.act("GetSessionOptions")[0]
    assert client.act("CloseSession") == [b"\x08\x01"]


def end_transaction(client, handle, action):
    client.act("EndTransaction", command("ActionEndTransactionRequest", field(1, handle),
                                         field(2, action)))


def test_transactions_share_connections(client):
    counts = []
    for number in range(20):
        made = client.act("BeginTransaction", command("ActionBeginTransactionRequest"))[0]
        end_transaction(client, made[-16:], 1 + number % 2)
        counts += client.query("SELECT * FROM duckdb_connection_count()")[0].to_pylist()
    assert len(set(counts)) == 1


def bind(client, handle, values):
    descriptor = flight.FlightDescriptor.for_command(
        command("CommandPreparedStatementQuery", field(1, handle)))
    batch = pa.record_batch([pa.array([value]) for value in values],
                            names=[str(i) for i in range(len(values))])
    writer, reader = client.client.do_put(descriptor, batch.schema)
    writer.write_batch(batch)
    writer.done_writing()
    reader.read()
    writer.close()


def test_calls_share_a_statement_and_options(client):
    """What others bind and set meanwhile is whole: the values of one of them."""
    made = client.act("CreatePreparedStatement", command(
        "ActionCreatePreparedStatementRequest",
        field(1, "SELECT ?::BIGINT AS i, ?::VARCHAR AS s")))[0]
    handle = made[made.index(b"\x0a\x10") + 2:][:16]
    option = field(1, "catalog") + field(2, field(1, "memory"))
    bind(client, handle, (0, "0" * 1000))

    def work(number):
        for i in range(10):
            value = 10 * number + i
            bind(client, handle, (value, str(value % 10) * 1000))
            row = client.ask("CommandPreparedStatementQuery", field(1, handle)).to_pylist()[0]
            assert row["s"] == str(row["i"] % 10) * 1000
            assert client.act("SetSessionOptions", field(1, option)) == [b""]
            assert b"memory" in client.act("GetSessionOptions")[0]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


# ---- keys and TLS ----

def test_keys(hs, serve_flight):
    key = hs.ok("key", "create", "laptop").out.strip()
    admin = hs.ok("key", "create", "boss", "--scopes", "admin").out.strip()
    server = serve_flight("--keys", hs.home / "keys.json")
    stranger = Client(server.port)
    with pytest.raises(flight.FlightUnauthenticatedError, match="API key"):
        stranger.query("SELECT 1")
    with pytest.raises(flight.FlightUnauthenticatedError):
        stranger.login("laptop", "hs-wrong")
    with pytest.raises(flight.FlightUnauthenticatedError):
        list(stranger.client.list_actions())
    for secret in (key, admin):
        header = stranger.login("anybody", secret)
        assert header[1].startswith(b"Bearer ") and secret.encode() not in header[1]
        assert stranger.query("SELECT 1 AS x").num_rows == 1
    bearer = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + key.encode())])
    assert Client(server.port, bearer).query("SELECT 1 AS x").num_rows == 1
    forged = flight.FlightCallOptions(
        headers=[(b"authorization", b"Bearer hs-session-" + b"0" * 48)])
    with pytest.raises(flight.FlightUnauthenticatedError, match="connect again"):
        Client(server.port, forged).query("SELECT 1")
    with adbc.connect(server.uri, db_kwargs={"username": "x", "password": key}) as connection:
        assert fetch(connection, "SELECT 1") == [(1,)]
    with pytest.raises(adbc.Error):
        adbc.connect(server.uri, db_kwargs={"username": "x", "password": "no"}).close()
    stranger.close()


def test_tls(serve_flight, certificate):
    cert, key = certificate
    server = serve_flight("--cert", cert, key)
    client = Client(server.port, tls_root_certs=cert.read_bytes())
    assert client.query("SELECT * FROM range(1000000)").num_rows == 1000000
    client.close()
    options = {adbc_driver_flightsql.DatabaseOptions.TLS_ROOT_CERTS.value: cert.read_text()}
    with adbc.connect(f"grpc+tls://127.0.0.1:{server.port}", db_kwargs=options) as connection:
        assert fetch(connection, "SELECT 1") == [(1,)]


# ---- ADBC ----

def test_adbc_statements(connection):
    run(connection, "CREATE TABLE t(i BIGINT PRIMARY KEY, s VARCHAR)")
    run(connection, "INSERT INTO t VALUES (1, 'a')")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (?, ?)", [(2, "b"), (3, None)])
        assert cursor.rowcount == 2
    assert fetch(connection, "SELECT * FROM t ORDER BY 1") == [(1, "a"), (2, "b"), (3, None)]
    assert fetch(connection, "SELECT s FROM t WHERE i = ?", (2,)) == [("b",)]
    assert fetch(connection, "SELECT ?", (5,)) == [(5,)]
    with pytest.raises(adbc.Error, match="primary key"):
        run(connection, "INSERT INTO t VALUES (1, 'again')")
    with connection.cursor() as cursor:  # all rows or none
        with pytest.raises(adbc.Error, match="primary key"):
            cursor.executemany("INSERT INTO t VALUES (?, ?)", [(8, "x"), (1, "y")])
    with pytest.raises(adbc.Error, match="parameters"):
        fetch(connection, "SELECT ? + 1")
    assert fetch(connection, "SELECT count(*) FROM t") == [(3,)]


def test_adbc_ingest(connection):
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"],
                      "c": pa.array(["u", "v", "u"]).dictionary_encode()})
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("t", table, mode="create") == 3
        with pytest.raises(adbc.Error):
            cursor.adbc_ingest("t", table, mode="create")
        assert cursor.adbc_ingest("t", table, mode="append") == 3
        with pytest.raises(adbc.Error):
            cursor.adbc_ingest("none", table, mode="append")
    assert fetch(connection, "SELECT * FROM t ORDER BY a LIMIT 2") == [(1, "x", "u"), (1, "x", "u")]
    assert fetch(connection, "SELECT count(*), count(b) FROM t") == [(6, 4)]
    large = pa.table({"n": pa.array(range(1000000), pa.int64())})
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("t", large, mode="replace") == 1000000
    assert fetch(connection, "SELECT sum(n) FROM t")[0][0] == 499999500000


def test_adbc_transactions(serve_flight):
    server = serve_flight()
    with adbc.connect(server.uri, autocommit=True) as connection:
        run(connection, "CREATE TABLE t(i INTEGER)")
        with adbc.connect(server.uri) as writer:
            run(writer, "INSERT INTO t VALUES (1)")
            assert fetch(writer, "SELECT count(*) FROM t") == [(1,)]
            assert fetch(connection, "SELECT count(*) FROM t") == [(0,)]
            writer.rollback()
            assert fetch(writer, "SELECT count(*) FROM t") == [(0,)]
            run(writer, "INSERT INTO t VALUES (2)")
            writer.commit()
        assert fetch(connection, "SELECT i FROM t") == [(2,)]


def test_adbc_metadata(connection):
    run(connection, "CREATE TABLE t(i BIGINT NOT NULL, s VARCHAR)")
    assert connection.adbc_get_table_schema("t").names == ["i", "s"]
    assert connection.adbc_get_info()["vendor_name"] == "hyprstream"
    objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    schemas = {s["db_schema_name"]: s for c in objects for s in c["catalog_db_schemas"]}
    tables = {t["table_name"]: t for t in schemas["main"]["db_schema_tables"]}
    assert [c["column_name"] for c in tables["t"]["table_columns"]] == ["i", "s"]
    assert connection.adbc_get_table_types() == ["LOCAL TEMPORARY", "TABLE", "VIEW"]


# ---- many clients, and restarts ----

def test_fifty_clients(serve_flight):
    server = serve_flight()

    def work(number):
        with adbc.connect(server.uri, autocommit=True) as connection:
            return [fetch(connection, f"SELECT {number} + {i}")[0][0] for i in range(5)]

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert list(pool.map(work, range(50))) == [[n + i for i in range(5)] for n in range(50)]


def test_restart(serve_flight, tmp_path):
    database = tmp_path / "tables.duckdb"
    first = FlightServer("--file", database)
    client = Client(first.port)
    client.query("CREATE TABLE t AS SELECT 42 AS x")
    first.stop()
    with pytest.raises(flight.FlightUnavailableError):
        client.query("SELECT 1")
    second = serve_flight("--file", database, "--port", first.port)
    assert second.port == first.port
    assert Client(second.port).query("SELECT x FROM t")["x"].to_pylist() == [42]
    client.close()


# ---- with a model ----

def test_generate(hs, serve, say):
    server = serve("-m", say, "--flight-port", 0)
    port = re.search(r"Flight SQL on grpc://127\.0\.0\.1:(\d+)", "".join(server.errors))[1]
    client = Client(port)
    table = client.query("SELECT generate('Hello', {max_tokens: 4}) AS text FROM range(3)")
    assert len(set(table["text"].to_pylist())) == 1 and table["text"][0].as_py()
    client.close()
