/*
 * gbnf_union.h - one grammar for what either of two grammars describes.
 *
 * Both have a rule "root", and each rule on a line of its own, as llama-common writes them. Rules
 * of the second that have a name of the first are renamed, but for those that are the same and name
 * no others: these are shared.
 *
 * Errors:  HS_INVALID_ARGUMENT (a line that is no rule, a new name that is taken), HS_LIMIT,
 *          HS_OUT_OF_MEMORY.
 * Threads: no state.
 */
#ifndef RUNTIME_GBNF_UNION_H
#define RUNTIME_GBNF_UNION_H

#include "base/buf.h"

/* Appended to out. */
HS_CHECKED hs_status hs_gbnf_union(const char *first, const char *second, struct hs_buf *out,
                                   struct hs_error *err);

#endif
