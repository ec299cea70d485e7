#include "guard.h"

#include <ctype.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "sql_error.h"

/* ---- words ---- */

enum word_type { WORD_END, WORD_NAME, WORD_STRING, WORD_OTHER };

struct word {
    enum word_type type;
    const char *text; /* of names without their quotes */
    size_t len;
};

struct reader {
    const char *at, *end;
};

static bool is_name_start(char c)
{
    return isalpha((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_name(char c)
{
    return is_name_start(c) || isdigit((unsigned char)c) || c == '$';
}

/* Blanks of Unicode that DuckDB's parser takes for blanks; 0: none is here. */
static size_t wide_blank_len(const struct reader *in)
{
    static const char two[] = "\xC2\xA0";
    static const char three[][4] = {"\xE2\x80\xAF", "\xE2\x81\x9F", "\xE2\x81\xA0", "\xE3\x80\x80",
                                    "\xEF\xBB\xBF"};
    size_t left = (size_t)(in->end - in->at);
    if (left >= 2 && memcmp(in->at, two, 2) == 0) {
        return 2;
    }
    if (left >= 3 && memcmp(in->at, "\xE2\x80", 2) == 0 && (unsigned char)in->at[2] <= 0x8B) {
        return 3;
    }
    for (size_t i = 0; left >= 3 && i < sizeof three / sizeof three[0]; i++) {
        if (memcmp(in->at, three[i], 3) == 0) {
            return 3;
        }
    }
    return 0;
}

static void skip_comment(struct reader *in)
{
    size_t depth = 0;
    do {
        size_t left = (size_t)(in->end - in->at);
        if (left >= 2 && memcmp(in->at, "/*", 2) == 0) {
            depth++;
            in->at += 2;
        } else if (left >= 2 && memcmp(in->at, "*/", 2) == 0) {
            depth--;
            in->at += 2;
        } else {
            in->at++;
        }
    } while (depth > 0 && in->at < in->end);
}

static void skip_blank(struct reader *in)
{
    while (in->at < in->end) {
        size_t left = (size_t)(in->end - in->at);
        if (isspace((unsigned char)*in->at)) {
            in->at++;
        } else if (left >= 2 && memcmp(in->at, "--", 2) == 0) {
            while (in->at < in->end && *in->at != '\n' && *in->at != '\r') {
                in->at++;
            }
        } else if (left >= 2 && memcmp(in->at, "/*", 2) == 0) {
            skip_comment(in);
        } else if (wide_blank_len(in) > 0) {
            in->at += wide_blank_len(in);
        } else {
            return;
        }
    }
}

/* Behind the closing quote; a doubled one is part of the text, and with escapes one behind a
 * backslash. */
static void skip_quoted(struct reader *in, bool has_escapes)
{
    char quote = *in->at++;
    while (in->at < in->end) {
        char c = *in->at++;
        if (c == '\\' && has_escapes && in->at < in->end) {
            in->at++;
        } else if (c == quote) {
            if (in->at == in->end || *in->at != quote) {
                return;
            }
            in->at++;
        }
    }
}

/* $$text$$ and $tag$text$tag$; false: this dollar begins no string. */
static bool skip_dollars(struct reader *in)
{
    const char *tag_end = in->at + 1;
    while (tag_end < in->end && *tag_end != '$' && is_name(*tag_end)) {
        tag_end++;
    }
    if (tag_end == in->end || *tag_end != '$' || isdigit((unsigned char)in->at[1])) {
        return false;
    }
    size_t tag_len = (size_t)(tag_end - in->at) + 1;
    const char *tag = in->at;
    in->at = tag_end + 1;
    while (in->at < in->end) {
        if ((size_t)(in->end - in->at) >= tag_len && memcmp(in->at, tag, tag_len) == 0) {
            in->at += tag_len;
            return true;
        }
        in->at++;
    }
    return true;
}

static struct word next_word(struct reader *in)
{
    skip_blank(in);
    struct word word = {WORD_END, in->at, 0};
    if (in->at == in->end) {
        return word;
    }
    char c = *in->at;
    bool is_escaped = (c == 'e' || c == 'E') && in->end - in->at > 1 && in->at[1] == '\'';
    if (c == '\'' || is_escaped) {
        in->at += is_escaped;
        skip_quoted(in, is_escaped);
        word.type = WORD_STRING;
    } else if (c == '"') {
        skip_quoted(in, false);
        word.type = WORD_NAME;
        word.text++;
        word.len = (size_t)(in->at - word.text) - (in->at[-1] == '"' && in->at > word.text);
        return word;
    } else if (c == '$' && skip_dollars(in)) {
        word.type = WORD_STRING;
    } else if (is_name_start(c)) {
        while (in->at < in->end && is_name(*in->at) && wide_blank_len(in) == 0) {
            in->at++;
        }
        word.type = WORD_NAME;
    } else {
        in->at++;
        word.type = WORD_OTHER;
    }
    word.len = (size_t)(in->at - word.text);
    return word;
}

static bool is_word(const struct word *word, const char *text)
{
    return word->type == WORD_NAME && strlen(text) == word->len &&
           strncasecmp(word->text, text, word->len) == 0;
}

static bool is_sign(const struct word *word, char sign)
{
    return word->type == WORD_OTHER && *word->text == sign;
}

size_t hs_sql_statement_len(const char *text, size_t len, size_t *ret_next)
{
    struct reader in = {text, text + len};
    size_t n = 0;
    for (;;) {
        struct word word = next_word(&in);
        bool is_end = word.type == WORD_END;
        if (is_end || (is_sign(&word, ';') && n > 0)) {
            *ret_next = (size_t)(in.at - text);
            return n;
        }
        if (!is_sign(&word, ';')) {
            n = (size_t)(in.at - text);
        }
    }
}

bool hs_sql_is_complete(const char *text, size_t len)
{
    struct reader in = {text, text + len};
    struct word last = {.type = WORD_END};
    for (struct word word = next_word(&in); word.type != WORD_END; word = next_word(&in)) {
        last = word;
    }
    return last.type == WORD_END || is_sign(&last, ';');
}

/* ---- functions ---- */

/* Functions of DuckDB's that give a table, or act as they do, and only read what may be read. Any
 * other is refused, so that a new one of a new version is until it has been looked at. */
static const char safe_functions[] =
    " duckdb_approx_database_count duckdb_columns duckdb_connection_count duckdb_constraints"
    " duckdb_coordinate_systems duckdb_databases duckdb_dependencies duckdb_extensions"
    " duckdb_external_file_cache duckdb_functions duckdb_indexes duckdb_keywords duckdb_memory"
    " duckdb_optimizers duckdb_prepared_statements duckdb_schemas duckdb_secret_types"
    " duckdb_sequences duckdb_settings duckdb_table_sample duckdb_tables duckdb_temporary_files"
    " duckdb_types duckdb_variables duckdb_views generate_series glob icu_calendar_names json_each"
    " json_tree parquet_bloom_probe parquet_file_metadata parquet_full_metadata"
    " parquet_kv_metadata parquet_metadata parquet_scan parquet_schema pg_timezone_names"
    " pragma_collations pragma_database_size pragma_metadata_info pragma_platform pragma_show"
    " pragma_storage_info pragma_table_info pragma_version query_table range read_blob read_csv"
    " read_csv_auto read_json read_json_auto read_json_objects read_json_objects_auto read_ndjson"
    " read_ndjson_auto read_ndjson_objects read_parquet read_text repeat repeat_row sniff_csv"
    " summary test_all_types unnest ";

static bool has_name(const char *names, const char *name, size_t len)
{
    char wanted[80];
    if (len + 3 > sizeof wanted) {
        return false;
    }
    wanted[0] = ' ';
    for (size_t i = 0; i < len; i++) {
        wanted[i + 1] = (char)tolower((unsigned char)name[i]);
    }
    memcpy(wanted + len + 1, " ", 2);
    return strstr(names, wanted) != NULL;
}

hs_status hs_sql_refused_list(duckdb_connection connection, char **ret_names, struct hs_error *err)
{
    duckdb_result result;
    struct hs_buf names = HS_BUF_INIT(64 << 10);
    hs_status status = HS_OK;
    if (duckdb_query(connection,
                     "SELECT DISTINCT function_name FROM duckdb_functions()"
                     " WHERE function_type = 'table' AND internal",
                     &result) != DuckDBSuccess) {
        status = hs_sql_error(NULL, duckdb_result_error(&result), err);
    }
    for (idx_t row = 0; !status && row < duckdb_row_count(&result); row++) {
        char *name = duckdb_value_varchar(&result, 0, row);
        if (name == NULL) {
            status = hs_error_nomem(err, "names of functions");
        } else if (!has_name(safe_functions, name, strlen(name))) {
            status = hs_buf_printf(&names, " %s ", name);
        }
        duckdb_free(name);
    }
    duckdb_destroy_result(&result);
    size_t len;
    if (!status && hs_buf_take(&names, ret_names, &len) != HS_OK) {
        status = hs_error_nomem(err, "names of functions");
    }
    hs_buf_free(&names);
    return status;
}

static hs_status refuse(struct hs_error *err, const char *what, const char *hint)
{
    hs_error_set(err, HS_PERMISSION_DENIED, "%s is refused", what);
    hs_error_hint(err, "%s", hint);
    return HS_PERMISSION_DENIED;
}

static hs_status guard_functions(const hs_sql *sql, const char *text, struct hs_error *err)
{
    struct reader in = {text, text + strlen(text)};
    struct word name = next_word(&in);
    while (name.type != WORD_END) {
        struct word next = next_word(&in);
        if (name.type == WORD_NAME && is_sign(&next, '(') &&
            has_name(sql->refused, name.text, name.len)) {
            hs_error_set(err, HS_PERMISSION_DENIED, "the function %.*s is refused", (int)name.len,
                         name.text);
            hs_error_hint(err, "it acts on the whole process, or could hide what it does");
            return HS_PERMISSION_DENIED;
        }
        name = next;
    }
    return HS_OK;
}

/* ---- statements ---- */

/* Known by their first word: DuckDB may act on some of them when it prepares them already. */
static const struct {
    const char *word, *hint;
} refused_words[] = {
    {"attach", "tables live in the one database of this program"},
    {"detach", "tables live in the one database of this program"},
    {"copy", "read files with read_csv, read_parquet or read_json; no file is written"},
    {"export", "no file is written"},
    {"import", "read files with read_csv, read_parquet or read_json"},
    {"pragma", "settings are those of the program; SHOW and DESCRIBE tell what is there"},
    {"call", "functions that only read go into FROM"},
    {"install", "there are no extensions"},
    {"load", "there are no extensions"},
    {"force", "the program writes its tables down itself"},
    {"checkpoint", "the program writes its tables down itself"},
};

static const duckdb_statement_type allowed_types[] = {
    DUCKDB_STATEMENT_TYPE_SELECT,      DUCKDB_STATEMENT_TYPE_INSERT,
    DUCKDB_STATEMENT_TYPE_UPDATE,      DUCKDB_STATEMENT_TYPE_DELETE,
    DUCKDB_STATEMENT_TYPE_MERGE_INTO,  DUCKDB_STATEMENT_TYPE_EXPLAIN,
    DUCKDB_STATEMENT_TYPE_PREPARE,     DUCKDB_STATEMENT_TYPE_EXECUTE,
    DUCKDB_STATEMENT_TYPE_CREATE,      DUCKDB_STATEMENT_TYPE_CREATE_FUNC,
    DUCKDB_STATEMENT_TYPE_ALTER,       DUCKDB_STATEMENT_TYPE_DROP,
    DUCKDB_STATEMENT_TYPE_TRANSACTION, DUCKDB_STATEMENT_TYPE_ANALYZE,
    DUCKDB_STATEMENT_TYPE_VACUUM,
};

/* USE, and SET or RESET of a variable or of where names are looked for. */
static hs_status guard_set(const char *text, struct hs_error *err)
{
    struct reader in = {text, text + strlen(text)};
    struct word word = next_word(&in);
    if (is_word(&word, "use")) {
        return HS_OK;
    }
    word = next_word(&in);
    if (is_word(&word, "session") || is_word(&word, "global")) {
        word = next_word(&in);
    }
    if (is_word(&word, "variable") || is_word(&word, "schema") || is_word(&word, "search_path")) {
        return HS_OK;
    }
    return refuse(err, "SET of settings", "limits and settings are those of the program");
}

hs_status hs_sql_guard_type(duckdb_statement_type type, const char *text, struct hs_error *err)
{
    for (size_t i = 0; i < sizeof allowed_types / sizeof allowed_types[0]; i++) {
        if (allowed_types[i] == type) {
            return HS_OK;
        }
    }
    if (type == DUCKDB_STATEMENT_TYPE_SET || type == DUCKDB_STATEMENT_TYPE_VARIABLE_SET) {
        return guard_set(text, err);
    }
    return refuse(err, "this kind of statement", "docs/sql.md lists those that are allowed");
}

/* Behind the parenthesis that was just read. */
static void skip_parentheses(struct reader *in)
{
    struct word word;
    for (size_t depth = 1; depth > 0;) {
        word = next_word(in);
        if (word.type == WORD_END) {
            return;
        }
        depth += is_sign(&word, '(');
        depth -= is_sign(&word, ')');
    }
}

const char *hs_sql_inner_statement(const char *text)
{
    struct reader in = {text, text + strlen(text)};
    struct word word = next_word(&in);
    if (is_word(&word, "prepare")) {
        next_word(&in); /* its name */
        word = next_word(&in);
        if (is_sign(&word, '(')) {
            skip_parentheses(&in);
            word = next_word(&in);
        }
        return is_word(&word, "as") ? in.at : NULL;
    }
    if (!is_word(&word, "explain")) {
        return NULL;
    }
    const char *inner = in.at;
    word = next_word(&in);
    if (is_word(&word, "analyze") || is_word(&word, "analyse")) {
        inner = in.at;
        word = next_word(&in);
    }
    if (is_word(&word, "verbose")) {
        inner = in.at;
        word = next_word(&in);
    }
    if (is_sign(&word, '(')) { /* options, or a query */
        word = next_word(&in);
        if (!is_word(&word, "select") && !is_word(&word, "from") && !is_word(&word, "with") &&
            !is_word(&word, "values") && !is_sign(&word, '(')) {
            skip_parentheses(&in);
            inner = in.at;
        }
    }
    return inner;
}

bool hs_sql_begins_with(const char *text, const char *word)
{
    struct reader in = {text, text + strlen(text)};
    struct word first = next_word(&in);
    return is_word(&first, word);
}

/* Any word "temp" counts in CREATE: it may stand in front of the kind, or of a name. */
static bool is_trace(const char *text, size_t len)
{
    static const char *const firsts[] = {"use", "set", "reset", "begin", "start", "prepare"};
    struct reader in = {text, text + len};
    struct word word = next_word(&in);
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        if (is_word(&word, firsts[i])) {
            return true;
        }
    }
    if (!is_word(&word, "create")) {
        return false;
    }
    while (word.type != WORD_END && !is_word(&word, "temp") && !is_word(&word, "temporary")) {
        word = next_word(&in);
    }
    return word.type != WORD_END;
}

bool hs_sql_leaves_traces(const char *text)
{
    size_t left = strlen(text), next = 0, len;
    bool is_found = false;
    while (!is_found && (len = hs_sql_statement_len(text, left, &next)) > 0) {
        HS_CLEANUP(hs_freep) char *part = hs_strndup(text, len);
        const char *inner = part != NULL ? hs_sql_inner_statement(part) : NULL;
        is_found = part == NULL || is_trace(part, len) ||
                   (inner != NULL && is_trace(inner, strlen(inner)));
        text += next;
        left -= next;
    }
    return is_found;
}

hs_status hs_sql_guard_text(const hs_sql *sql, const char *text, struct hs_error *err)
{
    hs_status status = guard_functions(sql, text, err);
    for (const char *part = text; !status && part != NULL; part = hs_sql_inner_statement(part)) {
        struct reader in = {part, part + strlen(part)};
        struct word word = next_word(&in);
        for (size_t i = 0; i < sizeof refused_words / sizeof refused_words[0] && !status; i++) {
            if (is_word(&word, refused_words[i].word)) {
                status = hs_error_set(err, HS_PERMISSION_DENIED, "%.*s is refused", (int)word.len,
                                      word.text);
                hs_error_hint(err, "%s", refused_words[i].hint);
            }
        }
    }
    return status;
}
