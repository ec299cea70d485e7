/*
 * merge_svd.c - low-rank approximations with LAPACK.
 *
 * Our matrices are row-major and LAPACK's column-major: f64[a, b] of ours is LAPACK's b x a. The
 * arrays named *_t hold transposes, which LAPACK sees as the matrix itself.
 */
#include "merge_svd.h"

#include <math.h>
#include <string.h>

#include <cblas.h>
#include <lapacke.h>

#include "base/error.h"
#include "base/mem.h"

#define N_EXTRA 16 /* dimensions of the random subspace beyond the rank */
#define N_POWERS 4

/* OpenBLAS starts as many threads as there are processors unless told otherwise; the reference
 * library has none, nor this function. */
extern void openblas_set_num_threads(int n) __attribute__((weak));

static void use_one_thread(void)
{
    if (openblas_set_num_threads != NULL) {
        openblas_set_num_threads(1);
    }
}

static hs_status lapack_error(const char *what, int info, struct hs_error *err)
{
    hs_error_set(err, HS_INTERNAL, "LAPACK's %s failed with %d", what, info);
    hs_error_hint(err, "choose another rank, or merge with 'cat'");
    return HS_INTERNAL;
}

/* How many of values[n], the largest first, can be told from rounding; at most `rank`. */
static int32_t useful_rank(const double *values, int64_t n, int32_t rank)
{
    int32_t k = 1;
    while (k < rank && k < n && values[k] > values[0] * 1e-14) {
        k++;
    }
    return k;
}

static hs_status product_new(struct hs_merge_product *product, struct hs_error *err)
{
    product->left = hs_calloc((size_t)(product->n_rows * product->rank), sizeof(double));
    product->right = hs_calloc((size_t)(product->n_cols * product->rank), sizeof(double));
    if (product->left == NULL || product->right == NULL) {
        hs_freep(&product->left);
        hs_freep(&product->right);
        return hs_error_nomem(err, "the factors of a merged adapter");
    }
    return HS_OK;
}

/* left[., i] *= a[i], right[i, .] *= b[i] */
static void scale_factors(struct hs_merge_product *product, int32_t i, double a, double b)
{
    cblas_dscal((int)product->n_rows, a, product->left + i, product->rank);
    cblas_dscal((int)product->n_cols, b, product->right + i * product->n_cols, 1);
}

/* q_t[n_cols, n_rows], columns beforehand, becomes an orthonormal basis of them; r_t (may be NULL)
 * f64[n_cols, n_cols] the triangle. n_cols <= n_rows. */
static hs_status orthonormalise(double *q_t, int64_t n_rows, int64_t n_cols, double *r_t,
                                struct hs_error *err)
{
    int m = (int)n_rows;
    int n = (int)n_cols;
    int n_work = 64 * n;
    HS_CLEANUP(hs_freep) double *tau = hs_calloc((size_t)n, sizeof *tau);
    HS_CLEANUP(hs_freep) double *work = hs_calloc((size_t)n_work, sizeof *work);
    if (tau == NULL || work == NULL) {
        return hs_error_nomem(err, "a QR decomposition");
    }
    int info = LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, m, n, q_t, m, tau, work, n_work);
    if (info != 0) {
        return lapack_error("dgeqrf", info, err);
    }
    for (int64_t col = 0; r_t != NULL && col < n; col++) {
        memcpy(r_t + col * n, q_t + col * m, (size_t)(col + 1) * sizeof *r_t);
    }
    info = LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, m, n, n, q_t, m, tau, work, n_work);
    return info != 0 ? lapack_error("dorgqr", info, err) : HS_OK;
}

/* matrix (column-major, n x n, destroyed) = u diag(values) v_t; column-major too */
static hs_status small_svd(double *matrix, int n, double *values, double *u, double *v_t,
                           struct hs_error *err)
{
    int n_work = 5 * n + 64 * n;
    HS_CLEANUP(hs_freep) double *work = hs_calloc((size_t)n_work, sizeof *work);
    if (work == NULL) {
        return hs_error_nomem(err, "a singular value decomposition");
    }
    int info = LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', n, n, matrix, n, values, u, n, v_t,
                                   n, work, n_work);
    return info != 0 ? lapack_error("dgesvd", info, err) : HS_OK;
}

