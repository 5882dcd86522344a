/* Loops that PyTorch would make in several passes over memory; operations.py calls them and says what each computes.
 * Matrices are row-major and dense. Rows are distributed to OpenMP threads; which thread adds what
 * depends on the number of threads only, so that the same run gives the same numbers.
 *
 * The file includes itself once for each type of activations, float32 and bfloat16; sums are always float32.
 */

#ifndef TYPE

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define UPDATE_BIAS (-1.0f)

static inline float load_f32(const float *p) { return *p; }
static inline void store_f32(float *p, float x) { *p = x; }

static inline float load_bf16(const uint16_t *p) {
    union { uint32_t u; float f; } bits = { (uint32_t)*p << 16 };
    return bits.f;
}

/* To the nearest, ties to even. */
static inline void store_bf16(uint16_t *p, float x) {
    union { float f; uint32_t u; } bits = { x };
    *p = (uint16_t)((bits.u + 0x7fff + ((bits.u >> 16) & 1)) >> 16);
}

/* Sixteen numbers at once. */
typedef float v16 __attribute__((vector_size(64)));
typedef uint32_t u16 __attribute__((vector_size(64)));
typedef uint16_t half16 __attribute__((vector_size(32)));

static inline v16 load16_f32(const float *p) {
    v16 x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline v16 load16_bf16(const uint16_t *p) {
    half16 x;
    memcpy(&x, p, sizeof x);
    return (v16)(__builtin_convertvector(x, u16) << 16);
}

/* exp(x) - 1 for x <= 0, accurate to a few units in the last place; not a number stays so. */
static inline float expm1_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r;
    union { int32_t i; float f; } scale = { ((int32_t)n + 127) << 23 };
    return scale.f * p + (scale.f - 1);
}

static inline float elu(float x) {
    float negative = expm1_negative(x > 0 ? 0 : x);
    return x > 0 ? x : negative;
}

static inline float sigmoid(float x) {
    float e = 1 + expm1_negative(x > 0 ? -x : x);  /* exp(-|x|) */
    return (x > 0 ? 1 : e) / (1 + e);
}

static inline float tanh_(float x) {
    float e = expm1_negative(x > 0 ? -2 * x : 2 * x);  /* exp(-2|x|) - 1 */
    float t = -e / (2 + e);
    return x > 0 ? t : -t;
}

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(function) JOIN(function, SUFFIX)
#define LOAD JOIN(load, SUFFIX)
#define STORE JOIN(store, SUFFIX)
#define LOAD16 JOIN(load16, SUFFIX)

#define TYPE float
#define SUFFIX f32
#include __FILE__
#undef TYPE
#undef SUFFIX

#define TYPE uint16_t
#define SUFFIX bf16
#include __FILE__

#else

/* x = elu(x + bias), in place; x [rows, columns]. */
void NAME(bias_elu)(TYPE *x, const float *bias, int64_t rows, int64_t columns) {
#pragma omp parallel for schedule(static) if (rows * columns > 16384)
    for (int64_t i = 0; i < rows; i++) {
        TYPE *row = x + i * columns;
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) STORE(row + j, elu(LOAD(row + j) + bias[j]));
    }
}

/* The gradient of the above from its result y: grad * (y > 0 ? 1 : y + 1), and its sum over rows into bias_grad. */
void NAME(bias_elu_backward)(const TYPE *grad, const TYPE *y, TYPE *out, float *bias_grad, int64_t rows,
                             int64_t columns) {
    int threads = rows * columns > 16384 ? omp_get_max_threads() : 1;
    float *sums = calloc((size_t)threads * columns, sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads(); /* fewer, under a limit on threads */
        int64_t from = rows * me / team, to = rows * (me + 1) / team;
        float *sum = sums + me * columns;
        for (int64_t i = from; i < to; i++) {
            const TYPE *g = grad + i * columns, *v = y + i * columns;
            TYPE *o = out + i * columns;
#pragma omp simd
            for (int64_t j = 0; j < columns; j++) {
                float value = LOAD(v + j), slope = value > 0 ? 1 : value + 1, product = LOAD(g + j) * slope;
                STORE(o + j, product);
                sum[j] += product;
            }
        }
    }
    for (int t = 0; t < threads; t++)
        for (int64_t j = 0; j < columns; j++) bias_grad[j] += sums[t * columns + j];
    free(sums);
}

/* sum[j] += the sum over s of table[ones[s], j], for 64 columns; the sums stay in registers. */
static inline void NAME(sum_64_columns)(float *sum, const int32_t *ones, int64_t count, const TYPE *table,
                                        int64_t columns) {
    v16 a = load16_f32(sum), b = load16_f32(sum + 16), c = load16_f32(sum + 32), d = load16_f32(sum + 48);
    for (int64_t s = 0; s < count; s++) {
        if (ones[s] < 0) continue;
        const TYPE *row = table + ones[s] * columns;
        a += LOAD16(row);
        b += LOAD16(row + 16);
        c += LOAD16(row + 32);
        d += LOAD16(row + 48);
    }
    memcpy(sum, &a, sizeof a);
    memcpy(sum + 16, &b, sizeof b);
    memcpy(sum + 32, &c, sizeof c);
    memcpy(sum + 48, &d, sizeof d);
}

