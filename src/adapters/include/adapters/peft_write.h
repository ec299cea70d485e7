/*
 * peft_write.h - writes an adapter as PEFT does: a folder with adapter_model.safetensors and
 * adapter_config.json.
 *
 * Modules have the names of the Hugging Face checkpoint, and their rows the order there, so that
 * the folder works with PEFT and with every reader of its files. f32, f16 and bf16 stay as they
 * are, int8 becomes f32; scales stay exact (rank_pattern and alpha_pattern).
 *
 * Errors:  HS_NOT_SUPPORTED (sparse deltas, a base whose names are not known), HS_MISMATCH (a
 *          tensor without a module), HS_OUT_OF_MEMORY, those of writing files.
 * Threads: no state.
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
                                   const hs_lora_base *base, const char *base_model,
                                   struct hs_error *err);

#endif
