#include "logprobs.h"

#include <math.h>

/* The n_top largest logits, kept sorted: n_top is small, and few logits enter the list. */
static void select_top(const float *logits, int32_t n_vocab, int32_t n_top,
                       struct hs_token_logprob *ret)
{
    for (int32_t k = 0; k < n_top; k++) {
        ret[k] = (struct hs_token_logprob){.token = -1, .logprob = -INFINITY};
    }
    for (int32_t i = 0; n_top > 0 && i < n_vocab; i++) {
        if (!(logits[i] > ret[n_top - 1].logprob)) {
            continue;
        }
        int32_t k = n_top - 1;
        for (; k > 0 && logits[i] > ret[k - 1].logprob; k--) {
            ret[k] = ret[k - 1];
        }
        ret[k] = (struct hs_token_logprob){.token = i, .logprob = logits[i]};
    }
}

void hs_logprobs(const float *logits, int32_t n_vocab, int32_t token, int32_t n_top,
                 struct hs_token_logprob *ret)
{
    select_top(logits, n_vocab, n_top, ret + 1);
    float max = -INFINITY;
    for (int32_t i = 0; i < n_vocab; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    double sum = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        sum += (double)expf(logits[i] - max);
    }
    float log_sum = max + (float)log(sum);
    ret[0] = (struct hs_token_logprob){.token = token, .logprob = logits[token] - log_sum};
    for (int32_t k = 1; k <= n_top; k++) {
        ret[k].logprob -= log_sum;
    }
}
