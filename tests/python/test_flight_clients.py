"""Flight SQL under its Python clients: many rows, many clients beside REST, every type of Arrow
both ways, a server that is started again."""
import concurrent.futures
import datetime
import decimal
import re
import threading

import pytest

from conftest import FLIGHT_SERVER, TIMEOUT, FlightServer

if not FLIGHT_SERVER.exists():
    pytest.skip("built without Flight SQL", allow_module_level=True)

import adbc_driver_flightsql.dbapi as adbc  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402

from flight_sql import Client  # noqa: E402

N_ROWS = 10_000_000
ROWS = (f"SELECT i, (i % 7)::TINYINT AS k, CASE WHEN i % 3 <> 0 THEN i / 2 END AS h "
        f"FROM range({N_ROWS}) t(i)")


# ---- many rows ----

class Sums:
    """What came, and what should have."""

    def __init__(self):
        self.n = self.i = self.k = self.n_null = 0
        self.h = 0.0

    def add(self, batch):
        assert batch.column(0)[0].as_py() == self.n  # in their order
        self.n += batch.num_rows
        self.i += pc.sum(batch.column(0)).as_py()
        self.k += pc.sum(batch.column(1)).as_py()
        self.h += pc.sum(batch.column(2)).as_py() or 0
        self.n_null += batch.column(2).null_count

    def check(self):
        n = N_ROWS
        thirds = (n + 2) // 3  # numbers below n that 3 divides
        assert (self.n, self.i, self.n_null) == (n, n * (n - 1) // 2, thirds)
        assert self.k == n // 7 * 21 + sum(range(n % 7))
        # halves of integers below 2^53: every partial sum is exact
        assert self.h == (n * (n - 1) // 2 - 3 * (thirds * (thirds - 1) // 2)) / 2


def test_many_rows_by_pyarrow(serve_flight):
    client = Client(serve_flight().port)
    sums = Sums()
    for chunk in client.reader(ROWS):
        sums.add(chunk.data)
    sums.check()
    client.close()


def test_many_rows_by_adbc(serve_flight):
    sums = Sums()
    with adbc.connect(serve_flight().uri, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute(ROWS)
            for batch in cursor.fetch_record_batch():
                sums.add(batch)
    sums.check()


# ---- many clients ----

def test_fifty_clients_beside_rest(serve, say):
    server = serve("-m", say, "--flight-port", 0, "--sql-threads", 1)
    port = re.search(r"Flight SQL on grpc://127\.0\.0\.1:(\d+)", "".join(server.errors))[1]
    over = threading.Event()

    def rest(number):
        """Chats and statements over HTTP until the others are done; how many."""
        n = 0
        while not over.is_set() or n == 0:
            if number % 2:
                assert server.chat().choices[0].message.content == "Hello world, my friend"
            else:
                assert server.post("/api/v1/sql", {"query": "SELECT 6 * ? AS n",
                                                   "parameters": [number]}) == [{"n": 6 * number}]
            n += 1
        return n

    def work(number):
        with adbc.connect(f"grpc://127.0.0.1:{port}", autocommit=True) as connection:
            got = []
            with connection.cursor() as cursor:
                for i in range(3):
                    cursor.execute("SELECT ? + n AS n FROM range(1000) t(n)", (number * i,))
                    got.append(pc.sum(cursor.fetch_arrow_table()["n"]).as_py())
                cursor.execute(f"SELECT generate('Say {number}') AS a")
                return got, cursor.fetchall()

    with concurrent.futures.ThreadPoolExecutor(54) as pool:
        others = [pool.submit(rest, number) for number in range(1, 4)]
        try:
            answers = list(pool.map(work, range(50), timeout=TIMEOUT))
        finally:
            over.set()
        assert all(other.result(TIMEOUT) > 0 for other in others)
    assert answers == [([499500 + 1000 * n * i for i in range(3)], [("Hello world, my friend",)])
                       for n in range(50)]


# ---- types ----

DAY = datetime.date(2020, 2, 29)
MOMENT = datetime.datetime(2020, 2, 29, 1, 2, 3)
UTC = datetime.timezone.utc
# types with a value; those that come back are those of the SQL engine, with the same value
TYPES = [
    (pa.null(), None), (pa.bool_(), True),
    *[(kind(), value) for kind, value in (
        (pa.int8, -128), (pa.int16, -32768), (pa.int32, -2**31), (pa.int64, -2**63),
        (pa.uint8, 255), (pa.uint16, 65535), (pa.uint32, 2**32 - 1), (pa.uint64, 2**64 - 1),
        (pa.float32, 0.5), (pa.float64, 0.1))],
    *[(kind(), "grüße \U0001f600") for kind in (pa.string, pa.large_string)],
    *[(kind(), b"a\x00\xff") for kind in (pa.binary, pa.large_binary)],
    (pa.binary(3), b"abc"), (pa.date32(), DAY), (pa.date64(), DAY),
    (pa.time32("s"), datetime.time(10, 11, 12)), (pa.time32("ms"), datetime.time(10, 11, 12, 5000)),
    *[(pa.time64(unit), datetime.time(10, 11, 12, 5)) for unit in ("us", "ns")],
    (pa.month_day_nano_interval(), pa.MonthDayNano([1, 2, 3000])),
    *[(pa.timestamp(unit), MOMENT) for unit in ("s", "ms", "us", "ns")],
    *[(pa.timestamp(unit, "UTC"), MOMENT.replace(tzinfo=UTC)) for unit in ("s", "ms", "us", "ns")],
    (pa.decimal128(10, 2), decimal.Decimal("-1.25")),
    (pa.decimal128(38, 0), decimal.Decimal(10**37)),
    (pa.list_(pa.int32()), [1, None, 3]), (pa.large_list(pa.string()), ["a", None]),
    (pa.list_(pa.int16(), 2), [1, 2]), (pa.list_(pa.list_(pa.int8())), [[1], [], None]),
    (pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))]), {"a": 1, "b": ["x"]}),
    (pa.map_(pa.string(), pa.int32()), [("k", 1), ("l", None)]),
    (pa.dictionary(pa.int8(), pa.string()), "b"),
]


