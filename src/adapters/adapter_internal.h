/*
 * adapter_internal.h - what the readers of adapter files share: a loaded adapter and its memory,
 * and the list of what does not fit.
 *
 * adapter_file.c finds and reads the files, peft_config.c and peft_weights.c understand PEFT's,
 * gguf_lora.c llama.cpp's, lora_check.c judges what came out.
 */
#ifndef ADAPTER_INTERNAL_H
#define ADAPTER_INTERNAL_H

#include "adapters/adapter_file.h"
#include "base/buf.h"

/* What does not fit, for one message; the status is that of the first. */
struct hs_lora_faults {
    hs_status status;
    size_t n, len;
    char text[320];
};
void hs_lora_fault(struct hs_lora_faults *faults, hs_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* HS_OK when there are none. */
HS_CHECKED hs_status hs_lora_faults_end(const struct hs_lora_faults *faults, struct hs_error *err);

/* Faults of the weights by themselves, and against a base (NULL: none known). */
void hs_lora_check_into(const struct hs_lora *lora, const hs_lora_base *base,
                        struct hs_lora_faults *faults);

struct hs_adapter_loaded {
    struct hs_adapter_file file; /* first, for hs_adapter_file_free */
    uint8_t *bytes;              /* the file with the weights */
    size_t len;
    struct hs_lora_target *targets;
    size_t n_targets;
    void **blocks; /* memory of matrices that could not be used where they lie */
    size_t n_blocks;
    bool is_weights_only; /* nobody asks for hashes and training */
};

/* Memory that lives as long as the adapter; NULL: out of memory. */
void *hs_adapter_block(struct hs_adapter_loaded *adapter, size_t bytes);
/* Room for n targets. */
HS_CHECKED hs_status hs_adapter_targets(struct hs_adapter_loaded *adapter, size_t n,
                                        struct hs_error *err);
/* A view of data, or of a copy where it is not aligned; false: out of memory. */
bool hs_adapter_matrix(struct hs_adapter_loaded *adapter, enum hs_lora_type type, int64_t n_rows,
                       int64_t n_cols, const uint8_t *data, struct hs_lora_matrix *ret_matrix);

/* Put targets in order, and what they say about the adapter as a whole, into adapter->file; faults:
 * tensors that occur twice, and all that hs_lora_check_into finds. */
HS_CHECKED hs_status hs_adapter_finish(struct hs_adapter_loaded *adapter, const hs_lora_base *base,
                                       struct hs_lora_faults *faults, struct hs_error *err);

/* What a trainer_state.json says, in short, as JSON: steps, epochs, loss and how it went.
 * ret_summary: hs_free. Errors: HS_BAD_FORMAT. */
HS_CHECKED hs_status hs_training_summary(const char *text, size_t len, char **ret_summary,
                                         struct hs_error *err);

/* The readers; adapter->bytes holds the weights. config[config_len] is adapter_config.json. */
HS_CHECKED hs_status hs_adapter_read_peft(struct hs_adapter_loaded *adapter, const char *config,
                                          size_t config_len, const hs_lora_base *base,
                                          struct hs_error *err);
HS_CHECKED hs_status hs_adapter_read_gguf(struct hs_adapter_loaded *adapter,
                                          const hs_lora_base *base, struct hs_error *err);

#endif
