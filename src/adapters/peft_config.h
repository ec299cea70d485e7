/*
 * peft_config.h - PEFT's adapter_config.json: which modules have weights, and with which rank and
 * scale.
 *
 * Errors:  HS_BAD_FORMAT (no JSON, no peft_type, a value of another kind), HS_NOT_SUPPORTED (what
 *          it uses that cannot be computed here; all of it in one message), HS_LIMIT (patterns too
 *          many or too slow), HS_OUT_OF_MEMORY. Keys that say nothing about inference are ignored.
 * Threads: read-only once parsed.
 * Source:  PEFT 0.21: tuners/lora/config.py, check_target_module_exists, get_pattern_key. Patterns
 *          are Python's regular expressions; PCRE2 reads them.
 */
#ifndef PEFT_CONFIG_H
#define PEFT_CONFIG_H

#include "hyprstream.h"

#define HS_PEFT_PATTERNS_MAX 4096u /* of rank_pattern, of alpha_pattern, of layers_pattern */

typedef struct hs_peft_config hs_peft_config;

HS_CHECKED hs_status hs_peft_config_parse(const char *text, size_t len, hs_peft_config **ret_config,
                                          struct hs_error *err);
void hs_peft_config_free(hs_peft_config *config);

const char *
hs_peft_config_base(const hs_peft_config *config);        /* its name or path; NULL: not said */
float hs_peft_config_alpha(const hs_peft_config *config); /* without a pattern */

/* Whether the configuration names `module` ("model.layers.0.self_attn.q_proj").
 * Errors: HS_LIMIT (steps of a pattern), HS_BAD_FORMAT (it finds a layer without its number). */
HS_CHECKED hs_status hs_peft_config_has(const hs_peft_config *config, const char *module,
                                        bool *ret_has, struct hs_error *err);
/* Rank and scale (alpha / rank, or alpha / sqrt(rank)) of a module. */
HS_CHECKED hs_status hs_peft_config_scale(const hs_peft_config *config, const char *module,
                                          int32_t *ret_rank, float *ret_scale,
                                          struct hs_error *err);

#endif
