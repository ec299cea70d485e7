/* Tests of inference/token_processor.h against an oracle that sees the whole answer at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text_oracle.h"
#include "token_processor.h"

#define LEN(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

static const struct hs_rt_reasoning think = {.start_tag = "<think>", .end_tag = "</think>"};
static const struct hs_rt_reasoning thinking = {
    .start_tag = "<think>", .end_tag = "</think>", .starts_in_reasoning = true};

/* ---- running the processor ---- */

static void collect(struct oracle_text *to, const struct hs_token_output *output)
{
    assert_in_range(output->n_pieces, 0, HS_PIECES_MAX);
    for (int32_t i = 0; i < output->n_pieces; i++) {
        const struct hs_text_piece *piece = &output->pieces[i];
        assert_true(piece->type == HS_EVENT_TEXT || piece->type == HS_EVENT_REASONING);
        assert_true(piece->len > 0);
        assert_true(hs_utf8_valid(piece->text, piece->len));
        oracle_append(to, piece->type == HS_EVENT_TEXT ? 'T' : 'R', piece->text, piece->len);
    }
    assert_false(to->stopped && output->n_pieces > 0);
    assert_true(output->stopped || !to->stopped);
    to->stopped = output->stopped;
}

static hs_token_processor *new_processor(const struct hs_token_processor_params *params)
{
    hs_token_processor *processor = NULL;
    assert_int_equal(hs_token_processor_new(params, &processor, NULL), HS_OK);
    return processor;
}

static void push(hs_token_processor *processor, const char *bytes, size_t len,
                 struct oracle_text *to)
{
    struct hs_token_output output;
    assert_int_equal(hs_token_processor_push(processor, bytes, len, &output), HS_OK);
    collect(to, &output);
}

static void finish(hs_token_processor *processor, struct oracle_text *to)
{
    struct hs_token_output output;
    assert_int_equal(hs_token_processor_finish(processor, &output), HS_OK);
    collect(to, &output);
}

/* Push bytes[len] in pieces: borders[i] true cuts before byte i. */
static void run_cut(const struct hs_token_processor_params *params, const char *bytes, size_t len,
                    const bool *borders, struct oracle_text *to)
{
    hs_token_processor *processor = new_processor(params);
    to->len = 0;
    to->stopped = false;
    size_t begin = 0;
    for (size_t i = 1; i <= len; i++) {
        if (i == len || borders[i]) {
            push(processor, bytes + begin, i - begin, to);
            begin = i;
        }
    }
    finish(processor, to);
    hs_token_processor_free(processor);
}

static void assert_same(const struct oracle_text *got, const struct oracle_text *want)
{
    if (got->len != want->len || memcmp(got->text, want->text, got->len) != 0 ||
        memcmp(got->type, want->type, got->len) != 0 || got->stopped != want->stopped) {
        fail_msg("got '%.*s' (%.*s, stopped %d), want '%.*s' (%.*s, stopped %d)", (int)got->len,
                 got->text, (int)got->len, got->type, got->stopped, (int)want->len, want->text,
                 (int)want->len, want->type, want->stopped);
    }
}

/* Whole, byte by byte, and in two parts cut at every place. */
static void check_all_cuts(const struct hs_token_processor_params *params, const char *bytes,
                           size_t len, const struct oracle_text *want)
{
    static struct oracle_text got;
    bool borders[256] = {false};
    assert_true(len < sizeof(borders));
    run_cut(params, bytes, len, borders, &got);
    assert_same(&got, want);
    for (size_t cut = 1; cut < len; cut++) {
        borders[cut] = true;
        run_cut(params, bytes, len, borders, &got);
        borders[cut] = false;
        assert_same(&got, want);
    }
    memset(borders, true, sizeof(borders));
    run_cut(params, bytes, len, borders, &got);
    assert_same(&got, want);
}

/* `want_text` and `want_reasoning` by hand, for every cut; the oracle must agree with the hand. */
static void check(const struct hs_token_processor_params *params, const char *bytes,
                  const char *want_reasoning, const char *want_text, bool want_stopped)
{
    static struct oracle_text oracle;
    static struct oracle_text want;
    want.len = 0;
    want.stopped = want_stopped;
    oracle_append(&want, 'R', want_reasoning, strlen(want_reasoning));
    oracle_append(&want, 'T', want_text, strlen(want_text));
    oracle_process(params, bytes, strlen(bytes), &oracle);
    assert_same(&oracle, &want);
    check_all_cuts(params, bytes, strlen(bytes), &want);
}