/* The same for 8 columns. */
static inline void NAME(sum_8_columns)(float *sum, const int32_t *ones, int64_t count, const TYPE *table,
                                       int64_t columns) {
    for (int64_t s = 0; s < count; s++) {
        if (ones[s] < 0) continue;
        for (int64_t j = 0; j < 8; j++) sum[j] += LOAD(table + ones[s] * columns + j);
    }
}

/* out = elu(base + bias + sum over s of table[index[s]]): a dense layer of concatenated one-hot vectors, given by the
 * positions of their ones (-1 where a vector is zero), and a dense part whose product is `base` (or NULL).
 * index [rows, count], table [., columns]; rows of base and out may be wider than they are long. */
void NAME(one_hot_elu)(const int32_t *index, int64_t count, const TYPE *table, const TYPE *base, int64_t base_stride,
                       const float *bias, TYPE *out, int64_t out_stride, int64_t rows, int64_t columns) {
#pragma omp parallel if (rows * columns > 4096)
    {
        float *sum = malloc(columns * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const int32_t *ones = index + i * count;
            memcpy(sum, bias, columns * sizeof(float));
            int64_t j = 0;
            for (; j + 64 <= columns; j += 64) NAME(sum_64_columns)(sum + j, ones, count, table + j, columns);
            for (; j + 8 <= columns; j += 8) NAME(sum_8_columns)(sum + j, ones, count, table + j, columns);
            for (; j < columns; j++)
                for (int64_t s = 0; s < count; s++)
                    if (ones[s] >= 0) sum[j] += LOAD(table + ones[s] * columns + j);
            if (base) {
#pragma omp simd
                for (j = 0; j < columns; j++) sum[j] += LOAD(base + i * base_stride + j);
            }
#pragma omp simd
            for (j = 0; j < columns; j++) STORE(out + i * out_stride + j, elu(sum[j]));
        }
        free(sum);
    }
}

/* table_grad[index[i, s]] += grad[i]: the weight gradient of one-hot inputs. A thread has variables of its own, so that
 * no two write to one row: variable s of `count` uses rows of the table that no other uses. */
void NAME(one_hot_backward)(const int32_t *index, int64_t count, const TYPE *grad, float *table_grad, int64_t rows,
                            int64_t columns) {
#pragma omp parallel for schedule(static) if (rows * columns > 4096)
    for (int64_t s = 0; s < count; s++)
        for (int64_t i = 0; i < rows; i++) {
            const TYPE *g = grad + i * columns;
            if (index[i * count + s] < 0) continue;
            float *row = table_grad + (int64_t)index[i * count + s] * columns;
#pragma omp simd
            for (int64_t j = 0; j < columns; j++) row[j] += LOAD(g + j);
        }
}

/* Draw one class for each variable: the first whose cumulative probability exceeds noise * total; without noise the
 * most likely one. logits [rows, variables, classes]; index [rows, variables] holds variable * classes + class. */
void NAME(sample_one_hot)(const TYPE *logits, const float *bias, const float *noise, int32_t *index, int64_t rows,
                          int64_t variables, int64_t classes) {
#pragma omp parallel if (rows * variables * classes > 4096)
    {
        float *weight = malloc(classes * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t s = 0; s < variables; s++) {
                const TYPE *row = logits + (i * variables + s) * classes;
                const float *shift = bias + s * classes;
                float top = -INFINITY, total = 0;
#pragma omp simd
                for (int64_t k = 0; k < classes; k++) weight[k] = LOAD(row + k) + shift[k];
#pragma omp simd reduction(max : top)
                for (int64_t k = 0; k < classes; k++) top = weight[k] > top ? weight[k] : top;
                int64_t chosen = 0;
                if (noise) {
#pragma omp simd
                    for (int64_t k = 0; k < classes; k++) weight[k] = 1 + expm1_negative(weight[k] - top);
#pragma omp simd reduction(+ : total)
                    for (int64_t k = 0; k < classes; k++) total += weight[k];
                    float threshold = noise[i * variables + s] * total, cumulative = 0;
                    for (int64_t k = 0; k < classes; k++) {
                        cumulative += weight[k];
                        chosen += cumulative <= threshold;
                    }
                    chosen = chosen < classes ? chosen : classes - 1;
                } else {
                    while (chosen < classes - 1 && weight[chosen] != top) chosen++;
                }
                index[i * variables + s] = (int32_t)(s * classes + chosen);
            }
        free(weight);
    }
}