/* left right from the bases q1_t, q2_t and the SVD of what stands between them. */
static hs_status join_product(const double *q1_t, const double *q2_t, int32_t inner,
                              const double *u, const double *v_t, const double *values,
                              struct hs_merge_product *product, struct hs_error *err)
{
    hs_status status = product_new(product, err);
    if (status != HS_OK) {
        return status;
    }
    int m = (int)product->n_rows;
    int n = (int)product->n_cols;
    int k = product->rank;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasTrans, m, k, inner, 1, q1_t, m, u, inner, 0,
                product->left, k);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k, n, inner, 1, v_t, inner, q2_t, n, 0,
                product->right, n);
    for (int32_t i = 0; i < k; i++) {
        scale_factors(product, i, sqrt(values[i]), sqrt(values[i]));
    }
    return HS_OK;
}

struct product_scratch {
    double *q1_t, *q2_t;                         /* [inner, n_rows], [inner, n_cols] */
    double *r1, *r2, *middle, *u, *v_t, *values; /* [inner, inner]; values [inner] */
};

static void scratch_free(struct product_scratch *s)
{
    double **const all[] = {&s->q1_t,   &s->q2_t, &s->r1,  &s->r2,
                            &s->middle, &s->u,    &s->v_t, &s->values};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        hs_freep(all[i]);
    }
}

static bool scratch_new(struct product_scratch *s, int64_t n_rows, int64_t n_cols, int64_t inner)
{
    size_t square = (size_t)(inner * inner);
    s->q1_t = hs_calloc((size_t)(inner * n_rows), sizeof(double));
    s->q2_t = hs_calloc((size_t)(inner * n_cols), sizeof(double));
    s->r1 = hs_calloc(square, sizeof(double));
    s->r2 = hs_calloc(square, sizeof(double));
    s->middle = hs_calloc(square, sizeof(double));
    s->u = hs_calloc(square, sizeof(double));
    s->v_t = hs_calloc(square, sizeof(double));
    s->values = hs_calloc((size_t)inner, sizeof(double));
    return s->q1_t && s->q2_t && s->r1 && s->r2 && s->middle && s->u && s->v_t && s->values;
}

hs_status hs_merge_svd_product(const double *left, const double *right, int64_t n_rows,
                               int64_t n_cols, int32_t inner, int32_t rank,
                               struct hs_merge_product *ret, struct hs_error *err)
{
    HS_CLEANUP(scratch_free) struct product_scratch s = {0};
    use_one_thread();
    if (!scratch_new(&s, n_rows, n_cols, inner)) {
        return hs_error_nomem(err, "the decomposition of a merged adapter");
    }
    for (int64_t row = 0; row < n_rows; row++) {
        for (int32_t i = 0; i < inner; i++) {
            s.q1_t[i * n_rows + row] = left[row * inner + i];
        }
    }
    memcpy(s.q2_t, right, (size_t)(inner * n_cols) * sizeof *right);
    hs_status status = orthonormalise(s.q1_t, n_rows, inner, s.r1, err);
    if (status == HS_OK) {
        status = orthonormalise(s.q2_t, n_cols, inner, s.r2, err);
    }
    if (status != HS_OK) {
        return status;
    }
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, inner, inner, inner, 1, s.r1, inner, s.r2,
                inner, 0, s.middle, inner);
    double norm = cblas_dnrm2(inner * inner, s.middle, 1);
    if (!isfinite(norm)) {
        return hs_error_set(err, HS_BAD_FORMAT, "merged values are not finite");
    }
    status = small_svd(s.middle, inner, s.values, s.u, s.v_t, err);
    if (status != HS_OK) {
        return status;
    }
    struct hs_merge_product product = {.n_rows = n_rows, .n_cols = n_cols, .norm = norm};
    product.rank = useful_rank(s.values, inner, rank);
    product.error = cblas_dnrm2(inner - product.rank, s.values + product.rank, 1);
    status = join_product(s.q1_t, s.q2_t, inner, s.u, s.v_t, s.values, &product, err);
    if (status == HS_OK) {
        *ret = product;
    }
    return status;
}

