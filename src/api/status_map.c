#include "api/status_map.h"

static const struct hs_exit_code_row exit_codes[] = {
    {HS_OK, 0, "success"},
    {HS_INTERNAL, 1, "a fault in hyprstream or llama.cpp"},
    {HS_INVALID_ARGUMENT, 2, "wrong use: unknown command, option or setting, a value out of range"},
    {HS_NOT_FOUND, 3, "a file, model, session or setting is not there"},
    {HS_IS_DIRECTORY, 4, "a folder was given where a file is needed"},
    {HS_PERMISSION_DENIED, 5, "a file may not be read or written"},
    {HS_BAD_MAGIC, 6, "the file is not a GGUF file"},
    {HS_TRUNCATED, 7, "the file ends too early, as after an incomplete download"},
    {HS_BAD_FORMAT, 8, "the file is malformed"},
    {HS_UNSUPPORTED_VERSION, 9, "the file's format version is not supported"},
    {HS_UNSUPPORTED_MODEL, 10, "the model's architecture is unknown or generates no text"},
    {HS_MODEL_TOO_LARGE, 11, "weights and context do not fit in memory"},
    {HS_OUT_OF_MEMORY, 12, "memory ran out"},
    {HS_QUEUE_FULL, 13, "too many requests are waiting"},
    {HS_BUSY, 14, "the session or model is in use by somebody else"},
    {HS_CONTEXT_FULL, 15, "the prompt does not fit in the context"},
    {HS_CORRUPT, 16, "stored data is damaged, or a file's SHA-256 is not the recorded one"},
    {HS_ALREADY_EXISTS, 17, "the name is taken"},
    {HS_IO, 18, "reading or writing failed"},
    {HS_LIMIT, 19, "a limit was exceeded, such as the size of the input"},
    {HS_UNAVAILABLE, 20, "not available now"},
    {HS_NOT_SUPPORTED, 21, "not supported"},
    {HS_TIMEOUT, 22, "a time limit passed"},
    {HS_MISMATCH, 23, "things that do not belong together, such as a session and another model"},
    {HS_CANCELLED, 130, "stopped by Ctrl-C"},
};

const struct hs_exit_code_row *hs_exit_code_rows(size_t *ret_n)
{
    *ret_n = sizeof exit_codes / sizeof exit_codes[0];
    return exit_codes;
}

int hs_exit_code(hs_status status)
{
    for (size_t i = 0; i < sizeof exit_codes / sizeof exit_codes[0]; i++) {
        if (exit_codes[i].status == status) {
            return exit_codes[i].exit_code;
        }
    }
    return hs_exit_code(HS_INTERNAL);
}

int hs_http_status(hs_status status)
{
    switch (status) {
    case HS_OK:
        return 200;
    case HS_INVALID_ARGUMENT:
    case HS_LIMIT:
    case HS_CONTEXT_FULL:
    case HS_NOT_SUPPORTED:
    case HS_IS_DIRECTORY:
        return 400;
    case HS_PERMISSION_DENIED:
        return 403;
    case HS_NOT_FOUND:
        return 404;
    case HS_BUSY:
    case HS_ALREADY_EXISTS:
    case HS_MISMATCH:
        return 409;
    case HS_BAD_MAGIC:
    case HS_BAD_FORMAT:
    case HS_TRUNCATED:
    case HS_UNSUPPORTED_VERSION:
    case HS_UNSUPPORTED_MODEL:
        return 422;
    case HS_QUEUE_FULL:
        return 429;
    case HS_UNAVAILABLE:
    case HS_CANCELLED:
    case HS_MODEL_TOO_LARGE:
        return 503;
    case HS_TIMEOUT:
        return 504;
    case HS_IO:
    case HS_CORRUPT:
    case HS_OUT_OF_MEMORY:
    case HS_INTERNAL:
        break;
    }
    return 500;
}

enum hs_grpc_code hs_grpc_code_of(hs_status status)
{
    switch (status) {
    case HS_OK:
        return HS_GRPC_OK;
    case HS_INVALID_ARGUMENT:
    case HS_IS_DIRECTORY:
    case HS_MISMATCH:
        return HS_GRPC_INVALID_ARGUMENT;
    case HS_NOT_FOUND:
        return HS_GRPC_NOT_FOUND;
    case HS_ALREADY_EXISTS:
        return HS_GRPC_ALREADY_EXISTS;
    case HS_PERMISSION_DENIED:
        return HS_GRPC_PERMISSION_DENIED;
    case HS_QUEUE_FULL:
    case HS_LIMIT:
    case HS_OUT_OF_MEMORY:
    case HS_MODEL_TOO_LARGE:
        return HS_GRPC_RESOURCE_EXHAUSTED;
    case HS_CANCELLED:
        return HS_GRPC_CANCELLED;
    case HS_TIMEOUT:
        return HS_GRPC_DEADLINE_EXCEEDED;
    case HS_CONTEXT_FULL:
        return HS_GRPC_OUT_OF_RANGE;
    case HS_BUSY:
        return HS_GRPC_FAILED_PRECONDITION;
    case HS_NOT_SUPPORTED:
        return HS_GRPC_UNIMPLEMENTED;
    case HS_UNAVAILABLE:
        return HS_GRPC_UNAVAILABLE;
    case HS_CORRUPT:
        return HS_GRPC_DATA_LOSS;
    case HS_BAD_MAGIC:
    case HS_BAD_FORMAT:
    case HS_TRUNCATED:
    case HS_UNSUPPORTED_VERSION:
    case HS_UNSUPPORTED_MODEL:
    case HS_IO:
    case HS_INTERNAL:
        break;
    }
    return HS_GRPC_INTERNAL;
}
