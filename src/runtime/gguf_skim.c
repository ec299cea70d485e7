#include "gguf_skim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "llama.h"

#define KEY_MAX 128
#define SPLIT_MAX 9999

struct reader {
    int fd;
    uint64_t file_size;
    uint64_t offset; /* in the file of bytes[0] */
    size_t pos, len;
    uint8_t bytes[1 << 16];
    bool is_bad;
};

/* Keys of "<architecture>.*", kept until the architecture is known to precede them. */
struct numbers {
    uint64_t context_length, block_count, embedding_length, feed_forward_length;
    uint64_t head_count, head_count_kv, head_count_kv_sum, key_length, value_length;
    uint64_t sliding_window, n_tokens, split_count, split_no;
    bool has_other_state;
};

static bool read_bytes(struct reader *r, void *to, size_t n)
{
    uint8_t *out = to;
    while (n > 0 && !r->is_bad) {
        if (r->pos == r->len) {
            r->offset += r->len;
            ssize_t got = pread(r->fd, r->bytes, sizeof(r->bytes), (off_t)r->offset);
            r->pos = 0;
            r->len = got > 0 ? (size_t)got : 0;
            r->is_bad = got <= 0;
            continue;
        }
        size_t chunk = r->len - r->pos < n ? r->len - r->pos : n;
        memcpy(out, r->bytes + r->pos, chunk);
        r->pos += chunk;
        out += chunk;
        n -= chunk;
    }
    return !r->is_bad;
}

static void skip_bytes(struct reader *r, uint64_t n)
{
    uint64_t here = r->offset + r->pos;
    if (n > r->file_size - here) {
        r->is_bad = true;
    } else if (n <= r->len - r->pos) {
        r->pos += (size_t)n;
    } else {
        r->offset = here + n;
        r->pos = r->len = 0;
    }
}

static uint64_t read_number(struct reader *r, size_t size)
{
    uint64_t value = 0;
    return read_bytes(r, &value, size) ? value : 0;
}

/* The text when it is shorter than `size`, else "". */
static void read_text(struct reader *r, char *to, size_t size)
{
    uint64_t len = read_number(r, 8);
    to[0] = '\0';
    if (len >= size) {
        skip_bytes(r, len);
    } else if (read_bytes(r, to, (size_t)len)) {
        to[len] = '\0';
    }
}

/* Bytes of a scalar; 0 for strings, arrays and unknown types. */
static size_t scalar_size(uint32_t type)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof(sizes) ? sizes[type] : 0;
}

static bool is_integer(uint32_t type)
{
    return type < GGUF_TYPE_FLOAT32 || type == GGUF_TYPE_UINT64 || type == GGUF_TYPE_INT64;
}

static bool ends_with(const char *key, const char *suffix)
{
    size_t key_len = strlen(key);
    size_t suffix_len = strlen(suffix);
    return key_len >= suffix_len && strcmp(key + key_len - suffix_len, suffix) == 0;
}

static void keep_number(const char *key, uint64_t value, struct numbers *n)
{
    const struct {
        const char *suffix;
        uint64_t *to;
    } rows[] = {
        {".context_length", &n->context_length},
        {".block_count", &n->block_count},
        {".embedding_length", &n->embedding_length},
        {".feed_forward_length", &n->feed_forward_length},
        {".attention.head_count", &n->head_count},
        {".attention.head_count_kv", &n->head_count_kv},
        {".attention.key_length", &n->key_length},
        {".attention.value_length", &n->value_length},
        {".attention.sliding_window", &n->sliding_window},
        {"split.count", &n->split_count},
        {"split.no", &n->split_no},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (ends_with(key, rows[i].suffix)) {
            *rows[i].to = value;
        }
    }
    n->has_other_state = n->has_other_state || strstr(key, ".ssm.") || strstr(key, ".wkv.") ||
                         strstr(key, "kv_lora_rank") || strstr(key, "shortconv");
}

static void read_array(struct reader *r, const char *key, struct numbers *n)
{
    uint32_t type = (uint32_t)read_number(r, 4);
    uint64_t count = read_number(r, 8);
    size_t size = scalar_size(type);
    if (strcmp(key, "tokenizer.ggml.tokens") == 0) {
        n->n_tokens = count;
    }
    if (type == GGUF_TYPE_STRING) {
        for (uint64_t i = 0; i < count && !r->is_bad; i++) {
            skip_bytes(r, read_number(r, 8));
        }
    } else if (size == 0 || count > r->file_size / size) {
        r->is_bad = true;
    } else if (is_integer(type) && count <= 4096 && strstr(key, ".attention.head_count_kv")) {
        for (uint64_t i = 0; i < count; i++) {
            n->head_count_kv_sum += read_number(r, size);
        }
    } else if (is_integer(type) && count <= 4096 && count > 0) {
        /* Per-layer values: the largest stands for all. */
        uint64_t largest = 0;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t value = read_number(r, size);
            largest = value > largest ? value : largest;
        }
        keep_number(key, largest, n);
    } else {
        skip_bytes(r, count * size);
    }
}