/* ---- random answers ---- */

static uint64_t rng_state = 20261123;

/* xorshift64*, so that the cases are the same on every machine */
static uint32_t rng(uint32_t n)
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return (uint32_t)((rng_state * 2685821657736338717ULL) >> 33) % n;
}

static const char *const symbols[] = {"a", "b", "<", ">", "/", "t", " ", "\n", "é", "😀"};
static const char *const rubbish[] = {"\x80", "\xFF", "\xE2", "\xF0\x9F", "\xC3", "\xED\xA0"};

struct random_case {
    struct hs_token_processor_params params;
    const char *stop[4];
    char stop_text[4][32];
    char bytes[200];
    size_t len;
};

static void random_stop(struct random_case *c, int32_t i)
{
    c->stop_text[i][0] = '\0';
    uint32_t n = 1 + rng(4);
    for (uint32_t k = 0; k < n; k++) {
        strcat(c->stop_text[i], symbols[rng((uint32_t)LEN(symbols))]);
    }
    c->stop[i] = c->stop_text[i];
}

/* A symbol, rubbish, or a whole or cut-off tag or stop string. */
static void append_random(struct random_case *c)
{
    const char *part = symbols[rng((uint32_t)LEN(symbols))];
    uint32_t kind = rng(10);
    if (kind == 0) {
        part = rubbish[rng((uint32_t)LEN(rubbish))];
    } else if (kind <= 2 && c->params.n_stop > 0) {
        part = c->stop[rng((uint32_t)c->params.n_stop)];
    } else if (kind == 3) {
        part = c->params.reasoning.start_tag;
    } else if (kind == 4) {
        part = c->params.reasoning.end_tag;
    }
    size_t len = strlen(part);
    if (len > 1 && rng(3) == 0) {
        len = 1 + rng((uint32_t)len - 1);
    }
    memcpy(c->bytes + c->len, part, len);
    c->len += len;
}

static void random_answer(struct random_case *c)
{
    memset(c, 0, sizeof(*c));
    c->params.stop = c->stop;
    c->params.n_stop = (int32_t)rng(5);
    for (int32_t i = 0; i < c->params.n_stop; i++) {
        random_stop(c, i);
    }
    c->params.split_reasoning = rng(4) != 0;
    if (rng(5) != 0) {
        strcpy(c->params.reasoning.start_tag, rng(2) == 0 ? "<t>" : "<<t");
        strcpy(c->params.reasoning.end_tag, rng(2) == 0 ? "</t>" : "tt>");
        c->params.reasoning.starts_in_reasoning = rng(3) == 0;
    }
    if (rng(2) == 0) {
        c->len = strlen(c->params.reasoning.start_tag);
        memcpy(c->bytes, c->params.reasoning.start_tag, c->len);
    }
    for (uint32_t n = rng(16); n > 0; n--) {
        append_random(c);
    }
}

static void random_answers_come_out_the_same_for_every_cut(void **state)
{
    (void)state;
    static struct random_case c;
    static struct oracle_text want;
    static struct oracle_text got;
    int n_stopped = 0;
    int n_reasoned = 0;
    for (int i = 0; i < 30000; i++) {
        random_answer(&c);
        oracle_process(&c.params, c.bytes, c.len, &want);
        check_all_cuts(&c.params, c.bytes, c.len, &want);
        for (int k = 0; k < 3; k++) {
            bool borders[sizeof(c.bytes)];
            for (size_t b = 0; b < sizeof(borders); b++) {
                borders[b] = rng(3) == 0;
            }
            run_cut(&c.params, c.bytes, c.len, borders, &got);
            assert_same(&got, &want);
        }
        n_stopped += want.stopped ? 1 : 0;
        n_reasoned += memchr(want.type, 'R', want.len) != NULL ? 1 : 0;
    }
    /* The generator must not have drifted into trivial cases. */
    assert_true(n_stopped > 3000);
    assert_true(n_reasoned > 3000);
}

/* ---- what must be emitted at once ---- */

/* Keep of `decided` what the answer bytes + more has as well. */
static void keep_common(const struct hs_token_processor_params *params, const char *bytes,
                        size_t len, const char *more, struct oracle_text *decided)
{
    static char longer[256];
    static struct oracle_text other;
    memcpy(longer, bytes, len);
    memcpy(longer + len, more, strlen(more));
    oracle_process(params, longer, len + strlen(more), &other);
    size_t n = 0;
    while (n < decided->len && n < other.len && decided->text[n] == other.text[n] &&
           decided->type[n] == other.type[n]) {
        n++;
    }
    while (n < decided->len && n > 0 && ((unsigned char)decided->text[n] & 0xC0) == 0x80) {
        n--; /* down to a whole code point */
    }
    decided->len = n;
}