@pytest.mark.parametrize("kind,value", TYPES, ids=[str(row[0]) for row in TYPES])
def test_every_type_both_ways(shared, kind, value):
    """As a parameter and back, and as a column of a table that is ingested; NULL, too."""
    values = [value, None, value]
    column = pa.array(values, kind)
    with shared.cursor() as cursor:
        for i in range(2):
            cursor.execute("SELECT ? AS v", parameters=pa.record_batch([column[i:i + 1]], ["p"]))
            assert cursor.fetch_arrow_table()["v"].to_pylist() == [values[i]]
        if kind == pa.null():
            return
        cursor.adbc_ingest("t", pa.table({"v": column}), mode="replace")
        cursor.execute("SELECT v FROM t")
        assert cursor.fetch_arrow_table()["v"].to_pylist() == values


@pytest.mark.parametrize("kind,value,why", [
    (pa.string_view(), "a", "Utf8View"), (pa.binary_view(), b"a", "BinaryView"),
    (pa.decimal256(50, 0), decimal.Decimal(1), "38 digits")], ids=str)
def test_types_that_are_refused(shared, kind, value, why):
    with shared.cursor() as cursor:
        with pytest.raises(adbc.NotSupportedError, match=why):
            cursor.execute("SELECT ? AS v",
                           parameters=pa.record_batch([pa.array([value], kind)], ["p"]))
            cursor.fetchall()
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


def test_half_floats_are_parameters_only(shared):
    half = pa.array([0.5], pa.float16())
    with shared.cursor() as cursor:
        cursor.execute("SELECT ? AS v", parameters=pa.record_batch([half], ["p"]))
        assert cursor.fetchall() == [(0.5,)]
        with pytest.raises(adbc.Error, match="Unsupported"):
            cursor.adbc_ingest("halves", pa.table({"v": half}), mode="replace")


def test_durations_are_intervals(shared):
    day = pa.array([datetime.timedelta(1)], pa.duration("us"))
    with shared.cursor() as cursor:
        cursor.execute("SELECT ? AS v", parameters=pa.record_batch([day], ["p"]))
        assert cursor.fetchall() == [(pa.MonthDayNano([0, 0, 86400 * 10**9]),)]


@pytest.fixture(scope="module")
def shared():
    server = FlightServer()
    with adbc.connect(server.uri, autocommit=True) as connection:
        yield connection
    server.stop()


# ---- restarts ----

def test_a_restart_between_statements(serve_flight, tmp_path):
    database = tmp_path / "tables.duckdb"
    first = FlightServer("--file", database)
    with adbc.connect(first.uri, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t AS SELECT 42 AS x")
        with connection.cursor() as cursor:
            cursor.execute("SELECT x FROM t")
            assert cursor.fetchall() == [(42,)]
        first.stop()
        with connection.cursor() as cursor:
            with pytest.raises(adbc.OperationalError, match="(?i)unavailable|refused"):
                cursor.execute("SELECT x FROM t")
        second = serve_flight("--file", database, "--port", first.port)
        assert second.port == first.port
        with adbc.connect(second.uri, autocommit=True) as again:
            with again.cursor() as cursor:
                cursor.execute("SELECT x FROM t")
                assert cursor.fetchall() == [(42,)]
