import static java.util.List.of;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Logging in, TLS and transactions. The first server has neither keys nor TLS; HS_LOGIN is the
 * address of one with both, HS_KEY its key, HS_CERT its certificate.
 */
final class Connections {
    private static final String LOGIN = System.getenv("HS_LOGIN");
    private static String plain;

    public static void main(String[] args) {
        plain = args[0];
        Check.main(Connections.class, args[0]);
    }

    private static Connection login(String... pairs) throws SQLException {
        Properties properties = new Properties();
        for (int i = 0; i < pairs.length; i += 2) {
            properties.setProperty(pairs[i], pairs[i + 1]);
        }
        return DriverManager.getConnection(LOGIN, properties);
    }

    static void testKeyAndCertificate(Connection unused) throws Exception {
        String cert = System.getenv("HS_CERT");
        String key = System.getenv("HS_KEY");
        try (Connection connection =
                        login("user", "anybody", "password", key, "tlsRootCerts", cert)) {
            Check.equal(of(of(2)), Check.query(connection, "SELECT 2"));
        }
        try (Connection connection = login("token", key, "tlsRootCerts", cert)) {
            Check.equal(of(of(3)), Check.query(connection, "SELECT 3"));
        }
        try (Connection connection = login("user", "anybody", "password", key,
                     "disableCertificateVerification", "true")) {
            Check.equal(of(of(4)), Check.query(connection, "SELECT 4"));
        }
        Check.fails("API key", () -> login("user", "x", "password", "no", "tlsRootCerts", cert));
        Check.fails("API key", () -> {
            try (Connection connection = login("tlsRootCerts", cert)) {
                Check.query(connection, "SELECT 1");
            }
        });
        Check.fails("certificat", () -> { // one that Java does not know
            try (Connection connection = login("user", "anybody", "password", key)) {
                Check.query(connection, "SELECT 1");
            }
        });
    }

    static void testLoginWithoutKeys(Connection unused) throws Exception {
        try (Connection connection =
                        DriverManager.getConnection(plain + "&user=u&password=p")) {
            Check.equal(of(of(1)), Check.query(connection, "SELECT 1"));
        }
    }

    /** The driver has closed its channel before it ends the session; see docs/dbeaver.md. */
    static void testCatalog(Connection unused) throws Exception {
        Connection connection =
                DriverManager.getConnection(plain + "&user=u&password=p&catalog=memory");
        Check.equal(of(of("memory")), Check.query(connection, "SELECT current_database()"));
        Check.fails("Channel shutdown", connection::close);
        Check.fails("nothing_like_it", () ->
                DriverManager.getConnection(plain + "&catalog=nothing_like_it").close());
    }

    static void testTransaction(Connection one) throws Exception {
        Check.update(one, "CREATE OR REPLACE TABLE t(i INTEGER)");
        try (Connection two = DriverManager.getConnection(plain)) {
            String count = "SELECT count(*) FROM t";
            Check.update(one, "BEGIN");
            Check.update(one, "INSERT INTO t VALUES (1)");
            Check.equal(of(of(1L)), Check.query(one, count));
            Check.equal(of(of(0L)), Check.query(two, count));
            Check.update(one, "ROLLBACK");
            Check.equal(of(of(0L)), Check.query(one, count));
            Check.update(one, "BEGIN");
            Check.update(one, "INSERT INTO t VALUES (2)");
            Check.update(one, "COMMIT");
            Check.equal(of(of(1L)), Check.query(two, count));
        }
    }

    /** The driver asks for no transaction: each statement is one; see docs/dbeaver.md. */
    static void testAutocommitOff(Connection connection) throws Exception {
        Check.update(connection, "CREATE OR REPLACE TABLE a(i INTEGER)");
        connection.setAutoCommit(false);
        Check.update(connection, "INSERT INTO a VALUES (1)");
        connection.rollback();
        Check.equal(of(of(1L)), Check.query(connection, "SELECT count(*) FROM a"));
        connection.commit();
    }

    static void testManyConnections(Connection unused) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(10);
        List<Future<List<List<Object>>>> answers = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            String sql = "SELECT " + i + " + count(*) FROM range(100000)";
            answers.add(pool.submit(() -> {
                try (Connection connection = DriverManager.getConnection(plain)) {
                    return Check.query(connection, sql);
                }
            }));
        }
        pool.shutdown();
        for (int i = 0; i < 10; i++) {
            Check.equal(of(of(100000L + i)), answers.get(i).get());
        }
    }
}