/* The pre-activations of a row of the recurrent cell: bias, joint layer norm; returns 1 / deviation. */
static float NAME(normalize)(const TYPE *pre, const float *bias, float *normal, int64_t width) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < width; j++) {
        normal[j] = LOAD(pre + j) + bias[j];
        sum += normal[j];
    }
    float mean = sum / width;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < width; j++) squares += (normal[j] - mean) * (normal[j] - mean);
    float scale = 1 / sqrtf(squares / width + 1e-3f);
#pragma omp simd
    for (int64_t j = 0; j < width; j++) normal[j] = (normal[j] - mean) * scale;
    return scale;
}

/* The GRU of dreamer/rssm.py after its matrix product. pre [rows, 3 * size]; state, next [rows, size] in float32, and
 * a copy of next in the type of activations, whose rows may be wider. */
void NAME(gru)(const TYPE *pre, const float *bias, const float *gamma, const float *beta, const float *state,
               float *next, TYPE *copy, int64_t copy_stride, int64_t rows, int64_t size) {
#pragma omp parallel if (rows * size > 4096)
    {
        float *normal = malloc(3 * size * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            NAME(normalize)(pre + i * 3 * size, bias, normal, 3 * size);
#pragma omp simd
            for (int64_t j = 0; j < size; j++) {
                float reset = sigmoid(normal[j] * gamma[j] + beta[j]);
                float candidate = tanh_(reset * (normal[size + j] * gamma[size + j] + beta[size + j]));
                float update = sigmoid(normal[2 * size + j] * gamma[2 * size + j] + beta[2 * size + j] + UPDATE_BIAS);
                float value = update * candidate + (1 - update) * state[i * size + j];
                next[i * size + j] = value;
                STORE(copy + i * copy_stride + j, value);
            }
        }
        free(normal);
    }
}

/* The gradient of the above: pre_grad is written, state_grad, gamma_grad and beta_grad are added to. One thread: the
 * batch is small where gradients are taken. */
void NAME(gru_backward)(const TYPE *pre, const float *bias, const float *gamma, const float *beta, const float *state,
                        const float *grad, TYPE *pre_grad, float *state_grad, float *gamma_grad, float *beta_grad,
                        int64_t rows, int64_t size) {
    int64_t width = 3 * size;
    float *normal = malloc(2 * width * sizeof(float)), *slope = normal + width;
    for (int64_t i = 0; i < rows; i++) {
        float scale = NAME(normalize)(pre + i * width, bias, normal, width);
#pragma omp simd
        for (int64_t j = 0; j < size; j++) {
            float reset = sigmoid(normal[j] * gamma[j] + beta[j]);
            float inner = normal[size + j] * gamma[size + j] + beta[size + j];
            float candidate = tanh_(reset * inner);
            float update = sigmoid(normal[2 * size + j] * gamma[2 * size + j] + beta[2 * size + j] + UPDATE_BIAS);
            float g = grad[i * size + j], to_inner = g * update * (1 - candidate * candidate);
            slope[j] = to_inner * inner * reset * (1 - reset);
            slope[size + j] = to_inner * reset;
            slope[2 * size + j] = g * (candidate - state[i * size + j]) * update * (1 - update);
            state_grad[i * size + j] += g * (1 - update);
        }
        float mean = 0, projection = 0;
#pragma omp simd reduction(+ : mean, projection)
        for (int64_t j = 0; j < width; j++) {
            gamma_grad[j] += slope[j] * normal[j];
            beta_grad[j] += slope[j];
            slope[j] *= gamma[j];
            mean += slope[j];
            projection += slope[j] * normal[j];
        }
        mean /= width;
        projection /= width;
#pragma omp simd
        for (int64_t j = 0; j < width; j++)
            STORE(pre_grad + i * width + j, scale * (slope[j] - mean - normal[j] * projection));
    }
    free(normal);
}

/* The gradient of logits whose straight-through sample has the gradient sample_grad, added to their own:
 * out = logits_grad + probs * (sample_grad - sum(probs * sample_grad)); all [rows, classes]. */
void NAME(straight_through_backward)(const float *probs, const float *sample_grad, const float *logits_grad, TYPE *out,
                                     int64_t rows, int64_t classes) {
#pragma omp parallel for schedule(static) if (rows * classes > 65536)
    for (int64_t i = 0; i < rows; i++) {
        const float *p = probs + i * classes, *g = sample_grad + i * classes;
        float mean = 0;
#pragma omp simd reduction(+ : mean)
        for (int64_t k = 0; k < classes; k++) mean += p[k] * g[k];
#pragma omp simd
        for (int64_t k = 0; k < classes; k++)
            STORE(out + i * classes + k, logits_grad[i * classes + k] + p[k] * (g[k] - mean));
    }
}

#endif
