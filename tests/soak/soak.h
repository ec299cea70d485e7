/*
 * soak.h - what the threads of the soak test do. Every action is one use of the engine, checked
 * against the formula of the tiny model (tests/support/tiny_gguf.h, HISTORY: the next token depends
 * on every token of the context, so a token that is lost, doubled or another's changes the answer).
 */
#ifndef SOAK_H
#define SOAK_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "hyprstream.h"

#define SOAK_MODEL "soak"
#define SOAK_PARK_BUDGET (1u << 20)
#define SOAK_ADAPTER_BUDGET (24u << 10) /* a few of them */
#define SOAK_PROMPT_MAX 220
#define SOAK_ANSWER_MAX 60
#define SOAK_N_CTX 1024 /* cells for all, so that requests get in each other's way */

struct soak_thread {
    hs_engine *engine;
    int number;
    uint64_t rng;
    double until_ms;
    uint64_t n_done;
};

typedef void (*soak_action_fn)(struct soak_thread *thread);

void soak_complete(struct soak_thread *thread);     /* read to the end, fast or slowly */
void soak_stop_string(struct soak_thread *thread);  /* a stop string somewhere in the answer */
void soak_cancel(struct soak_thread *thread);       /* cancelled by another thread */
void soak_leave(struct soak_thread *thread);        /* freed without reading to the end */
void soak_deadline(struct soak_thread *thread);     /* a deadline that may be missed */
void soak_conversation(struct soak_thread *thread); /* several turns, named ones resumed */
void soak_tokenize(struct soak_thread *thread);
void soak_reload(struct soak_thread *thread);       /* a second model comes and goes */
void soak_bad_requests(struct soak_thread *thread); /* refused, without harm to others */
void soak_adapters(struct soak_thread *thread);     /* a request with some adapters */
void soak_replace(struct soak_thread *thread);      /* an adapter gets another version */
void soak_unload(struct soak_thread *thread);       /* an adapter leaves the memory */
void soak_come_and_go(struct soak_thread *thread);  /* registered, used, gone while it is used */

/* A prompt of one <s> and random printable tokens; some begin as others do. Returns their number.
 */
size_t soak_prompt(struct soak_thread *thread, int32_t *tokens);
/* Append what the formula says to tokens[n] as text, adapters' shifts included; returns its length.
 * ends, where each token's text ends, may be NULL. */
size_t soak_expect(int32_t shift, int32_t *tokens, size_t n, int32_t n_more, char *text,
                   size_t *ends);
/* The files of adapters, and those that are always registered. */
bool soak_make_adapters(hs_engine *engine, const char *folder);
void soak_remove_adapters(void);
bool soak_make_model(const char *folder); /* the file that soak_load loads */
void soak_remove_model(void);
hs_status soak_load(hs_engine *engine, const char *id, struct hs_error *err);

/* 0..n-1 */
uint32_t soak_random(struct soak_thread *thread, uint32_t n);

void soak_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define SOAK_CHECK(condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            soak_fail(__FILE__, __LINE__, __VA_ARGS__);                                            \
        }                                                                                          \
    } while (0)
#define SOAK_OK(call)                                                                              \
    do {                                                                                           \
        hs_status soak_status = (call);                                                            \
        SOAK_CHECK(soak_status == HS_OK, "%s: %s", #call, hs_status_name(soak_status));            \
    } while (0)

#endif