/* The longest beginning that every continuation of bytes[len] has in common. */
static void decided_text(const struct random_case *c, const char *bytes, size_t len,
                         struct oracle_text *decided)
{
    static const char *const continuations[] = {"\x01",     "\x80",         "\x80\x80",
                                                "\xA0\x80", "\x90\x80\x80", "\x90\x81"};
    oracle_process(&c->params, bytes, len, decided);
    for (int32_t i = 0; i < LEN(continuations); i++) {
        keep_common(&c->params, bytes, len, continuations[i], decided);
    }
    for (int32_t i = 0; i < c->params.n_stop; i++) {
        for (const char *rest = c->stop[i]; *rest != '\0'; rest++) {
            keep_common(&c->params, bytes, len, rest, decided);
        }
    }
    for (const char *rest = c->params.reasoning.start_tag; *rest != '\0'; rest++) {
        keep_common(&c->params, bytes, len, rest, decided);
    }
    for (const char *rest = c->params.reasoning.end_tag; *rest != '\0'; rest++) {
        keep_common(&c->params, bytes, len, rest, decided);
    }
}

static void text_leaves_as_soon_as_no_continuation_can_change_it(void **state)
{
    (void)state;
    static struct random_case c;
    static struct oracle_text got;
    static struct oracle_text want;
    for (int i = 0; i < 4000; i++) {
        random_answer(&c);
        hs_token_processor *processor = new_processor(&c.params);
        got.len = 0;
        got.stopped = false;
        for (size_t n = 1; n <= c.len; n++) {
            push(processor, c.bytes + n - 1, 1, &got);
            decided_text(&c, c.bytes, n, &want);
            want.stopped = got.stopped;
            assert_same(&got, &want);
        }
        hs_token_processor_free(processor);
    }
}

/* ---- UTF-8 ---- */

static size_t from_hex(const char *hex, size_t hex_len, char *out)
{
    for (size_t i = 0; i + 1 < hex_len; i += 2) {
        unsigned byte = 0;
        assert_int_equal(sscanf(hex + i, "%2x", &byte), 1);
        out[i / 2] = (char)byte;
    }
    return hex_len / 2;
}

static void invalid_bytes_are_replaced_as_python_does(void **state)
{
    (void)state;
    FILE *file = fopen(HS_TEST_DATA "/utf8_replace.tsv", "r");
    assert_non_null(file);
    char line[512];
    int n_cases = 0;
    struct hs_token_processor_params params = {0};
    while (fgets(line, sizeof(line), file) != NULL) {
        char bytes[128];
        char decoded[256];
        static struct oracle_text want;
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        size_t len = from_hex(line, (size_t)(tab - line), bytes);
        want.len = 0;
        want.stopped = false;
        size_t n = from_hex(tab + 1, strcspn(tab + 1, "\n"), want.text);
        oracle_append(&want, 'T', want.text, n);
        assert_int_equal(oracle_decode(bytes, len, decoded), n);
        assert_memory_equal(decoded, want.text, n);
        check_all_cuts(&params, bytes, len, &want);
        n_cases++;
    }
    fclose(file);
    assert_true(n_cases > 1000);
}

static void emoji_arrives_with_its_last_byte(void **state)
{
    (void)state;
    struct hs_token_processor_params params = {0};
    hs_token_processor *processor = new_processor(&params);
    static struct oracle_text got;
    got.len = 0;
    const char *emoji = "😀";
    for (int i = 0; i < 3; i++) {
        push(processor, emoji + i, 1, &got);
        assert_int_equal(got.len, 0);
    }
    push(processor, emoji + 3, 1, &got);
    assert_int_equal(got.len, 4);
    assert_memory_equal(got.text, emoji, 4);
    push(processor, NULL, 0, &got); /* a token without text */
    push(processor, "\xF0\x9F", 2, &got);
    assert_int_equal(got.len, 4);
    finish(processor, &got);
    assert_int_equal(got.len, 7);
    assert_memory_equal(got.text + 4, "\xEF\xBF\xBD", 3);
    hs_token_processor_free(processor);
}

