import static java.util.List.of;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLTimeoutException;
import java.sql.Statement;
import java.sql.Time;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDateTime;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Queries, updates, parameters, batches, cancelling and time-outs. */
final class Statements {
    private static final String ENDLESS =
            "SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b";

    interface Getter {
        Object get(ResultSet row, int column) throws SQLException;
    }

    interface Setter {
        void set(PreparedStatement statement, int index) throws SQLException;
    }

    public static void main(String[] args) {
        Check.main(Statements.class, args[0]);
    }

    private static void gets(Connection connection, String sql, Getter getter, Object expected)
            throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("SELECT " + sql + " AS v, NULL AS n")) {
            Check.that(row.next(), sql);
            Check.equal(expected, getter.get(row, 1));
            Check.equal(false, row.wasNull());
            Check.equal(null, row.getObject(2));
            Check.equal(false, row.next());
        } catch (SQLException e) {
            throw new SQLException(sql, e);
        }
    }

    static void testEveryType(Connection connection) throws Exception {
        gets(connection, "true", ResultSet::getBoolean, true);
        gets(connection, "(-128)::TINYINT", ResultSet::getByte, Byte.MIN_VALUE);
        gets(connection, "127::UTINYINT", ResultSet::getInt, 127); // of 255 the driver makes -1
        gets(connection, "(-32768)::SMALLINT", ResultSet::getShort, Short.MIN_VALUE);
        gets(connection, "65535::USMALLINT", ResultSet::getInt, 65535);
        gets(connection, "(-2147483648)::INTEGER", ResultSet::getInt, Integer.MIN_VALUE);
        gets(connection, "2147483647::UINTEGER", ResultSet::getLong, 2147483647L);
        gets(connection, "9223372036854775807", ResultSet::getLong, Long.MAX_VALUE);
        gets(connection, "7::UBIGINT", ResultSet::getLong, 7L);
        gets(connection, "170141183460469231731687303715884105727", ResultSet::getString,
                "170141183460469231731687303715884105727");
        gets(connection, "1.25::DECIMAL(10, 2)", ResultSet::getBigDecimal, new BigDecimal("1.25"));
        gets(connection, "0.5::FLOAT", ResultSet::getFloat, 0.5f);
        gets(connection, "0.1::DOUBLE", ResultSet::getDouble, 0.1);
        gets(connection, "'gr\u00fc\u00df\ud83d\ude00'", ResultSet::getString,
                "gr\u00fc\u00df\ud83d\ude00");
        gets(connection, "'\\x00ab'::BLOB", ResultSet::getBytes, new byte[] {0, 'a', 'b'});
        gets(connection, "DATE '2020-02-29'", ResultSet::getDate, Date.valueOf("2020-02-29"));
        gets(connection, "TIME '10:11:12'", ResultSet::getTime, Time.valueOf("10:11:12"));
        gets(connection, "'2f0c5ee5-3c5b-4a55-8f3b-0d9a9b8ed7a5'::UUID", ResultSet::getString,
                "2f0c5ee5-3c5b-4a55-8f3b-0d9a9b8ed7a5");
        gets(connection, "'b'::ENUM('a', 'b')", ResultSet::getString, "b");
        gets(connection, "[1, NULL, 3]", (row, i) -> row.getArray(i).getArray(),
                new Object[] {1, null, 3});
        gets(connection, "[1, 2]::INTEGER[2]", (row, i) -> row.getArray(i).getArray(),
                new Object[] {1, 2});
        gets(connection, "{'a': 1, 'b': 'x'}", (row, i) -> row.getObject(i).toString(),
                "{\"a\":1,\"b\":\"x\"}");
        gets(connection, "MAP {'k': 1}", ResultSet::getString, "{\"k\":1}");
        gets(connection, "union_value(n := 2)", ResultSet::getInt, 2);
    }

    /** Of a result nothing is lost, down to the microseconds. */
    static void testTimestamps(Connection connection) throws Exception {
        LocalDateTime time = LocalDateTime.parse("2020-01-02T03:04:05.123456");
        for (String sql : of("TIMESTAMP '2020-01-02 03:04:05.123456'",
                     "TIMESTAMP_NS '2020-01-02 03:04:05.123456'",
                     "TIMESTAMPTZ '2020-01-02 03:04:05.123456+00'")) {
            gets(connection, sql, ResultSet::getTimestamp, Timestamp.valueOf(time));
        }
        gets(connection, "TIMESTAMP_MS '2020-01-02 03:04:05.123'", ResultSet::getTimestamp,
                Timestamp.valueOf("2020-01-02 03:04:05.123"));
        gets(connection, "TIMESTAMP_S '2020-01-02 03:04:05'", ResultSet::getTimestamp,
                Timestamp.valueOf("2020-01-02 03:04:05"));
    }

    private static void binds(Connection connection, String type, String shown, Setter setter)
            throws SQLException {
        Check.update(connection, "CREATE OR REPLACE TABLE bound(v " + type + ")");
        try (PreparedStatement statement =
                        connection.prepareStatement("INSERT INTO bound VALUES (?)")) {
            setter.set(statement, 1);
            Check.equal(1, statement.executeUpdate());
            Check.equal(of(Arrays.asList(shown)),
                    Check.query(connection, "SELECT v::VARCHAR FROM bound"));
        } catch (SQLException | RuntimeException e) {
            throw new SQLException(type, e);
        }
    }

    /** What the database makes of each parameter, in its own text. */
    static void testEveryParameter(Connection connection) throws Exception {
        binds(connection, "BOOLEAN", "true", (s, i) -> s.setBoolean(i, true));
        binds(connection, "TINYINT", "-128", (s, i) -> s.setByte(i, Byte.MIN_VALUE));
        binds(connection, "SMALLINT", "-32768", (s, i) -> s.setShort(i, Short.MIN_VALUE));
        binds(connection, "INTEGER", "-2147483648", (s, i) -> s.setInt(i, Integer.MIN_VALUE));
        binds(connection, "BIGINT", "9223372036854775807",
                (s, i) -> s.setLong(i, Long.MAX_VALUE));
        binds(connection, "UINTEGER", "7", (s, i) -> s.setInt(i, 7));
        binds(connection, "FLOAT", "0.5", (s, i) -> s.setFloat(i, 0.5f));
        binds(connection, "DOUBLE", "0.1", (s, i) -> s.setDouble(i, 0.1));
        binds(connection, "DECIMAL(10, 2)", "-1.25",
                (s, i) -> s.setBigDecimal(i, new BigDecimal("-1.25")));
        binds(connection, "VARCHAR", "gr\u00fc\u00df", (s, i) -> s.setString(i, "gr\u00fc\u00df"));
        binds(connection, "BLOB", "\\x00ab", (s, i) -> s.setBytes(i, new byte[] {0, 'a', 'b'}));
        binds(connection, "DATE", "2020-02-29", (s, i) -> s.setDate(i, Date.valueOf("2020-02-29")));
        binds(connection, "TIME", "10:11:12", (s, i) -> s.setTime(i, Time.valueOf("10:11:12")));
        binds(connection, "TIMESTAMP", "2020-01-02 03:04:05.123", (s, i)
                -> s.setTimestamp(i, Timestamp.valueOf("2020-01-02 03:04:05.123")));
        binds(connection, "TIMESTAMP_MS", "2020-01-02 03:04:05.123", (s, i)
                -> s.setTimestamp(i, Timestamp.valueOf("2020-01-02 03:04:05.123")));
        binds(connection, "TIMESTAMP_NS", "2020-01-02 03:04:05.123", (s, i)
                -> s.setTimestamp(i, Timestamp.valueOf("2020-01-02 03:04:05.123")));
        binds(connection, "UUID", "2f0c5ee5-3c5b-4a55-8f3b-0d9a9b8ed7a5",
                (s, i) -> s.setString(i, "2f0c5ee5-3c5b-4a55-8f3b-0d9a9b8ed7a5"));
        for (String type : of("BOOLEAN", "BIGINT", "DOUBLE", "DECIMAL(10, 2)", "VARCHAR", "BLOB",
                     "DATE", "TIME", "TIMESTAMP")) {
            binds(connection, type, null, (s, i) -> s.setNull(i, Types.NULL));
        }
    }

    /** Where a statement leaves the type open, a text is asked for, and the database casts it. */
    static void testParameterOfAnyType(Connection connection) throws Exception {
        String sql = "SELECT CAST(CAST(? AS INTEGER) AS VARCHAR) AS shown";
        Check.equal(of(of("7")), Check.query(connection, sql, "7"));
        Check.equal(of(of("x")), Check.query(connection, "SELECT ?", "x"));
        Check.equal(of(of(7)), Check.query(connection, "SELECT ?::INTEGER", 7));
        Check.fails("Conversion", () -> Check.query(connection, sql, "x"));
    }

    static void testParameters(Connection connection) throws Exception {
        Check.update(connection, "CREATE OR REPLACE TABLE p(i BIGINT PRIMARY KEY, s VARCHAR)");
        try (PreparedStatement insert =
                        connection.prepareStatement("INSERT INTO p VALUES (?, ?)")) {
            Check.equal(2, insert.getParameterMetaData().getParameterCount());
            for (long i = 0; i < 3; i++) { // one statement, run again with other values
                insert.setLong(1, i);
                insert.setString(2, "row " + i);
                Check.equal(1, insert.executeUpdate());
            }
        }
        try (PreparedStatement select =
                        connection.prepareStatement("SELECT s FROM p WHERE i = ?")) {
            Check.equal("s", select.getMetaData().getColumnName(1));
            for (long i = 0; i < 3; i++) {
                select.setLong(1, i);
                Check.equal(of(of("row " + i)), Check.rows(select.executeQuery()));
            }
        }
    }

    static void testBatch(Connection connection) throws Exception {
        Check.update(connection, "CREATE OR REPLACE TABLE b(i BIGINT PRIMARY KEY, s VARCHAR)");
        try (PreparedStatement insert =
                        connection.prepareStatement("INSERT INTO b VALUES (?, ?)")) {
            for (long i = 0; i < 1000; i++) {
                insert.setLong(1, i);
                insert.setString(2, i % 2 == 0 ? null : "row " + i);
                insert.addBatch();
            }
            Check.equal(1000, Arrays.stream(insert.executeBatch()).sum());
            for (long i : new long[] {1000, 0}) { // the second is there: none is inserted
                insert.setLong(1, i);
                insert.setString(2, "again");
                insert.addBatch();
            }
            Check.fails("primary key", insert::executeBatch);
        }
        Check.equal(of(of(1000L, 500L, 499500L)), Check.query(connection,
                "SELECT count(*), count(s), sum(i)::BIGINT FROM b"));
    }

    static void testUpdates(Connection connection) throws Exception {
        Check.equal(0L, Check.update(connection, "CREATE OR REPLACE TABLE u(i INTEGER)"));
        Check.equal(10L, Check.update(connection, "INSERT INTO u SELECT * FROM range(10)"));
        Check.equal(5L, Check.update(connection, "UPDATE u SET i = -i WHERE i >= 5"));
        Check.equal(5L, Check.update(connection, "DELETE FROM u WHERE i < 0"));
        try (Statement statement = connection.createStatement()) {
            Check.equal(true, statement.execute("SELECT i FROM u"));
            Check.equal(5, Check.rows(statement.getResultSet()).size());
            Check.equal(false, statement.execute("DELETE FROM u WHERE i = 0"));
            Check.equal(1, statement.getUpdateCount());
        }
        Check.equal(of(of(4L)), Check.query(connection, "SELECT count(*) FROM u"));
    }

    static void testErrors(Connection connection) throws Exception {
        Check.fails("syntax error", () -> Check.query(connection, "selec 1"));
        Check.fails("nowhere", () -> Check.query(connection, "SELECT * FROM nowhere"));
        Check.fails("Conversion", () -> Check.query(connection, "SELECT 'x'::INTEGER"));
        Check.fails("Conversion", () -> Check.query(connection, // after rows were sent
                "SELECT CAST(CASE WHEN i < 100000 THEN '1' ELSE 'x' END AS INTEGER) AS n "
                + "FROM range(100001) t(i)"));
        Check.fails("ATTACH", () -> Check.update(connection, "ATTACH 'x.db' AS x"));
        Check.fails("parameter", () -> Check.query(connection, "SELECT ? + 1"));
        Check.equal(of(of(1)), Check.query(connection, "SELECT 1"));
    }

    static void testManyRows(Connection connection) throws Exception {
        long n = 1000000;
        try (Statement statement = connection.createStatement();
                ResultSet result = statement.executeQuery("SELECT range AS i, 'row ' || range AS s "
                        + "FROM range(" + n + ")")) {
            long i = 0;
            for (; result.next(); i++) {
                Check.that(result.getLong(1) == i, "row " + i);
                if (i % 1000 == 0) {
                    Check.equal("row " + i, result.getString("s"));
                }
            }
            Check.equal(n, i);
        }
    }

    /** A cancel that comes before the statement runs is nothing, so it is sent until one hits. */
    static void testCancel(Connection connection) throws Exception {
        ExecutorService pool = Executors.newSingleThreadExecutor();
        try (Statement statement = connection.createStatement()) {
            CountDownLatch started = new CountDownLatch(1);
            Future<?> running = pool.submit(() -> {
                started.countDown();
                return Check.rows(statement.executeQuery(ENDLESS));
            });
            started.await();
            while (!running.isDone()) {
                statement.cancel();
                Thread.sleep(20);
            }
            Check.fails("ancel", () -> {
                try {
                    running.get();
                } catch (java.util.concurrent.ExecutionException e) {
                    throw (Exception) e.getCause();
                }
            });
        } finally {
            pool.shutdown();
        }
        Check.equal(of(of(1)), Check.query(connection, "SELECT 1"));
    }

    static void testCancelInMidStream(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement();
                ResultSet result =
                        statement.executeQuery("SELECT * FROM range(1000000000)")) {
            Check.that(result.next(), "a row");
            statement.cancel();
            Check.fails("ancel", () -> {
                while (result.next()) {
                    result.getLong(1);
                }
            });
        }
        Check.equal(of(of(1)), Check.query(connection, "SELECT 1"));
    }

    static void testTimeout(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            SQLException e = Check.fails("", () -> Check.rows(statement.executeQuery(ENDLESS)));
            Check.that(Check.messages(e).contains(SQLTimeoutException.class.getName()),
                    Check.messages(e));
        }
        Check.equal(of(of(1)), Check.query(connection, "SELECT 1"));
    }
}
