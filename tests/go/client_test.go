// Flight SQL with Apache Arrow's Go client. HS_PLAIN is the address of a server without keys and
// TLS; HS_LOGIN that of one with both, HS_KEY its key and HS_CERT its certificate.
package tests

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const endless = "SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b"

// client is a connection and the test that uses it; what goes wrong ends the test.
type client struct {
	*flightsql.Client
	t   *testing.T
	ctx context.Context
}

func connect(t *testing.T, address string, options ...grpc.DialOption) *client {
	t.Helper()
	made, err := flightsql.NewClient(address, nil, nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(func() {
		cancel()
		made.Close()
	})
	return &client{made, t, ctx}
}

func plain(t *testing.T) *client {
	t.Helper()
	return connect(t, os.Getenv("HS_PLAIN"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func secure(t *testing.T) *client {
	t.Helper()
	pem, err := os.ReadFile(os.Getenv("HS_CERT"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return connect(t, os.Getenv("HS_LOGIN"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
}

// must ends the test unless err is nil.
func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// fails ends the test unless err has the code, and part in its message.
func fails(t *testing.T, err error, code codes.Code, part string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), part) {
		t.Fatalf("expected %v with %q, got %v", code, part, err)
	}
}

// read gives every row of an answer as text, one column after another.
func (c *client) read(info *flight.FlightInfo) ([][]string, error) {
	rows := [][]string{}
	for _, endpoint := range info.Endpoint {
		reader, err := c.DoGet(c.ctx, endpoint.Ticket)
		if err != nil {
			return nil, err
		}
		defer reader.Release()
		for reader.Next() {
			batch := reader.RecordBatch()
			for i := 0; i < int(batch.NumRows()); i++ {
				row := []string{}
				for _, column := range batch.Columns() {
					row = append(row, column.ValueStr(i))
				}
				rows = append(rows, row)
			}
		}
		if reader.Err() != nil {
			return nil, reader.Err()
		}
	}
	return rows, nil
}

func (c *client) try(sql string) ([][]string, error) {
	info, err := c.Execute(c.ctx, sql)
	if err != nil {
		return nil, err
	}
	return c.read(info)
}

// query gives the rows as "a b|c d".
func (c *client) query(sql string) string {
	c.t.Helper()
	rows, err := c.try(sql)
	return text(must(c.t, rows, err))
}

func (c *client) update(sql string) int64 {
	c.t.Helper()
	n, err := c.ExecuteUpdate(c.ctx, sql)
	return must(c.t, n, err)
}

func text(rows [][]string) string {
	lines := []string{}
	for _, row := range rows {
		lines = append(lines, strings.Join(row, " "))
	}
	return strings.Join(lines, "|")
}

func equal[T comparable](t *testing.T, expected, actual T) {
	t.Helper()
	if expected != actual {
		t.Fatalf("expected %v, got %v", expected, actual)
	}
}

// ---- connecting ----

func TestKeyAndCertificate(t *testing.T) {
	c := secure(t)
	_, err := c.try("SELECT 1")
	fails(t, err, codes.Unauthenticated, "API key")
	_, err = c.Client.Client.AuthenticateBasicToken(c.ctx, "anybody", "no")
	fails(t, err, codes.Unauthenticated, "")
	anonymous := c.ctx
	login, err := c.Client.Client.AuthenticateBasicToken(c.ctx, "anybody", os.Getenv("HS_KEY"))
	c.ctx = must(t, login, err)
	equal(t, "2", c.query("SELECT 2"))
	c.ctx = metadata.AppendToOutgoingContext(anonymous, "authorization",
		"Bearer "+os.Getenv("HS_KEY"))
	equal(t, "3", c.query("SELECT 3"))
}

func TestUnknownCertificateAndMissingTLS(t *testing.T) {
	c := connect(t, os.Getenv("HS_LOGIN"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{})))
	_, err := c.try("SELECT 1")
	fails(t, err, codes.Unavailable, "certificate")
	c = connect(t, os.Getenv("HS_LOGIN"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	_, err = c.try("SELECT 1")
	fails(t, err, codes.Unavailable, "")
}

// ---- statements ----

func TestErrors(t *testing.T) {
	c := plain(t)
	late := "SELECT CAST(CASE WHEN i < 100000 THEN '1' ELSE 'x' END AS INTEGER) AS n " +
		"FROM range(100001) t(i)" // after rows were sent
	for sql, part := range map[string]string{
		"selec 1":               "syntax error",
		"SELECT * FROM nowhere": "nowhere",
		"SELECT 'x'::INTEGER":   "Conversion",
		late:                    "Conversion",
	} {
		_, err := c.try(sql)
		fails(t, err, codes.InvalidArgument, part)
	}
	_, err := c.try("ATTACH 'x.db' AS x")
	fails(t, err, codes.PermissionDenied, "ATTACH")
	_, err = c.DoGet(c.ctx, &flight.Ticket{Ticket: []byte("xx")})
	fails(t, err, codes.InvalidArgument, "ticket")
	_, err = c.ExecuteSubstrait(c.ctx, flightsql.SubstraitPlan{Plan: []byte("x")})
	fails(t, err, codes.Unimplemented, "Substrait")
	equal(t, "1", c.query("SELECT 1"))
}

func TestUpdates(t *testing.T) {
	c := plain(t)
	c.update("CREATE OR REPLACE TABLE u(i INTEGER)")
	equal(t, 10, c.update("INSERT INTO u SELECT * FROM range(10)"))
	equal(t, 5, c.update("DELETE FROM u WHERE i < 5"))
	equal(t, "5 35", c.query("SELECT count(*), sum(i)::BIGINT FROM u"))
}

func TestTransactions(t *testing.T) {
	c, other := plain(t), plain(t)
	c.update("CREATE OR REPLACE TABLE t(i INTEGER)")
	for _, commit := range []bool{false, true} {
		txn, err := c.BeginTransaction(c.ctx)
		must(t, txn, err)
		n, err := txn.ExecuteUpdate(c.ctx, "INSERT INTO t VALUES (1)")
		equal(t, 1, must(t, n, err))
		info, err := txn.Execute(c.ctx, "SELECT count(*) FROM t")
		rows, err := c.read(must(t, info, err))
		equal(t, "1", text(must(t, rows, err)))
		equal(t, "0", other.query("SELECT count(*) FROM t"))
		_, err = txn.BeginSavepoint(c.ctx, "s")
		fails(t, err, codes.Unimplemented, "BeginSavepoint")
		if commit {
			must(t, 0, txn.Commit(c.ctx))
		} else {
			must(t, 0, txn.Rollback(c.ctx))
		}
		_, err = txn.ExecuteUpdate(c.ctx, "INSERT INTO t VALUES (2)")
		if err == nil {
			t.Fatal("the transaction has ended")
		}
	}
	equal(t, "1", other.query("SELECT count(*) FROM t"))
}

func TestManyRows(t *testing.T) {
	c := plain(t)
	info, err := c.Execute(c.ctx, "SELECT range AS i FROM range(10000000)")
	reader, err := c.DoGet(c.ctx, must(t, info, err).Endpoint[0].Ticket)
	defer must(t, reader, err).Release()
	expected := int64(0)
	for reader.Next() {
		for _, value := range reader.RecordBatch().Column(0).(*array.Int64).Int64Values() {
			if value != expected {
				t.Fatalf("row %d is %d", expected, value)
			}
			expected++
		}
	}
	must(t, 0, reader.Err())
	equal(t, 10000000, expected)
}

// ---- cancelling ----

func TestCancelInMidStream(t *testing.T) {
	c := plain(t)
	info, err := c.Execute(c.ctx, "SELECT * FROM range(1000000000)")
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	reader, err := c.DoGet(ctx, must(t, info, err).Endpoint[0].Ticket)
	defer must(t, reader, err).Release()
	equal(t, true, reader.Next())
	cancel()
	for reader.Next() {
	}
	fails(t, reader.Err(), codes.Canceled, "")
	equal(t, "1", c.query("SELECT 1"))
}

func TestDeadline(t *testing.T) {
	c := plain(t)
	all := c.ctx
	ctx, cancel := context.WithTimeout(all, 500*time.Millisecond)
	defer cancel()
	c.ctx = ctx
	_, err := c.try(endless)
	fails(t, err, codes.DeadlineExceeded, "")
	c.ctx = all
	equal(t, "1", c.query("SELECT 1"))
}

// A cancel that comes before the statement runs is nothing, so it is sent until one hits.
func TestCancelFlightInfo(t *testing.T) {
	c := plain(t)
	info, err := c.Execute(c.ctx, endless)
	must(t, info, err)
	done := make(chan error, 1)
	go func() {
		_, err := c.read(info)
		done <- err
	}()
	for {
		select {
		case err := <-done:
			fails(t, err, codes.Canceled, "")
			equal(t, "1", c.query("SELECT 1"))
			return
		case <-time.After(20 * time.Millisecond):
			c.CancelFlightInfo(c.ctx, &flight.CancelFlightInfoRequest{Info: info})
		}
	}
}