static void long_token_of_invalid_bytes_comes_out_whole(void **state)
{
    (void)state;
    static char bytes[5000];
    static struct oracle_text got;
    memset(bytes, 0xFF, sizeof(bytes));
    struct hs_token_processor_params params = {0};
    hs_token_processor *processor = new_processor(&params);
    got.len = 0;
    push(processor, "\xE2\x82", 2, &got);
    push(processor, bytes, sizeof(bytes), &got);
    assert_int_equal(got.len, 3 * (sizeof(bytes) + 1));
    hs_token_processor_free(processor);
}

/* ---- stop strings ---- */

static void stop_strings_end_the_text(void **state)
{
    (void)state;
    const char *const end[] = {"END"};
    struct hs_token_processor_params params = {.stop = end, .n_stop = 1};
    check(&params, "one END two", "", "one ", true);
    check(&params, "END", "", "", true);
    check(&params, "one EN", "", "one EN", false);
    check(&params, "one ENEND", "", "one EN", true);
    check(&params, "EEND", "", "E", true);

    const char *const repeated[] = {"aab"};
    params.stop = repeated;
    check(&params, "aaab", "", "a", true);
    check(&params, "aaaaaac", "", "aaaaaac", false);

    const char *const emoji[] = {"😀!"};
    params.stop = emoji;
    check(&params, "😀😀!x", "", "😀", true);
    check(&params, "😀\xF0\x9F\x98", "", "😀\xEF\xBF\xBD", false);

    const char *const replacement[] = {"\xEF\xBF\xBD"};
    params.stop = replacement;
    check(&params,
          "a\xFF"
          "b",
          "", "a", true);
}

static void overlapping_stop_strings(void **state)
{
    (void)state;
    const char *const prefix[] = {"abcd", "ab"};
    struct hs_token_processor_params params = {.stop = prefix, .n_stop = 2};
    check(&params, "xabcdy", "", "x", true);
    check(&params, "xabz", "", "x", true);
    check(&params, "xaz", "", "xaz", false);

    const char *const inner[] = {"abcd", "bc"};
    params.stop = inner;
    check(&params, "xabcd", "", "x", true);
    check(&params, "xabcz", "", "xa", true); /* the earlier one came to nothing */
    check(&params, "xabc", "", "xa", true);  /* known only when the answer ends */

    const char *const twice[] = {"a", "a"};
    params.stop = twice;
    check(&params, "bab", "", "b", true);
}

static void a_stop_is_known_with_its_last_byte(void **state)
{
    (void)state;
    const char *const stop[] = {"\n\nUser:", "\n\n"};
    struct hs_token_processor_params params = {.stop = stop, .n_stop = 2};
    hs_token_processor *processor = new_processor(&params);
    static struct oracle_text got;
    got.len = 0;
    got.stopped = false;
    push(processor, "hi\n", 3, &got);
    assert_int_equal(got.len, 2);
    assert_false(got.stopped);
    push(processor, "\n", 1, &got);
    assert_true(got.stopped);
    push(processor, "more", 4, &got);
    finish(processor, &got);
    finish(processor, &got);
    assert_int_equal(got.len, 2);
    hs_token_processor_free(processor);
}

/* ---- reasoning ---- */

/* What pushing the text and then finishing says of the string that ended it. */
static int32_t stopped_by(const struct hs_token_processor_params *params, const char *text)
{
    hs_token_processor *processor = new_processor(params);
    struct hs_token_output pushed, finished;
    assert_int_equal(hs_token_processor_push(processor, text, strlen(text), &pushed), HS_OK);
    assert_int_equal(hs_token_processor_finish(processor, &finished), HS_OK);
    assert_true(pushed.stopped_by == 0 || pushed.stopped_by == finished.stopped_by);
    hs_token_processor_free(processor);
    return finished.stopped_by;
}

static void the_stop_that_was_found_is_named(void **state)
{
    (void)state;
    const char *const stop[] = {"abcd", "bc", "b"};
    struct hs_token_processor_params params = {.stop = stop, .n_stop = 3, .own_stop = "zz"};
    assert_int_equal(stopped_by(&params, "x"), 0);
    assert_int_equal(stopped_by(&params, "xabcd bc"), 1);
    assert_int_equal(stopped_by(&params, "xabc"), 2);
    assert_int_equal(stopped_by(&params, "xbd"), 3);
    assert_int_equal(stopped_by(&params, "xzzabcd"), 0); /* the template's is nobody's */
}