static void read_pairs(struct reader *r, uint64_t n_pairs, char architecture[64], struct numbers *n)
{
    for (uint64_t i = 0; i < n_pairs && !r->is_bad; i++) {
        char key[KEY_MAX];
        read_text(r, key, sizeof(key));
        uint32_t type = (uint32_t)read_number(r, 4);
        if (type == GGUF_TYPE_ARRAY) {
            read_array(r, key, n);
        } else if (type == GGUF_TYPE_STRING) {
            char text[64];
            read_text(r, text, sizeof(text));
            if (strcmp(key, "general.architecture") == 0) {
                memcpy(architecture, text, sizeof(text));
            }
        } else {
            size_t size = scalar_size(type);
            r->is_bad = r->is_bad || size == 0;
            uint64_t value = read_number(r, size);
            if (is_integer(type)) {
                keep_number(key, value, n);
            }
        }
    }
}

static uint64_t read_tensors(struct reader *r, uint64_t n_tensors)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < n_tensors && !r->is_bad; i++) {
        skip_bytes(r, read_number(r, 8));
        uint64_t n_dims = read_number(r, 4);
        uint64_t n_values = 1;
        r->is_bad = r->is_bad || n_dims > GGML_MAX_DIMS;
        for (uint64_t d = 0; d < n_dims && !r->is_bad; d++) {
            r->is_bad = __builtin_mul_overflow(n_values, read_number(r, 8), &n_values);
        }
        uint32_t type = (uint32_t)read_number(r, 4);
        read_number(r, 8);
        if (type >= GGML_TYPE_COUNT || ggml_blck_size((enum ggml_type)type) <= 0) {
            r->is_bad = true;
            break;
        }
        uint64_t n_blocks = n_values / (uint64_t)ggml_blck_size((enum ggml_type)type);
        uint64_t bytes = 0;
        r->is_bad =
            r->is_bad ||
            __builtin_mul_overflow(n_blocks, ggml_type_size((enum ggml_type)type), &bytes) ||
            __builtin_add_overflow(total, bytes, &total);
    }
    return total;
}

/* Sizes of the other parts: "name-00001-of-00003.gguf". */
static uint64_t other_parts_bytes(const char *path, uint64_t n_parts)
{
    static const char pattern[] = "-00001-of-00001.gguf";
    size_t len = strlen(path);
    if (n_parts < 2 || n_parts > SPLIT_MAX || len < sizeof(pattern)) {
        return 0;
    }
    uint64_t total = 0;
    for (uint64_t i = 2; i <= n_parts; i++) {
        HS_CLEANUP(hs_freep)
        char *part = hs_asprintf("%.*s-%05llu-of-%05llu.gguf", (int)(len - sizeof(pattern) + 1),
                                 path, (unsigned long long)i, (unsigned long long)n_parts);
        struct stat st;
        if (part && stat(part, &st) == 0) {
            total += (uint64_t)st.st_size;
        }
    }
    return total;
}

static void fill(struct hs_gguf_skim *skim, const struct numbers *n)
{
    skim->n_ctx_train = n->context_length;
    skim->n_layer = n->block_count;
    skim->n_embd = n->embedding_length;
    skim->n_ff = n->feed_forward_length;
    skim->n_head = n->head_count;
    skim->n_vocab = n->n_tokens;
    skim->n_swa = n->sliding_window;
    skim->has_other_state = n->has_other_state;
    uint64_t head_count_kv = n->head_count_kv ? n->head_count_kv : n->head_count;
    skim->n_head_kv_sum =
        n->head_count_kv_sum ? n->head_count_kv_sum : head_count_kv * n->block_count;
    uint64_t head_size = n->head_count ? n->embedding_length / n->head_count : 0;
    skim->key_length = n->key_length ? n->key_length : head_size;
    skim->value_length = n->value_length ? n->value_length : head_size;
}

hs_status hs_gguf_skim(const char *path, struct hs_gguf_skim *ret_skim, struct hs_error *err)
{
    HS_CLEANUP(hs_freep) struct reader *r = hs_calloc(1, sizeof(*r));
    if (!r) {
        return hs_error_nomem(err, "GGUF header");
    }
    HS_CLEANUP(hs_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return hs_error_errno(err, errno, "open", path);
    }
    r->fd = fd;
    r->file_size = (uint64_t)st.st_size;
    char magic[4] = "";
    read_bytes(r, magic, sizeof(magic));
    if (memcmp(magic, "GGUF", sizeof(magic)) != 0) {
        return hs_error_set(err, HS_BAD_MAGIC, "'%s' is not a GGUF file", path);
    }
    read_number(r, 4);
    uint64_t n_tensors = read_number(r, 8);
    uint64_t n_pairs = read_number(r, 8);
    struct hs_gguf_skim skim = {0};
    struct numbers numbers = {0};
    read_pairs(r, n_pairs, skim.architecture, &numbers);
    skim.weights_bytes = read_tensors(r, n_tensors);
    /* Bounds that keep every product of the estimate inside 64 bits. */
    const uint64_t sane = (uint64_t)1 << 24;
    if (r->is_bad || numbers.block_count > sane || numbers.embedding_length > sane ||
        numbers.feed_forward_length > sane || numbers.head_count > sane ||
        numbers.head_count_kv > sane || numbers.head_count_kv_sum > sane ||
        numbers.key_length > sane || numbers.value_length > sane || numbers.n_tokens > sane) {
        return hs_error_set(err, HS_BAD_FORMAT, "the header of '%s' is damaged", path);
    }
    fill(&skim, &numbers);
    skim.weights_bytes += other_parts_bytes(path, numbers.split_count);
    *ret_skim = skim;
    return HS_OK;
}
