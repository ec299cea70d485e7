import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/** What the programs here share: every static method test*(Connection) of a class is a test. */
final class Check {
    interface Action {
        void run() throws Exception;
    }

    private Check() {}

    /** Runs the tests of a class, each with a connection of its own; the process ends with 1 when
     * one of them fails. */
    static void main(Class<?> tests, String url) {
        int failed = 0;
        int passed = 0;
        for (Method test : tests.getDeclaredMethods()) {
            if (!test.getName().startsWith("test") || !Modifier.isStatic(test.getModifiers())) {
                continue;
            }
            try (Connection connection = DriverManager.getConnection(url)) {
                test.invoke(null, connection);
                passed++;
            } catch (InvocationTargetException e) {
                System.out.println("FAILED " + test.getName());
                e.getCause().printStackTrace(System.out);
                failed++;
            } catch (Exception e) {
                System.out.println("FAILED " + test.getName());
                e.printStackTrace(System.out);
                failed++;
            }
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 && passed > 0 ? 0 : 1);
    }

    static void equal(Object expected, Object actual) {
        if (!Objects.deepEquals(expected, actual)) {
            throw new AssertionError("expected " + text(expected) + ", got " + text(actual));
        }
    }

    static void that(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** The SQLException that `action` ends with; its message has `part` in it. */
    static SQLException fails(String part, Action action) throws Exception {
        try {
            action.run();
        } catch (SQLException e) {
            that(messages(e).contains(part), "\"" + part + "\" is not in: " + messages(e));
            return e;
        }
        throw new AssertionError("no SQLException with " + part);
    }

    static String messages(Throwable e) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            text.append(cause).append('\n');
        }
        return text.toString();
    }

    /** All rows, each as a list of objects; closes what it has read. */
    static List<List<Object>> rows(ResultSet result, String... columns) throws SQLException {
        List<List<Object>> rows = new ArrayList<>();
        try (result) {
            int n = result.getMetaData().getColumnCount();
            while (result.next()) {
                List<Object> row = new ArrayList<>();
                if (columns.length == 0) {
                    for (int i = 1; i <= n; i++) {
                        row.add(result.getObject(i));
                    }
                }
                for (String column : columns) {
                    row.add(result.getObject(column));
                }
                rows.add(row);
            }
        }
        return rows;
    }

    static List<List<Object>> query(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return rows(statement.executeQuery(sql));
        }
    }

    static List<List<Object>> query(Connection connection, String sql, Object... values)
            throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) {
                statement.setObject(i + 1, values[i]);
            }
            return rows(statement.executeQuery());
        }
    }

    static long update(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeLargeUpdate(sql);
        }
    }

    private static String text(Object value) {
        return value instanceof byte[] ? Arrays.toString((byte[]) value)
                : value + (value == null ? "" : " (" + value.getClass().getName() + ")");
    }
}