static void reasoning_is_split_from_content(void **state)
{
    (void)state;
    const char *const stop[] = {"stop"};
    struct hs_token_processor_params params = {
        .stop = stop, .n_stop = 1, .split_reasoning = true, .reasoning = think};
    check(&params, "<think>\nwhy\n</think>\n\nbecause", "why\n", "because", false);
    check(&params, "<think>\n\n</think>\n\nHello", "\n", "Hello", false);
    check(&params, "<think></think>", "", "", false);
    check(&params, "<think>", "", "", false);
    check(&params, "<thin", "", "<thin", false);
    check(&params, "<think>never ends </thin", "never ends </thin", "", false);
    check(&params, "<think>a stop b</think> a stop b", "a stop b", "a ", true);
    check(&params, "plain <think>x</think>", "", "plain <think>x</think>", false);
    check(&params, "<think>a</think>b<think>c</think>", "a", "b<think>c</think>", false);
    check(&params, "<think><think>a</think>b", "<think>a", "b", false);

    const char *const open[] = {"<", "think"};
    params.stop = open;
    params.n_stop = 2;
    check(&params, "<think>a<b</think>c<d", "a<b", "c", true);
    check(&params, "<thing", "", "", true);

    const char *const newlines[] = {"\n\n"};
    params.stop = newlines;
    params.n_stop = 1;
    check(&params, "<think>a\n\nb</think>\n\nc\n\nd", "a\n\nb", "c", true);
}

static void reasoning_that_the_prompt_began(void **state)
{
    (void)state;
    struct hs_token_processor_params params = {.split_reasoning = true, .reasoning = thinking};
    check(&params, "why</think>\n\nbecause", "why", "because", false);
    check(&params, "\nwhy</think>because", "why", "because", false);
    check(&params, "</think>because", "", "because", false);
    check(&params, "only thoughts", "only thoughts", "", false);

    hs_token_processor *processor = new_processor(&params);
    static struct oracle_text got;
    got.len = 0;
    got.stopped = false;
    push(processor, "x</thin", 7, &got);
    assert_int_equal(got.len, 1);
    push(processor, "k>", 2, &got);
    hs_token_processor_free(processor);
}

static void reasoning_stays_in_the_text_unless_asked_for(void **state)
{
    (void)state;
    struct hs_token_processor_params params = {.reasoning = thinking};
    check(&params, "a</think>b", "", "a</think>b", false);
    params.split_reasoning = true;
    params.reasoning = (struct hs_rt_reasoning){.starts_in_reasoning = true};
    check(&params, "<think>a</think>b", "", "<think>a</think>b", false);
}

/* ---- parameters, limits, memory ---- */

static void expect_new(const struct hs_token_processor_params *params, hs_status want,
                       const char *message_part)
{
    hs_token_processor *processor = NULL;
    struct hs_error err = {0};
    assert_int_equal(hs_token_processor_new(params, &processor, &err), want);
    if (want == HS_OK) {
        hs_token_processor_free(processor);
        return;
    }
    assert_null(processor);
    assert_int_equal(err.status, want);
    assert_non_null(strstr(err.message, message_part));
    assert_int_equal(hs_token_processor_new(params, &processor, NULL), want);
}

static void limits_hold_at_n_and_n_plus_1(void **state)
{
    (void)state;
    static char longest[HS_STOP_MAX_BYTES + 2];
    const char *stop[HS_STOP_MAX + 1];
    struct hs_token_processor_params params = {.stop = stop, .n_stop = HS_STOP_MAX};
    for (int i = 0; i <= HS_STOP_MAX; i++) {
        stop[i] = "x";
    }
    expect_new(&params, HS_OK, "");
    params.own_stop = "y"; /* does not count */
    expect_new(&params, HS_OK, "");
    params.n_stop = HS_STOP_MAX + 1;
    expect_new(&params, HS_LIMIT, "65 stop strings");
    params.own_stop = NULL;

    memset(longest, 'a', HS_STOP_MAX_BYTES);
    stop[0] = longest;
    params.n_stop = 1;
    expect_new(&params, HS_OK, "");
    longest[HS_STOP_MAX_BYTES] = 'a';
    expect_new(&params, HS_LIMIT, "1024 bytes");
}

