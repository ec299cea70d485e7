/* sql_complete.c - the words for the Tab key in `hyprstream sql`: asked of the database itself. */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "sql_shell.h"

#define ANSWER_MAX (1u << 20)
#define WORD_MAX 128

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || (unsigned char)c >= 0x80;
}

static hs_status offer(struct hs_buf *words, const char *word, const char *typed, size_t len)
{
    return strncmp(word, typed, len) == 0 ? hs_buf_append(words, word, strlen(word) + 1) : HS_OK;
}

static hs_status offer_commands(const char *typed, size_t len, struct hs_buf *words)
{
    size_t n = 0;
    const struct hs_sql_command *commands = hs_sql_commands(&n);
    hs_status status = HS_OK;
    for (size_t i = 0; i < n && !status; i++) {
        status = offer(words, commands[i].name, typed, len);
    }
    return status;
}

static hs_status offer_formats(const char *typed, size_t len, struct hs_buf *words)
{
    const char *const *names = hs_sql_format_names();
    hs_status status = HS_OK;
    for (size_t i = 0; names[i] != NULL && !status; i++) {
        status = offer(words, names[i], typed, len);
    }
    return status;
}

static hs_status keep(void *self, const char *text, size_t len, struct hs_error *err)
{
    (void)err;
    return hs_buf_append(self, text, len);
}

/* What was typed stays as it is: words go on in its case where they are SQL's own. Lines of CSV:
 * none of the words has to be quoted there. */
static const char query[] =
    "SELECT DISTINCT '%s' || substr(word, %zu) AS w FROM ("
    "SELECT CASE WHEN '%s' = upper('%s') THEN upper(keyword_name) ELSE keyword_name END AS word "
    "FROM duckdb_keywords() UNION ALL SELECT function_name FROM duckdb_functions() UNION ALL "
    "SELECT CASE WHEN table_schema = 'main' THEN '' ELSE table_schema || '.' END || table_name "
    "FROM information_schema.tables UNION ALL "
    "SELECT column_name FROM information_schema.columns) "
    "WHERE starts_with(lower(word), lower('%s')) AND regexp_full_match(word, '[\\w.]+') "
    "ORDER BY w LIMIT 200";

static hs_status offer_names(struct hs_sql_shell *shell, const char *typed, size_t len,
                             struct hs_buf *words)
{
    struct hs_buf answer HS_CLEANUP(hs_buf_free) = HS_BUF_INIT(ANSWER_MAX);
    const struct hs_command_io out = {.self = &answer, .out = keep};
    char word[WORD_MAX];
    int64_t n;
    if (len >= sizeof word) {
        return HS_OK;
    }
    memcpy(word, typed, len);
    word[len] = '\0';
    HS_CLEANUP(hs_freep)
    char *text = hs_asprintf(query, word, len + 1, word, word, word);
    if (text == NULL) {
        return HS_OUT_OF_MEMORY;
    }
    hs_status status =
        hs_sql_runner_run(shell->runner, &out, text, strlen(text), HS_SQL_FORMAT_CSV, &n, NULL);
    const char *line = status || answer.len == 0 ? NULL : strstr(answer.data, "\r\n");
    while (line != NULL && line[2] != '\0' && !status) {
        const char *start = line + 2;
        line = strstr(start, "\r\n");
        size_t n_word = line != NULL ? (size_t)(line - start) : strlen(start);
        status = hs_buf_append(words, start, n_word);
        status = status ? status : hs_buf_append(words, "", 1);
    }
    return status;
}

hs_status hs_sql_shell_complete(const char *line, size_t len, size_t *ret_start,
                                struct hs_buf *words, void *user)
{
    size_t start = len;
    while (start > 0 && is_word(line[start - 1])) {
        start--;
    }
    const char *typed = line + start;
    size_t n_typed = len - start;
    bool is_mode = start == strlen(".mode ") && strncmp(line, ".mode ", start) == 0;
    if (n_typed == 0 && !is_mode) {
        return HS_OK;
    }
    *ret_start = start;
    if (is_mode) {
        return offer_formats(typed, n_typed, words);
    }
    return start == 0 && *typed == '.' ? offer_commands(typed, n_typed, words)
                                       : offer_names(user, typed, n_typed, words);
}
