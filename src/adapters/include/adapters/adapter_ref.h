/*
 * adapter_ref.h - how an adapter is named: "NAME[:SCALE]" as users write it, and the canonical key
 * of a set of adapters.
 *
 * The key is part of the context cache's key: KV computed under one set of adapters must never be
 * used under another. Two sets have the same key exactly when they change the weights alike: order
 * does not matter, an adapter of scale 0 counts as absent, scales are compared bit by bit.
 *
 * Names:   [A-Za-z0-9._-]{1,64}, not beginning with '.' (they become file names), as are versions.
 * Owner:   what is returned is the caller's; see each function.
 * Errors:  HS_INVALID_ARGUMENT (what is wrong with which name, scale or version, or a name given
 * twice), HS_LIMIT, HS_OUT_OF_MEMORY.
 * Threads: no state.
 */
#ifndef ADAPTERS_ADAPTER_REF_H
#define ADAPTERS_ADAPTER_REF_H

#include "hyprstream.h"

#define HS_ADAPTER_NAME_MAX 64u
#define HS_ADAPTER_SET_MAX 64u

bool hs_adapter_name_ok(const char *name);
/* The same with what a name may be as the error; what: "name", "version". */
HS_CHECKED hs_status hs_adapter_name_check(const char *what, const char *name,
                                           struct hs_error *err);

/*
 * "french", "french:0.5", "french:-1e-2". The scale is 1 when it is not given; a decimal number
 * that is finite as a float, written with '.' whatever the locale.
 * Out:     ret_ref, whose name is to be freed by hs_adapter_ref_clear.
 */
HS_CHECKED hs_status hs_adapter_ref_parse(const char *text, struct hs_adapter_ref *ret_ref,
                                          struct hs_error *err);
void hs_adapter_ref_clear(struct hs_adapter_ref *ref);

/*
 * The canonical key of refs[n]: "" without adapters, else "name@version*scale" joined by '+',
 * sorted by name, the scale as the 8 hex digits of its bits.
 * In:      versions[n], each naming the content of its adapter; NULL, or NULL for one: not known.
 * Out:     ret_key, to be freed with hs_free.
 */
HS_CHECKED hs_status hs_adapter_set_key(const struct hs_adapter_ref *refs,
                                        const char *const *versions, size_t n, char **ret_key,
                                        struct hs_error *err);

#endif
