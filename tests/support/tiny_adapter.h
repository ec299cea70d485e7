/*
 * tiny_adapter.h - a small adapter for the models of tiny_gguf.h, as PEFT writes it.
 */
#ifndef SUPPORT_TINY_ADAPTER_H
#define SUPPORT_TINY_ADAPTER_H

#include <stdbool.h>

/*
 * adapter_config.json and adapter_model.safetensors into `folder`, which is made: rank 2, alpha 16,
 * q of the first layer of a Llama of width n_in, f32 weights from `seed` upwards in steps of 1/256.
 */
bool tiny_adapter_write(const char *folder, int n_in, float seed);

#endif
