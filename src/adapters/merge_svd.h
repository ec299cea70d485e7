/*
 * merge_svd.h - the best approximation of a matrix by one of low rank, as a product of two factors.
 *
 * Both factors carry the square roots of the singular values. The rank comes out lower than asked
 * where the matrix, or the product it is given as, has no more; it is at least 1.
 *
 * Errors:  HS_OUT_OF_MEMORY, HS_BAD_FORMAT (values that are not finite), HS_INTERNAL (LAPACK gave
 *          up).
 * Owner:   left and right are the caller's, to be freed with hs_free.
 * Threads: no state; LAPACK is kept to one thread where it is OpenBLAS.
 * Source:  Eckart, Young 1936; randomised: Halko, Martinsson, Tropp, arXiv 0909.4061,
 * algorithm 4.4.
 */
#ifndef MERGE_SVD_H
#define MERGE_SVD_H

#include "hyprstream.h"

struct hs_merge_product {
    int64_t n_rows, n_cols;
    int32_t rank;
    double *left;  /* f64[n_rows, rank] */
    double *right; /* f64[rank, n_cols] */
    double norm;   /* Frobenius norm of the matrix */
    double error;  /* Frobenius norm of the matrix less the product */
};

/*
 * Of left right, f64[n_rows, inner] and f64[inner, n_cols], inner at most the smaller side, without
 * ever making the product: QR of both, then the SVD of a small matrix. Exact.
 */
HS_CHECKED hs_status hs_merge_svd_product(const double *left, const double *right, int64_t n_rows,
                                          int64_t n_cols, int32_t inner, int32_t rank,
                                          struct hs_merge_product *ret, struct hs_error *err);
/* Of a full matrix, through the eigenvectors of its product with its own transpose. */
HS_CHECKED hs_status hs_merge_svd_exact(const double *matrix, int64_t n_rows, int64_t n_cols,
                                        int32_t rank, struct hs_merge_product *ret,
                                        struct hs_error *err);
/*
 * Of a full matrix, through a random subspace of rank + 16 dimensions that is multiplied with the
 * matrix and its transpose some times. Not the best approximation, but near, and quick; `error` is
 * exact. The same seed gives the same result.
 */
HS_CHECKED hs_status hs_merge_svd_randomised(const double *matrix, int64_t n_rows, int64_t n_cols,
                                             int32_t rank, uint64_t seed,
                                             struct hs_merge_product *ret, struct hs_error *err);

#endif
