/*
 * history.h - what was typed, kept in a file.
 *
 * Format:  one message a line, the oldest first; '\' is written "\\" and a line end "\n". Each
 * message is appended by one write, so that several programs can share the file; reading cuts a
 * file of more than twice HS_HISTORY_MAX entries to the newest HS_HISTORY_MAX. Mode 0600. Limits:
 * HS_HISTORY_MAX entries, HS_HISTORY_MAX_BYTES for the file, HS_HISTORY_ENTRY_MAX for one entry
 * (longer ones are not kept). Owner:   entries are freed with hs_history_free. Threads: none.
 */
#ifndef CLI_HISTORY_H
#define CLI_HISTORY_H

#include "hyprstream.h"

#define HS_HISTORY_MAX 1000
#define HS_HISTORY_ENTRY_MAX 65536
#define HS_HISTORY_MAX_BYTES (64u << 20)

/* Entries, the oldest first; none when there is no file. */
HS_CHECKED hs_status hs_history_load(const char *path, char ***ret_entries, size_t *ret_n,
                                     struct hs_error *err);
/* Folders are made as needed. */
HS_CHECKED hs_status hs_history_append(const char *path, const char *entry, struct hs_error *err);
void hs_history_free(char **entries, size_t n);

#endif
