/*
 * session_store.h - named sessions on disk: one folder each, the text in session.json, the KV state
 * in kv.bin.
 *
 * session.json is replaced atomically after every turn, kv.bin likewise and never before the text;
 * both carry what they belong to, so a kv.bin that does not fit its text (a crash between the two)
 * is ignored. kill -9 at any moment loses at most the turn in progress. A process that opens a
 * session holds a lock on it (flock on the folder's `lock`); a second one gets HS_BUSY.
 *
 * A session.json that cannot be read (HS_CORRUPT), or is of a newer version, is never replaced:
 * saving over it fails as reading it does. Only hs_session_store_remove removes it.
 *
 * Formats: docs/formats.md, "Session files". kv.bin: magic "HSKV", version, lengths, fingerprint,
 *          cache key, tokens, state, checkpoints, and a check value (Poly1305 under a fixed key,
 * which is many times faster than SHA-256) that finds torn and rotten files, so that kv.bin needs
 * no fsync. Limits:  HS_SESSION_MAX_JSON bytes of text, names [A-Za-z0-9._-]{1,64} that do not
 * begin with
 *          '.'; texts must be valid UTF-8 (HS_INVALID_ARGUMENT on saving).
 * Errors:  HS_NOT_FOUND, HS_BUSY (which process), HS_CORRUPT (which file, what),
 *          HS_UNSUPPORTED_VERSION, HS_INVALID_ARGUMENT, HS_LIMIT, HS_IO, HS_PERMISSION_DENIED.
 * Threads: one hs_session_file by one thread at a time; the hs_session_store_* functions by any.
 */
#ifndef STORAGE_SESSION_STORE_H
#define STORAGE_SESSION_STORE_H

#include <stdbool.h>

#include "hyprstream.h"

#define HS_SESSION_MAX_JSON (256u << 20)
#define HS_SESSION_NAME_MAX 64u

typedef struct hs_session_file hs_session_file;

/* The text part. Strings, also the const ones, are owned by the struct; hs_session_record_free
 * releases them. */
struct hs_session_record {
    char *model_name;
    char *fingerprint;
    struct hs_adapter_ref *adapters;
    size_t n_adapters;
    bool is_routed; /* each turn chooses its adapters; those here are the last turn's */
    struct hs_message *messages;
    size_t n_messages;
    enum hs_overflow overflow;
    int64_t created_unix_ms;
    int64_t updated_unix_ms;
    struct hs_generate_params *params; /* saved settings, NULL: none; what belongs to one request
                                          (deadline, logprobs, stream capacity) comes back as 0 */
};

#define HS_SESSION_KV_CHECKPOINTS_MAX 8

/* The KV part. */
struct hs_session_kv {
    char fingerprint[65];
    char cache_key[129]; /* model, adapters, versions and scales, KV type, library version: all must
                            match */
    int32_t *tokens;     /* [n_tokens], whose KV this is */
    size_t n_tokens;
    uint8_t *state;
    size_t state_len;
    /* What a state that cannot be cut can be set back to: the part of it after the first n_tokens
     * tokens. In ascending order, all of 1..n_tokens. */
    struct hs_session_kv_checkpoint {
        size_t n_tokens;
        uint8_t *state;
        size_t state_len; /* > 0 */
    } checkpoints[HS_SESSION_KV_CHECKPOINTS_MAX];
    size_t n_checkpoints;
};

bool hs_session_name_ok(const char *name);
/* The same with what a name may be as the error (HS_INVALID_ARGUMENT). */
HS_CHECKED hs_status hs_session_name_check(const char *name, struct hs_error *err);

/* Open for reading and writing, taking the lock; `create`: make it when it is not there. A session
 * that is closed without ever being saved leaves nothing behind. */
HS_CHECKED hs_status hs_session_file_open(const char *sessions_dir, const char *name, bool create,
                                          hs_session_file **ret_file, struct hs_error *err);
void hs_session_file_close(hs_session_file *file);

/* HS_NOT_FOUND: nothing was saved yet. */
HS_CHECKED hs_status hs_session_file_load(hs_session_file *file,
                                          struct hs_session_record *ret_record,
                                          struct hs_error *err);
HS_CHECKED hs_status hs_session_file_save(hs_session_file *file,
                                          const struct hs_session_record *record,
                                          struct hs_error *err);
HS_CHECKED hs_status hs_session_file_load_kv(hs_session_file *file, struct hs_session_kv *ret_kv,
                                             struct hs_error *err);
HS_CHECKED hs_status hs_session_file_save_kv(hs_session_file *file, const struct hs_session_kv *kv,
                                             struct hs_error *err);
HS_CHECKED hs_status hs_session_file_drop_kv(hs_session_file *file, struct hs_error *err);

/* Names of the saved sessions in the folder, sorted; a folder that is not there has none. The names
 * and the array are freed by hs_session_names_free. */
HS_CHECKED hs_status hs_session_store_list(const char *sessions_dir, char ***ret_names,
                                           size_t *ret_n, struct hs_error *err);
void hs_session_names_free(char **names, size_t n);
/* Read the text without the lock (a consistent version, thanks to the atomic replacement).
 * ret_size_bytes: of text and KV on disk, may be NULL. */
HS_CHECKED hs_status hs_session_store_read(const char *sessions_dir, const char *name,
                                           struct hs_session_record *ret_record,
                                           uint64_t *ret_size_bytes, struct hs_error *err);
/* HS_BUSY while another process has it open. */
HS_CHECKED hs_status hs_session_store_remove(const char *sessions_dir, const char *name,
                                             struct hs_error *err);

/*
 * A copy of what hs_session_record.params keeps, freed by hs_session_params_free.
 * Errors: HS_INVALID_ARGUMENT (a number that is not finite, a text that is not UTF-8: they cannot
 * be saved), HS_OUT_OF_MEMORY.
 */
HS_CHECKED hs_status hs_session_params_copy(const struct hs_generate_params *params,
                                            struct hs_generate_params **ret_copy,
                                            struct hs_error *err);
void hs_session_params_free(struct hs_generate_params *params);
void hs_session_record_free(struct hs_session_record *record);
void hs_session_kv_free(struct hs_session_kv *kv);

#endif
