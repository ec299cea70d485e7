#include "fn_vectors.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "base/sha256.h"

#define BUCKETS 16384

struct vector {
    struct vector *next;          /* of its bucket */
    struct vector *older, *newer; /* by use */
    char key[65];                 /* hash of the model's weights, its name and the text */
    int32_t n;
    float values[];
};

struct hs_fn_vectors {
    pthread_mutex_t mutex; /* of what follows */
    size_t bytes, max_bytes;
    struct vector *oldest, *newest;
    struct vector *buckets[BUCKETS];
};

hs_fn_vectors *hs_fn_vectors_new(size_t max_bytes)
{
    hs_fn_vectors *vectors = hs_calloc(1, sizeof *vectors);
    if (vectors != NULL) {
        pthread_mutex_init(&vectors->mutex, NULL);
        vectors->max_bytes = max_bytes;
    }
    return vectors;
}

void hs_fn_vectors_free(hs_fn_vectors *vectors)
{
    if (vectors == NULL) {
        return;
    }
    while (vectors->oldest != NULL) {
        struct vector *vector = vectors->oldest;
        vectors->oldest = vector->newer;
        hs_free(vector);
    }
    pthread_mutex_destroy(&vectors->mutex);
    hs_free(vectors);
}

static bool make_key(const struct hs_model_info *model, const char *text, size_t len,
                     char ret_key[65])
{
    hs_sha256 *hash = NULL;
    hs_status status = hs_sha256_new(&hash, NULL);
    status =
        status ? status : hs_sha256_update(hash, model->fingerprint, sizeof model->fingerprint);
    status = status ? status : hs_sha256_update(hash, model->id, strlen(model->id) + 1);
    status = status ? status : hs_sha256_update(hash, text, len);
    status = status ? status : hs_sha256_final(hash, ret_key);
    hs_sha256_free(hash);
    return status == HS_OK;
}

static size_t size_of(int32_t n)
{
    return sizeof(struct vector) + (size_t)n * sizeof(float);
}

/* The link to the vector of that key, or to the end of its bucket. */
static struct vector **find(hs_fn_vectors *vectors, const char *key)
{
    uint64_t number;
    memcpy(&number, key, sizeof number);
    struct vector **link = &vectors->buckets[(number * UINT64_C(0x9E3779B97F4A7C15)) >> 50];
    while (*link != NULL && memcmp((*link)->key, key, sizeof(*link)->key) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static void take_out(hs_fn_vectors *vectors, struct vector *vector)
{
    *(vector->older != NULL ? &vector->older->newer : &vectors->oldest) = vector->newer;
    *(vector->newer != NULL ? &vector->newer->older : &vectors->newest) = vector->older;
}

static void put_newest(hs_fn_vectors *vectors, struct vector *vector)
{
    vector->older = vectors->newest;
    vector->newer = NULL;
    *(vectors->newest != NULL ? &vectors->newest->newer : &vectors->oldest) = vector;
    vectors->newest = vector;
}

static void drop_oldest(hs_fn_vectors *vectors)
{
    struct vector *vector = vectors->oldest;
    *find(vectors, vector->key) = vector->next;
    take_out(vectors, vector);
    vectors->bytes -= size_of(vector->n);
    hs_free(vector);
}

float *hs_fn_vectors_get(hs_fn_vectors *vectors, const struct hs_model_info *model,
                         const char *text, size_t len, int32_t *ret_n)
{
    char key[65];
    float *values = NULL;
    if (!make_key(model, text, len, key)) {
        return NULL;
    }
    pthread_mutex_lock(&vectors->mutex);
    struct vector *vector = *find(vectors, key);
    if (vector != NULL) {
        size_t size = (size_t)vector->n * sizeof(float);
        values = hs_alloc(size);
        if (values != NULL) {
            memcpy(values, vector->values, size);
            *ret_n = vector->n;
        }
        take_out(vectors, vector);
        put_newest(vectors, vector);
    }
    pthread_mutex_unlock(&vectors->mutex);
    return values;
}

void hs_fn_vectors_put(hs_fn_vectors *vectors, const struct hs_model_info *model, const char *text,
                       size_t len, const float *values, int32_t n)
{
    char key[65];
    size_t size = size_of(n);
    if (size > vectors->max_bytes || !make_key(model, text, len, key)) {
        return;
    }
    struct vector *vector = hs_alloc(size);
    if (vector == NULL) {
        return;
    }
    memcpy(vector->key, key, sizeof key);
    memcpy(vector->values, values, (size_t)n * sizeof(float));
    vector->n = n;
    vector->next = NULL;
    pthread_mutex_lock(&vectors->mutex);
    if (*find(vectors, key) != NULL) { /* another statement was quicker */
        hs_free(vector);
    } else {
        while (vectors->bytes + size > vectors->max_bytes) {
            drop_oldest(vectors);
        }
        *find(vectors, key) = vector; /* dropping may have moved the bucket's end */
        put_newest(vectors, vector);
        vectors->bytes += size;
    }
    pthread_mutex_unlock(&vectors->mutex);
}
