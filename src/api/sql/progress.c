/* progress.c - the statements that run now, and how far they are. */
#include <string.h>

#include "base/clock.h"
#include "statement.h"

#define SHOWN_MAX 60 /* characters */

/* A run of blanks, line ends and control characters is one blank. */
void hs_sql_shorten(const char *text, char ret_shown[HS_SQL_SHOWN_SIZE])
{
    size_t n = 0, n_characters = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        bool is_blank = *c <= ' ' || *c == 0x7F, is_inside = (*c & 0xC0) == 0x80;
        if (is_blank && (n == 0 || ret_shown[n - 1] == ' ')) {
            continue;
        }
        n_characters += !is_inside;
        if (n_characters > SHOWN_MAX || n + 1 == HS_SQL_SHOWN_SIZE) {
            break;
        }
        ret_shown[n++] = is_blank ? ' ' : (char)*c;
    }
    ret_shown[n] = '\0';
}

void hs_sql_conn_show(hs_sql_conn *conn, const char *shown)
{
    pthread_mutex_lock(&conn->mutex);
    memcpy(conn->shown, shown, sizeof conn->shown);
    conn->begun_ms = hs_clock_ms();
    conn->n_asked = conn->n_answered = 0;
    pthread_mutex_unlock(&conn->mutex);
}

void hs_sql_conn_progress(hs_sql_conn *conn, size_t n_asked, size_t n_answered)
{
    pthread_mutex_lock(&conn->mutex);
    conn->n_asked += n_asked;
    conn->n_answered += n_answered;
    pthread_mutex_unlock(&conn->mutex);
}

size_t hs_sql_list(hs_sql *sql, struct hs_sql_running *ret_items, size_t max)
{
    size_t n = 0;
    double now_ms = hs_clock_ms();
    pthread_mutex_lock(&sql->mutex);
    for (hs_sql_conn *conn = sql->conns; conn != NULL && n < max; conn = conn->next) {
        struct hs_sql_running *item = &ret_items[n];
        pthread_mutex_lock(&conn->mutex);
        if (conn->is_running && conn->shown[0] != '\0') {
            strncpy(item->user, conn->user, sizeof item->user - 1);
            item->user[sizeof item->user - 1] = '\0';
            memcpy(item->text, conn->shown, sizeof item->text);
            item->ms = now_ms - conn->begun_ms;
            item->n_asked = conn->n_asked;
            item->n_answered = conn->n_answered;
            n++;
        }
        pthread_mutex_unlock(&conn->mutex);
    }
    pthread_mutex_unlock(&sql->mutex);
    return n;
}
