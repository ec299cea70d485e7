import static java.util.List.of;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.SQLFeatureNotSupportedException;
import java.sql.Types;
import java.util.Arrays;
import java.util.List;

/** DatabaseMetaData, in the order in which DBeaver asks for it. */
final class Metadata {
    private static final String PARENT =
            "CREATE TABLE IF NOT EXISTS parent(a INTEGER, b BIGINT, PRIMARY KEY (a, b))";
    private static final String CHILD = "CREATE TABLE IF NOT EXISTS child(x INTEGER NOT NULL, "
            + "y BIGINT, d DECIMAL(10, 2), s VARCHAR, FOREIGN KEY (x, y) REFERENCES parent(a, b))";

    public static void main(String[] args) {
        Check.main(Metadata.class, args[0]);
    }

    private static DatabaseMetaData prepare(Connection connection) throws Exception {
        Check.update(connection, PARENT);
        Check.update(connection, CHILD);
        Check.update(connection, "CREATE SCHEMA IF NOT EXISTS other");
        Check.update(connection, "CREATE OR REPLACE VIEW other.under_score AS SELECT 1 AS one");
        Check.update(connection, "CREATE OR REPLACE VIEW other.underXscore AS SELECT 2 AS two");
        return connection.getMetaData();
    }

    private static List<List<Object>> sorted(List<List<Object>> rows) {
        rows.sort((a, b) -> a.toString().compareTo(b.toString()));
        return rows;
    }

    static void testProduct(Connection connection) throws Exception {
        DatabaseMetaData meta = connection.getMetaData();
        Check.equal("hyprstream", meta.getDatabaseProductName());
        Check.that(meta.getDatabaseProductVersion().matches("\\d+\\.\\d+\\.\\d+.*"), "version");
        Check.equal("\"", meta.getIdentifierQuoteString());
        Check.equal(true, meta.supportsTransactions());
        Check.equal(false, meta.isReadOnly());
        Check.equal(true, meta.supportsConvert(Types.INTEGER, Types.VARCHAR));
        List<String> keywords = Arrays.asList(meta.getSQLKeywords().split(", ?"));
        Check.that(keywords.contains("PIVOT"), "PIVOT is a keyword");
        Check.that(!keywords.contains("ATTACH"), "ATTACH is refused");
        Check.that(Arrays.asList(meta.getNumericFunctions().split(", ?")).contains("abs"), "abs");
        Check.equal(true, connection.isValid(5));
    }

    /** Each answer without an argument is there, or is said to be none of the driver's. */
    static void testEveryGetter(Connection connection) throws Exception {
        DatabaseMetaData meta = prepare(connection);
        for (Method getter : DatabaseMetaData.class.getMethods()) {
            if (getter.getParameterCount() > 0) {
                continue;
            }
            try {
                Object answer = getter.invoke(meta);
                if (answer instanceof ResultSet) {
                    Check.rows((ResultSet) answer);
                }
            } catch (InvocationTargetException e) {
                if (!(e.getCause() instanceof SQLFeatureNotSupportedException)) {
                    throw new AssertionError(getter.getName(), e.getCause());
                }
            }
        }
    }

    static void testCatalogsAndSchemas(Connection connection) throws Exception {
        DatabaseMetaData meta = prepare(connection);
        Check.equal(of(of("memory")), Check.rows(meta.getCatalogs()));
        List<List<Object>> schemas =
                Check.rows(meta.getSchemas("memory", null), "TABLE_SCHEM", "TABLE_CATALOG");
        Check.that(schemas.contains(of("main", "memory")), "main in " + schemas);
        Check.that(schemas.contains(of("other", "memory")), "other in " + schemas);
        Check.equal(of(of("other", "memory")), Check.rows(meta.getSchemas("memory", "ot_er")));
        Check.equal(of(), Check.rows(meta.getSchemas("none", null)));
        Check.equal(of(of("LOCAL TEMPORARY"), of("TABLE"), of("VIEW")),
                Check.rows(meta.getTableTypes()));
    }

    static void testTables(Connection connection) throws Exception {
        DatabaseMetaData meta = prepare(connection);
        String[] columns = {"TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"};
        Check.equal(of(of("memory", "main", "child", "TABLE"),
                        of("memory", "main", "parent", "TABLE")),
                Check.rows(meta.getTables("memory", "main", "%", new String[] {"TABLE"}), columns));
        Check.equal(of(of("memory", "main", "child", "TABLE")),
                Check.rows(meta.getTables(null, null, "c_ild", null), columns));
        Check.equal(2, Check.rows(meta.getTables(null, "other", "under_score", null)).size());
        String exact = "under" + meta.getSearchStringEscape() + "_score";
        Check.equal(of(of("memory", "other", "under_score", "VIEW")),
                Check.rows(meta.getTables(null, "other", exact, null), columns));
        Check.equal(of(), Check.rows(meta.getTables(null, "main", "%", new String[] {"VIEW"})));
        Check.equal(of(), Check.rows(meta.getTables("none", null, "%", null)));
    }

    static void testColumns(Connection connection) throws Exception {
        DatabaseMetaData meta = prepare(connection);
        List<List<Object>> columns = Check.rows(meta.getColumns(null, "main", "child", "%"),
                "COLUMN_NAME", "DATA_TYPE", "ORDINAL_POSITION", "IS_NULLABLE");
        Check.equal(of(of("x", Types.INTEGER, 1, "NO"), of("y", Types.BIGINT, 2, "YES"),
                        of("d", Types.DECIMAL, 3, "YES"), of("s", Types.VARCHAR, 4, "YES")),
                columns);
        Check.equal(of(of("d", 10, 2)), Check.rows(meta.getColumns(null, null, "child", "d"),
                "COLUMN_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS"));
        Check.equal(of(of("one")),
                Check.rows(meta.getColumns(null, "other", "under\\_score", null), "COLUMN_NAME"));
    }

    static void testKeys(Connection connection) throws Exception {
        DatabaseMetaData meta = prepare(connection);
        Check.equal(of(of("parent", "a", 1), of("parent", "b", 2)),
                Check.rows(meta.getPrimaryKeys(null, "main", "parent"), "TABLE_NAME",
                        "COLUMN_NAME", "KEY_SEQ"));
        Check.equal(of(), Check.rows(meta.getPrimaryKeys(null, "main", "child")));
        String[] names = {"PKTABLE_NAME", "PKCOLUMN_NAME", "FKTABLE_NAME", "FKCOLUMN_NAME"};
        List<?> keys = of(of("parent", "a", "child", "x"), of("parent", "b", "child", "y"));
        Check.equal(keys, sorted(Check.rows(meta.getExportedKeys(null, "main", "parent"), names)));
        Check.equal(keys, sorted(Check.rows(meta.getImportedKeys(null, "main", "child"), names)));
        Check.equal(keys, sorted(Check.rows(
                meta.getCrossReference(null, "main", "parent", null, null, "child"), names)));
        Check.equal(of(), Check.rows(meta.getImportedKeys(null, "main", "parent")));
        Check.equal(of(),
                Check.rows(meta.getCrossReference(null, null, "child", null, null, "parent")));
    }

    /** The driver has none to show, whatever a server answers; see docs/dbeaver.md. */
    static void testTypeInfo(Connection connection) throws Exception {
        Check.equal(of(), Check.rows(connection.getMetaData().getTypeInfo()));
    }
}
