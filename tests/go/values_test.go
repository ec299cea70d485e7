package tests

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
)

var (
	micro   = &arrow.TimestampType{Unit: arrow.Microsecond}
	decimal = &arrow.Decimal128Type{Precision: 10, Scale: 2}
	point   = arrow.StructOf(
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true})
)

// Values of every type as JSON, and what the database calls the first of them.
var values = []struct {
	of    arrow.DataType
	json  string
	shown string
}{
	{arrow.FixedWidthTypes.Boolean, `[true, false, null]`, "true"},
	{arrow.PrimitiveTypes.Int8, `[-128, 127, null]`, "-128"},
	{arrow.PrimitiveTypes.Uint8, `[255, 0, null]`, "255"},
	{arrow.PrimitiveTypes.Int16, `[-32768, 32767, null]`, "-32768"},
	{arrow.PrimitiveTypes.Uint16, `[65535, 0, null]`, "65535"},
	{arrow.PrimitiveTypes.Int32, `[-2147483648, 2147483647, null]`, "-2147483648"},
	{arrow.PrimitiveTypes.Uint32, `[4294967295, 0, null]`, "4294967295"},
	{arrow.PrimitiveTypes.Int64, `[-9223372036854775808, 9223372036854775807, null]`,
		"-9223372036854775808"},
	{arrow.PrimitiveTypes.Uint64, `[18446744073709551615, 0, null]`, "18446744073709551615"},
	{arrow.PrimitiveTypes.Float32, `[0.5, -1e30, null]`, "0.5"},
	{arrow.PrimitiveTypes.Float64, `[0.1, -1e300, null]`, "0.1"},
	{decimal, `["1.25", "-99999999.99", null]`, "1.25"},
	{&arrow.Decimal128Type{Precision: 38},
		`["99999999999999999999999999999999999999", "-1", null]`,
		"99999999999999999999999999999999999999"},
	{arrow.BinaryTypes.String, `["grüß", "", null]`, "grüß"},
	{arrow.BinaryTypes.Binary, `["AGFi", "", null]`, `\x00ab`},
	{arrow.FixedWidthTypes.Date32, `["2020-02-29", "1969-12-31", null]`, "2020-02-29"},
	{arrow.FixedWidthTypes.Time64us, `["10:11:12.500001", "00:00:00", null]`,
		"10:11:12.500001"},
	{micro, `["2020-01-02 03:04:05.123456", "1969-12-31 23:59:59.999999", null]`,
		"2020-01-02 03:04:05.123456"},
	{&arrow.TimestampType{Unit: arrow.Second}, `["2020-01-02 03:04:05", null]`,
		"2020-01-02 03:04:05"},
	{&arrow.TimestampType{Unit: arrow.Millisecond}, `["2020-01-02 03:04:05.123", null]`,
		"2020-01-02 03:04:05.123"},
	{&arrow.TimestampType{Unit: arrow.Nanosecond}, `["2020-01-02 03:04:05.123456789", null]`,
		"2020-01-02 03:04:05.123456789"},
	{arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[1, null, 3], [], null]`, "[1, NULL, 3]"},
	{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int32), `[[1, 2], [3, null], null]`,
		"[1, 2]"},
	{point, `[{"x": 1, "s": "a"}, {"x": null, "s": null}, null]`, "{'x': 1, 's': a}"},
	{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32),
		`[[{"key": "k", "value": 1}], [], null]`, "{k=1}"},
	{arrow.ListOf(arrow.ListOf(arrow.BinaryTypes.String)), `[[["a"], [], null], null]`,
		"[[a], [], NULL]"},
}

func build(t *testing.T, of arrow.DataType, json string) arrow.RecordBatch {
	t.Helper()
	column, _, err := array.FromJSON(memory.DefaultAllocator, of, strings.NewReader(json))
	must(t, column, err)
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: of, Nullable: true}}, nil)
	return array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len()))
}

// column gives the first column of an answer of one batch.
func (c *client) column(info *flight.FlightInfo) arrow.Array {
	c.t.Helper()
	reader, err := c.DoGet(c.ctx, info.Endpoint[0].Ticket)
	defer must(c.t, reader, err).Release()
	if !reader.Next() {
		c.t.Fatal(reader.Err())
	}
	column := reader.RecordBatch().Column(0)
	column.Retain()
	return column
}

func same(t *testing.T, expected, actual arrow.Array) {
	t.Helper()
	if !array.Equal(expected, actual) {
		t.Fatalf("expected %v of %v, got %v of %v", expected, expected.DataType(),
			actual, actual.DataType())
	}
}

func ingest(name string, exists flightsql.TableDefinitionOptionsTableExistsOption,
) *flightsql.ExecuteIngestOpts {
	return &flightsql.ExecuteIngestOpts{Table: name,
		TableDefinitionOptions: &flightsql.TableDefinitionOptions{
			IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate,
			IfExists:   exists}}
}

func (c *client) ingest(batch arrow.RecordBatch, options *flightsql.ExecuteIngestOpts,
) (int64, error) {
	reader, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
	defer must(c.t, reader, err).Release()
	return c.ExecuteIngest(c.ctx, reader, options)
}

// TestEveryType sends each type as a parameter and into a table, and gets what it has sent.
func TestEveryType(t *testing.T) {
	for _, value := range values {
		t.Run(value.of.String(), func(t *testing.T) {
			c := plain(t)
			batch := build(t, value.of, value.json)
			statement, err := c.Prepare(c.ctx, "SELECT ? AS v")
			defer must(t, statement, err).Close(c.ctx)
			statement.SetParameters(batch.NewSlice(0, 1))
			info, err := statement.Execute(c.ctx)
			parameter := c.column(must(t, info, err))
			if value.of.ID() != arrow.FIXED_SIZE_LIST { // it comes back as a list
				same(t, array.NewSlice(batch.Column(0), 0, 1), parameter)
			}
			n, err := c.ingest(batch, ingest("every",
				flightsql.TableDefinitionOptionsTableExistsOptionReplace))
			equal(t, batch.NumRows(), must(t, n, err))
			info, err = c.Execute(c.ctx, "SELECT v FROM every")
			same(t, batch.Column(0), c.column(must(t, info, err)))
			equal(t, value.shown, c.query("SELECT v::VARCHAR FROM every LIMIT 1"))
		})
	}
}

func TestParameters(t *testing.T) {
	c := plain(t)
	c.update("CREATE OR REPLACE TABLE p(i BIGINT PRIMARY KEY)")
	insert, err := c.Prepare(c.ctx, "INSERT INTO p VALUES (?)")
	defer must(t, insert, err).Close(c.ctx)
	equal(t, 1, insert.ParameterSchema().NumFields())
	insert.SetParameters(build(t, arrow.PrimitiveTypes.Int64, `[1, 2, 3]`))
	n, err := insert.ExecuteUpdate(c.ctx)
	equal(t, 3, must(t, n, err))
	insert.SetParameters(build(t, arrow.PrimitiveTypes.Int64, `[4, 1]`)) // all or none
	_, err = insert.ExecuteUpdate(c.ctx)
	fails(t, err, codes.InvalidArgument, "primary key")
	equal(t, "3 6", c.query("SELECT count(*), sum(i)::BIGINT FROM p"))
	_, err = c.try("SELECT ? + 1")
	fails(t, err, codes.InvalidArgument, "parameters")
}

func TestIngest(t *testing.T) {
	c := plain(t)
	c.update("DROP TABLE IF EXISTS g")
	batch := build(t, arrow.PrimitiveTypes.Int64, `[1, 2, 3]`)
	failing := ingest("g", flightsql.TableDefinitionOptionsTableExistsOptionFail)
	n, err := c.ingest(batch, failing)
	equal(t, 3, must(t, n, err))
	_, err = c.ingest(batch, failing)
	if err == nil {
		t.Fatal("the table was there")
	}
	appending := ingest("g", flightsql.TableDefinitionOptionsTableExistsOptionAppend)
	_, err = c.ingest(batch, appending)
	must(t, 0, err)
	equal(t, "6 12", c.query("SELECT count(*), sum(v)::BIGINT FROM g"))
	txn, err := c.BeginTransaction(c.ctx)
	must(t, txn, err)
	appending.TransactionId = txn.ID()
	_, err = c.ingest(batch, appending)
	must(t, 0, err)
	must(t, 0, txn.Rollback(c.ctx))
	equal(t, "6", c.query("SELECT count(*) FROM g"))
}

// ---- metadata ----

func (c *client) metadata(info *flight.FlightInfo, err error) [][]string {
	c.t.Helper()
	must(c.t, info, err)
	rows, err := c.read(info)
	return must(c.t, rows, err)
}

func TestMetadata(t *testing.T) {
	c := plain(t)
	c.update("CREATE SCHEMA IF NOT EXISTS m")
	c.update("CREATE TABLE IF NOT EXISTS m.parent(a INTEGER PRIMARY KEY)")
	c.update("CREATE TABLE IF NOT EXISTS m.child(x INTEGER REFERENCES m.parent(a))")
	schema := "m"
	equal(t, "memory", text(c.metadata(c.GetCatalogs(c.ctx))))
	equal(t, "memory m", text(c.metadata(c.GetDBSchemas(c.ctx,
		&flightsql.GetDBSchemasOpts{DbSchemaFilterPattern: &schema}))))
	equal(t, "memory m child TABLE|memory m parent TABLE", text(c.metadata(c.GetTables(c.ctx,
		&flightsql.GetTablesOpts{DbSchemaFilterPattern: &schema}))))
	equal(t, "LOCAL TEMPORARY|TABLE|VIEW", text(c.metadata(c.GetTableTypes(c.ctx))))
	parent := flightsql.TableRef{DBSchema: &schema, Table: "parent"}
	child := flightsql.TableRef{DBSchema: &schema, Table: "child"}
	keys := c.metadata(c.GetPrimaryKeys(c.ctx, parent))
	equal(t, "memory m parent a 1", strings.Join(keys[0][:5], " "))
	for _, rows := range [][][]string{
		c.metadata(c.GetExportedKeys(c.ctx, parent)),
		c.metadata(c.GetImportedKeys(c.ctx, child)),
		c.metadata(c.GetCrossReference(c.ctx, parent, child)),
	} {
		equal(t, 1, len(rows))
		equal(t, "memory m parent a memory m child x 1", strings.Join(rows[0][:9], " "))
	}
	equal(t, 0, len(c.metadata(c.GetImportedKeys(c.ctx, parent))))
	info := c.metadata(c.GetSqlInfo(c.ctx,
		[]flightsql.SqlInfo{flightsql.SqlInfoFlightSqlServerName}))
	equal(t, 1, len(info))
	if !strings.Contains(info[0][1], "hyprstream") {
		t.Fatal(info)
	}
	varchar := int32(12)
	types := c.metadata(c.GetXdbcTypeInfo(c.ctx, &varchar))
	equal(t, "VARCHAR", types[len(types)-1][0])
}