/* The `rank` eigenvectors with the largest eigenvalues of gram (destroyed), f64[n, n]: vectors
 * f64[rank, n], the largest last. */
static hs_status top_vectors(double *gram, int n, int rank, double *vectors, struct hs_error *err)
{
    int n_work = 32 * n + 26 * n;
    int n_iwork = 10 * n;
    int n_found = 0;
    HS_CLEANUP(hs_freep) double *values = hs_calloc((size_t)n, sizeof *values);
    HS_CLEANUP(hs_freep) double *work = hs_calloc((size_t)n_work, sizeof *work);
    HS_CLEANUP(hs_freep) int *iwork = hs_calloc((size_t)n_iwork, sizeof *iwork);
    HS_CLEANUP(hs_freep) int *support = hs_calloc(2 * (size_t)n, sizeof *support);
    if (values == NULL || work == NULL || iwork == NULL || support == NULL) {
        return hs_error_nomem(err, "eigenvectors");
    }
    int info =
        LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, 'V', 'I', 'L', n, gram, n, 0, 0, n - rank + 1, n, 0,
                            &n_found, values, vectors, n, support, work, n_work, iwork, n_iwork);
    return info != 0 || n_found != rank ? lapack_error("dsyevr", info, err) : HS_OK;
}

/* Divide the singular values, which are in the rows of right or in the columns of left, between
 * both, and cut off what is nothing. Vectors come in ascending order. */
static void balance(struct hs_merge_product *product, bool is_right)
{
    double kept = 0;
    for (int32_t i = 0; i < product->rank; i++) {
        double value =
            is_right ? cblas_dnrm2((int)product->n_cols, product->right + i * product->n_cols, 1)
                     : cblas_dnrm2((int)product->n_rows, product->left + i, product->rank);
        double root = sqrt(value);
        double inverse = root > 0 ? 1 / root : 0;
        scale_factors(product, i, is_right ? root : inverse, is_right ? inverse : root);
        kept += value * value;
    }
    double cut = product->norm * product->norm - kept;
    product->error = cut > 0 ? sqrt(cut) : 0;
}

hs_status hs_merge_svd_exact(const double *matrix, int64_t n_rows, int64_t n_cols, int32_t rank,
                             struct hs_merge_product *ret, struct hs_error *err)
{
    bool is_wide = n_rows <= n_cols;
    int m = (int)n_rows;
    int n = (int)n_cols;
    int side = is_wide ? m : n;
    struct hs_merge_product product = {
        .n_rows = n_rows, .n_cols = n_cols, .rank = rank < side ? rank : side};
    use_one_thread();
    HS_CLEANUP(hs_freep) double *gram = hs_calloc((size_t)side * (size_t)side, sizeof *gram);
    HS_CLEANUP(hs_freep)
    double *vectors = hs_calloc((size_t)side * (size_t)product.rank, sizeof *vectors);
    if (gram == NULL || vectors == NULL) {
        return hs_error_nomem(err, "the decomposition of a merged delta");
    }
    cblas_dsyrk(CblasRowMajor, CblasUpper, is_wide ? CblasNoTrans : CblasTrans, side,
                is_wide ? n : m, 1, matrix, n, 0, gram, side);
    double square = 0;
    for (int64_t i = 0; i < side; i++) {
        square += gram[i * side + i];
    }
    product.norm = sqrt(square);
    if (!isfinite(product.norm)) {
        return hs_error_set(err, HS_BAD_FORMAT, "merged values are not finite");
    }
    hs_status status = top_vectors(gram, side, product.rank, vectors, err);
    if (status == HS_OK) {
        status = product_new(&product, err);
    }
    if (status != HS_OK) {
        return status;
    }
    int k = product.rank;
    if (is_wide) {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, k, n, m, 1, vectors, m, matrix, n, 0,
                    product.right, n);
        for (int32_t i = 0; i < k; i++) {
            cblas_dcopy(m, vectors + (int64_t)i * m, 1, product.left + i, k);
        }
    } else {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, k, n, 1, matrix, n, vectors, n, 0,
                    product.left, k);
        memcpy(product.right, vectors, (size_t)k * (size_t)n * sizeof *vectors);
    }
    balance(&product, is_wide);
    *ret = product;
    return HS_OK;
}

