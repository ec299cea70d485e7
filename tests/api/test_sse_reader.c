/* Events out of bytes, however they are cut: the examples of the specification, and limits. */
#include "api_test.h"

#include "sse_reader.h"

/* All events of `text`, fed in pieces of n bytes: "name=data;" each. */
static void expect_in_pieces(const char *text, size_t n, const char *want)
{
    struct hs_sse_reader reader;
    struct hs_buf got HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(4096);
    hs_sse_reader_init(&reader, 1000);
    assert_int_equal(hs_buf_append_str(&got, ""), HS_OK);
    for (size_t at = 0, len = strlen(text); at < len;) {
        size_t used = 0;
        bool has_event = false;
        size_t piece = len - at < n ? len - at : n;
        assert_int_equal(hs_sse_reader_feed(&reader, text + at, piece, &used, &has_event), HS_OK);
        assert_true(used == piece || has_event);
        at += used;
        if (has_event) {
            assert_int_equal(hs_buf_printf(&got, "%s=%s;", reader.event,
                                           reader.data.len > 0 ? reader.data.data : ""),
                             HS_OK);
        }
    }
    assert_string_equal(got.len > 0 ? got.data : "", want);
    hs_sse_reader_free(&reader);
}

static void expect(const char *text, const char *want)
{
    for (size_t n = 1; n <= strlen(text); n++) {
        expect_in_pieces(text, n, want);
    }
}

static void examples_of_the_specification(void **state)
{
    (void)state;
    expect("data: YHOO\ndata: +2\ndata: 10\n\n", "=YHOO\n+2\n10;");
    expect(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
           "data:  third event\n\n",
           "=first event;=second event;= third event;");
    expect("data\n\ndata\ndata\n\ndata:", "=;=\n;");
    expect("data:test\n\ndata: test\n\n", "=test;=test;");
    expect("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
           "add=73857293;remove=2153;");
}

static void every_end_of_a_line(void **state)
{
    (void)state;
    expect("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "=a;=b;=c;");
    expect("data: a\r\ndata: b\r\n\r\n", "=a\nb;");
    expect("\r\n\r\n\r\ndata: x\r\n\r\n", "=x;");
}

static void other_fields_and_marks(void **state)
{
    (void)state;
    expect("\xEF\xBB\xBF"
           "data: a\n\n",
           "=a;"); /* a byte order mark at the very beginning */
    expect("data: a\n\n\xEF\xBB\xBF"
           "data: b\n\n",
           "=a;");
    expect("event: lost\n\ndata: a\n\n", "=a;"); /* an event without data is none */
    expect("retry: 10\nfoo: bar\ndatax: no\nDATA: no\ndata: a\n\n", "=a;");
    expect("event: e\nevent: f\ndata: a\n\ndata: b\n\n", "f=a;=b;");
}

static void names_are_cut(void **state)
{
    (void)state;
    char text[200], want[200];
    memset(text, 0, sizeof text);
    snprintf(text, sizeof text, "event: %070d\ndata: a\n\n", 0);
    snprintf(want, sizeof want, "%063d=a;", 0);
    expect(text, want);
}

static void limits(void **state)
{
    (void)state;
    for (size_t extra = 0; extra <= 1; extra++) {
        struct hs_sse_reader reader;
        size_t used = 0;
        bool has_event = false;
        char text[64];
        hs_sse_reader_init(&reader, 20);
        snprintf(text, sizeof text, "data: %0*d\n\n", (int)(14 + extra), 0); /* the line */
        hs_status status = hs_sse_reader_feed(&reader, text, strlen(text), &used, &has_event);
        assert_int_equal(status, extra ? HS_LIMIT : HS_OK);
        hs_sse_reader_free(&reader);
        hs_sse_reader_init(&reader, 20); /* the data, with the newlines between its lines */
        snprintf(text, sizeof text, "data:0123456789\ndata:%0*d\n\n", (int)(9 + extra), 0);
        status = hs_sse_reader_feed(&reader, text, strlen(text), &used, &has_event);
        assert_int_equal(status, extra ? HS_LIMIT : HS_OK);
        assert_int_equal(has_event, !extra);
        hs_sse_reader_free(&reader);
    }
}

static void without_memory(void **state)
{
    (void)state;
    hs_status status = HS_OUT_OF_MEMORY;
    for (uint64_t nth = 1; status == HS_OUT_OF_MEMORY; nth++) {
        struct hs_sse_reader reader;
        size_t used = 0;
        bool has_event = false;
        hs_sse_reader_init(&reader, 1000);
        hs_mem_fail_after(nth);
        status = hs_sse_reader_feed(&reader, "data: a\n\n", 9, &used, &has_event);
        hs_mem_fail_after(0);
        assert_true(status == HS_OK || status == HS_OUT_OF_MEMORY);
        hs_sse_reader_free(&reader);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_specification),
        cmocka_unit_test(every_end_of_a_line),
        cmocka_unit_test(other_fields_and_marks),
        cmocka_unit_test(names_are_cut),
        cmocka_unit_test(limits),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
