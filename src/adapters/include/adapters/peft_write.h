/*
 * peft_write.h - writes an adapter as PEFT does: a folder with adapter_model.safetensors and
 * adapter_config.json.
 *
 * Modules have the names of the Hugging Face checkpoint, and their rows the order there, so that
 * the folder works with PEFT and with every reader of its files. f16 and bf16 stay as they are, f32
 * does unless f16 is asked for, int8 becomes one of them; scales stay exact (rank_pattern and
 * alpha_pattern).
 *
 * Errors:  HS_NOT_SUPPORTED (sparse deltas, a base whose names are not known), HS_MISMATCH (a
 *          tensor without a module), HS_LIMIT (a value that f16 cannot hold), HS_OUT_OF_MEMORY,
 * those of writing files. Threads: no state.
 */
#ifndef ADAPTERS_PEFT_WRITE_H
#define ADAPTERS_PEFT_WRITE_H

#include "adapters/lora_base.h"
#include "base/lora.h"

/*
 * The folder is made when it is not there; each file is replaced at once, the weights first.
 * In:     base_model: the base's name for the configuration; NULL: none.
 */
HS_CHECKED hs_status hs_peft_write(const char *folder, const struct hs_lora *lora,
                                   const hs_lora_base *base, const char *base_model, bool is_f16,
                                   struct hs_error *err);

#endif