static void bad_parameters_are_named(void **state)
{
    (void)state;
    const char *stop[] = {"ok", ""};
    struct hs_token_processor_params params = {.stop = stop, .n_stop = 2};
    expect_new(&params, HS_INVALID_ARGUMENT, "stop string 2 is empty");
    stop[1] = NULL;
    expect_new(&params, HS_INVALID_ARGUMENT, "stop string 2 is empty");
    stop[1] = "\xE2\x82";
    expect_new(&params, HS_INVALID_ARGUMENT, "stop string 2 is not valid UTF-8");
    params.n_stop = -1;
    expect_new(&params, HS_INVALID_ARGUMENT, "list");
    params.n_stop = 1;
    params.stop = NULL;
    expect_new(&params, HS_INVALID_ARGUMENT, "list");
    params = (struct hs_token_processor_params){.split_reasoning = true,
                                                .reasoning = {.start_tag = "<think>"}};
    expect_new(&params, HS_INVALID_ARGUMENT, "end tag is empty");
    hs_token_processor_free(NULL);
}

static void nothing_comes_after_the_end(void **state)
{
    (void)state;
    struct hs_token_processor_params params = {0};
    hs_token_processor *processor = new_processor(&params);
    struct hs_token_output output = {.n_pieces = 7};
    static struct oracle_text got;
    finish(processor, &got);
    assert_int_equal(hs_token_processor_push(processor, "a", 1, &output), HS_INVALID_ARGUMENT);
    assert_int_equal(output.n_pieces, 7);
    hs_token_processor_free(processor);
}

/* A push that failed for want of memory is pushed again: nothing is lost, nothing comes twice. */
static void every_allocation_fails_once(void **state)
{
    (void)state;
    const char *const stop[] = {"END"};
    struct hs_token_processor_params params = {
        .stop = stop, .n_stop = 1, .split_reasoning = true, .reasoning = think};
    const char *const tokens[] = {"<think>",  "a long thought that needs room, ",
                                  "\xE2\x82", "\xAC</th",
                                  "ink>",     "some content and EN",
                                  "DING"};
    bool has_failed = true;
    for (uint64_t n = 1; has_failed; n++) {
        static struct oracle_text got;
        hs_token_processor *processor = NULL;
        struct hs_token_output output;
        has_failed = false;
        got.len = 0;
        got.stopped = false;
        hs_mem_fail_after(n);
        hs_status status = hs_token_processor_new(&params, &processor, NULL);
        if (status != HS_OK) {
            assert_int_equal(status, HS_OUT_OF_MEMORY);
            assert_null(processor);
            has_failed = true;
            continue;
        }
        for (int32_t i = 0; i < LEN(tokens); i++) {
            status = hs_token_processor_push(processor, tokens[i], strlen(tokens[i]), &output);
            if (status != HS_OK) {
                assert_int_equal(status, HS_OUT_OF_MEMORY);
                has_failed = true;
                i--;
                continue;
            }
            collect(&got, &output);
        }
        status = hs_token_processor_finish(processor, &output);
        if (status != HS_OK) {
            assert_int_equal(status, HS_OUT_OF_MEMORY);
            has_failed = true;
            assert_int_equal(hs_token_processor_finish(processor, &output), HS_OK);
        }
        collect(&got, &output);
        hs_mem_fail_after(0);
        static const char want[] = "a long thought that needs room, €some content and ";
        assert_int_equal(got.len, strlen(want));
        assert_memory_equal(got.text, want, strlen(want));
        assert_true(got.stopped);
        hs_token_processor_free(processor);
    }
    hs_mem_fail_after(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_answers_come_out_the_same_for_every_cut),
        cmocka_unit_test(text_leaves_as_soon_as_no_continuation_can_change_it),
        cmocka_unit_test(invalid_bytes_are_replaced_as_python_does),
        cmocka_unit_test(emoji_arrives_with_its_last_byte),
        cmocka_unit_test(long_token_of_invalid_bytes_comes_out_whole),
        cmocka_unit_test(stop_strings_end_the_text),
        cmocka_unit_test(overlapping_stop_strings),
        cmocka_unit_test(a_stop_is_known_with_its_last_byte),
        cmocka_unit_test(the_stop_that_was_found_is_named),
        cmocka_unit_test(reasoning_is_split_from_content),
        cmocka_unit_test(reasoning_that_the_prompt_began),
        cmocka_unit_test(reasoning_stays_in_the_text_unless_asked_for),
        cmocka_unit_test(limits_hold_at_n_and_n_plus_1),
        cmocka_unit_test(bad_parameters_are_named),
        cmocka_unit_test(nothing_comes_after_the_end),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