/* Numbers in [-1, 1) (SplitMix64). */
static void fill_random(double *values, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t z = seed + (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        values[i] = (double)((z ^ z >> 31) >> 11) * 0x1p-52 - 1;
    }
}

/* An orthonormal basis q_t[l, n_rows] of nearly what the largest singular values span. */
static hs_status find_subspace(const double *matrix, int m, int n, int l, uint64_t seed,
                               double *q_t, double *z_t, struct hs_error *err)
{
    fill_random(z_t, (int64_t)l * n, seed);
    for (int i = 0; i <= N_POWERS; i++) {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, l, m, n, 1, z_t, n, matrix, n, 0, q_t,
                    m);
        hs_status status = orthonormalise(q_t, m, l, NULL, err);
        if (status != HS_OK) {
            return status;
        }
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, l, n, m, 1, q_t, m, matrix, n, 0,
                    z_t, n);
        if (i < N_POWERS) {
            status = orthonormalise(z_t, n, l, NULL, err);
        }
        if (status != HS_OK) {
            return status;
        }
    }
    return HS_OK; /* z_t is q_t matrix */
}

hs_status hs_merge_svd_randomised(const double *matrix, int64_t n_rows, int64_t n_cols,
                                  int32_t rank, uint64_t seed, struct hs_merge_product *ret,
                                  struct hs_error *err)
{
    int m = (int)n_rows;
    int n = (int)n_cols;
    int side = m < n ? m : n;
    int l = rank < side - N_EXTRA ? rank + N_EXTRA : side;
    double norm = cblas_dnrm2(n, matrix, 1);
    use_one_thread();
    for (int64_t row = 1; row < n_rows; row++) {
        norm = hypot(norm, cblas_dnrm2(n, matrix + row * n_cols, 1));
    }
    if (!isfinite(norm)) {
        return hs_error_set(err, HS_BAD_FORMAT, "merged values are not finite");
    }
    HS_CLEANUP(hs_freep) double *q_t = hs_calloc((size_t)l * (size_t)m, sizeof *q_t);
    HS_CLEANUP(hs_freep) double *z_t = hs_calloc((size_t)l * (size_t)n, sizeof *z_t);
    if (q_t == NULL || z_t == NULL) {
        return hs_error_nomem(err, "a random subspace");
    }
    struct hs_merge_product small = {0};
    hs_status status = find_subspace(matrix, m, n, l, seed, q_t, z_t, err);
    if (status == HS_OK) {
        status = hs_merge_svd_exact(z_t, l, n_cols, rank, &small, err);
    }
    if (status != HS_OK) {
        return status;
    }
    struct hs_merge_product product = {
        .n_rows = n_rows, .n_cols = n_cols, .rank = small.rank, .right = small.right, .norm = norm};
    product.left = hs_calloc((size_t)(n_rows * small.rank), sizeof(double));
    if (product.left == NULL) {
        hs_free(small.left);
        hs_free(small.right);
        return hs_error_nomem(err, "the factors of a merged adapter");
    }
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, small.rank, l, 1, q_t, m, small.left,
                small.rank, 0, product.left, small.rank);
    hs_free(small.left);
    product.error =
        sqrt(fmax(0, norm * norm - small.norm * small.norm + small.error * small.error));
    *ret = product;
    return HS_OK;
}
