/* Convolutions of stride 2 without padding, and their gradients, in bfloat16 for processors with AVX-512-BF16;
 * strided_bf16.py calls them and says how weights are laid out. Elsewhere the file is empty.
 *
 * The tile that stays in registers has eight rows, which are positions of the image, and up to three groups of sixteen
 * lanes, which are channels. A lane is given 32 bits at a time, a `unit`: two bfloat16, for which the processor adds
 * x[0] * w[0] + x[1] * w[1] at once. Sums are float32. Images are dense [N, height, width, channels], so that the
 * `kernel` pixels which a kernel covers in one row are neighbours in memory: a run. Images are distributed to threads
 * in the same way in every call.
 */

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

#include <immintrin.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 8
#define LANES 16
#define UNIT 2
#define MOST_GROUPS 3
#define INLINE static inline __attribute__((always_inline))

typedef uint16_t bf16;
typedef __m512 Tile[ROWS][MOST_GROUPS];

/* As `elu` of kernels.c, for sixteen numbers. */
INLINE __m512 elu(__m512 x) {
    __m512 negative = _mm512_max_ps(_mm512_set1_ps(-87.0f), _mm512_min_ps(_mm512_setzero_ps(), x));
    __m512 n = _mm512_roundscale_ps(negative * 1.44269504f, _MM_FROUND_TO_NEAREST_INT);
    __m512 r = negative - n * 0.693359375f + n * 2.12194440e-4f;
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r;
    __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), scale * p + (scale - 1), x);
}

/* sums + the products of a unit of each lane with one that is the same for all. */
INLINE __m512 multiply(__m512 sums, __m512i weight, int32_t unit) {
    return _mm512_dpbf16_ps(sums, (__m512bh)weight, (__m512bh)_mm512_set1_epi32(unit));
}

/* Eight lanes each to two places; the second may be NULL. */
INLINE void store(bf16 *first, bf16 *second, __m512 sums) {
    __m256i rounded = (__m256i)_mm512_cvtneps_pbh(sums);
    _mm_storeu_si128((__m128i *)first, _mm256_castsi256_si128(rounded));
    if (second) _mm_storeu_si128((__m128i *)second, _mm256_extracti128_si256(rounded, 1));
}

/* Sixteen columns of two rows, as units. */
INLINE void join(const bf16 *const *rows, int64_t column, bf16 *out) {
    __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(rows[0] + column)));
    __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(rows[1] + column)));
    _mm512_storeu_si512(out, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
}

/* tile[r][g] += sum over k of unit k of row r, which is at rows + row_offset[r] + k * step, times weight[k][g]. */
INLINE void multiply_tile(Tile tile, const bf16 *rows, const int64_t *row_offset, int64_t step,
                          const bf16 *weight, int64_t units, const int groups) {
    for (int64_t k = 0; k < units; k++) {
        __m512i w[MOST_GROUPS];
#pragma GCC unroll 3
        for (int g = 0; g < groups; g++) w[g] = _mm512_loadu_si512(weight + (k * groups + g) * UNIT * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            int32_t unit;
            memcpy(&unit, rows + row_offset[r] + k * step, sizeof unit);
#pragma GCC unroll 3
            for (int g = 0; g < groups; g++) tile[r][g] = multiply(tile[r][g], w[g], unit);
        }
    }
}

/* Some positions of an image and what is computed at each: a sum over kernel rows (`taps`) of products of a run with a
 * row of the kernel, a bias, perhaps ELU. */
typedef struct {
    const bf16 *source;                               /* where the run of the first position begins */
    int64_t height, width, source_down, source_right; /* how many positions, and the way from one to the next */
    int64_t taps, units;                              /* rows of the kernel, and the length of a run */
    const int64_t *offset, *kernel_row;               /* of each tap: from `source`; which row of the kernel it is */
    bf16 *out;
    int64_t out_down, out_right;
} Strip;

/* What is the same for all strips. */
typedef struct {
    const bf16 *weight;   /* [columns / 48][kernel rows][units][up to 3 groups][16][unit] */
    const float *bias;    /* [columns], or NULL */
    int64_t kernel_rows, columns;
    const int64_t *place; /* for each eight columns: where they go, from a position's place in `out` */
    int64_t with_elu;
} Kernel;

INLINE void store_group(const Kernel *kernel, bf16 *out, __m512 sums, int64_t group) {
    int whole = (2 * group + 1) * LANES / 2 < kernel->columns;
    store(out + kernel->place[2 * group], whole ? out + kernel->place[2 * group + 1] : NULL, sums);
}

INLINE void convolve_groups(const Strip *strip, const Kernel *kernel, const bf16 *weight,
                            int64_t first, const int groups) {
    int64_t positions = strip->height * strip->width;
    for (int64_t p = 0; p < positions; p += ROWS) {
        int64_t source[ROWS], out[ROWS], count = positions - p < ROWS ? positions - p : ROWS;
        for (int r = 0; r < ROWS; r++) {
            int64_t position = p + (r < count ? r : count - 1), y = position / strip->width;
            int64_t x = position - y * strip->width;
            source[r] = y * strip->source_down + x * strip->source_right;
            out[r] = y * strip->out_down + x * strip->out_right;
        }
        Tile tile;
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
            for (int g = 0; g < groups; g++)
                tile[r][g] = kernel->bias ? _mm512_loadu_ps(kernel->bias + (first + g) * LANES) : _mm512_setzero_ps();
        for (int64_t t = 0; t < strip->taps; t++) {
            const bf16 *row = weight + strip->kernel_row[t] * strip->units * groups * UNIT * LANES;
            multiply_tile(tile, strip->source + strip->offset[t], source, UNIT, row, strip->units, groups);
        }
        if (kernel->with_elu) {
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
                for (int g = 0; g < groups; g++) tile[r][g] = elu(tile[r][g]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
            for (int g = 0; g < groups; g++)
                if (r < count) store_group(kernel, strip->out + out[r], tile[r][g], first + g);
    }
}

static void convolve_strip(const Strip *strip, const Kernel *kernel) {
    int64_t groups = (kernel->columns + LANES - 1) / LANES, size = kernel->kernel_rows * strip->units * UNIT * LANES;
    const bf16 *weight = kernel->weight;
    for (int64_t group = 0; group < groups;) {
        int64_t now = groups - group < MOST_GROUPS ? groups - group : MOST_GROUPS;
        if (now == 3) convolve_groups(strip, kernel, weight, group, 3);
        if (now == 2) convolve_groups(strip, kernel, weight, group, 2);
        if (now == 1) convolve_groups(strip, kernel, weight, group, 1);
        weight += now * size;
        group += now;
    }
}

/* A convolution: image [number, height, width, in] to out [number, (height - kernel) / 2 + 1, ..., out_channels]. */
void convolve_bf16(const bf16 *image, const bf16 *weight, const float *bias, bf16 *out, int64_t number, int64_t height,
                   int64_t width, int64_t in, int64_t out_channels, int64_t kernel, int64_t with_elu) {
    int64_t out_height = (height - kernel) / 2 + 1, out_width = (width - kernel) / 2 + 1, eighths = out_channels / 8;
    int64_t offset[kernel], kernel_row[kernel], place[eighths];
    for (int64_t i = 0; i < kernel; i++) offset[i] = i * width * in, kernel_row[i] = i;
    for (int64_t i = 0; i < eighths; i++) place[i] = i * 8;
    Kernel shared = { weight, bias, kernel, out_channels, place, with_elu };
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < number; n++) {
        Strip strip = { image + n * height * width * in, out_height, out_width, 2 * width * in, 2 * in,
                        kernel, kernel * in / UNIT, offset, kernel_row,
                        out + n * out_height * out_width * out_channels, out_width * out_channels, out_channels };
        convolve_strip(&strip, &shared);
    }
}

/* A transposed convolution with an even kernel: image [number, height, width, in] to out [number, out_height,
 * out_width, channels], zero where nothing falls. With half = kernel / 2, it is an ordinary convolution to blocks of
 * 2 x 2 pixels: out[2i + p, 2j + q] = sum over a, b < half of image[i - a, j - b] * weight[2a + p, 2b + q].
 * `together` neighbouring blocks of a row are one position. */
void convolve_transposed_bf16(const bf16 *image, const bf16 *weight, const float *bias, bf16 *out, int64_t number,
                              int64_t height, int64_t width, int64_t in, int64_t out_height, int64_t out_width,
                              int64_t channels, int64_t kernel, int64_t together, int64_t with_elu) {
    int64_t half = kernel / 2, border = half - 1, padded_width = width + 2 * border;
    int64_t rows = height + border, blocks = (width + border) / together, line = out_width * channels;
    int64_t block = 2 * together * channels, place[2 * block / 8];
    for (int64_t i = 0; i < 2 * block / 8; i++) place[i] = i * 8 / block * line + i * 8 % block;
    Kernel shared = { weight, bias, half, 2 * block, place, with_elu };
#pragma omp parallel
    {
        bf16 *padded = calloc(height * padded_width * in, sizeof(bf16));
#pragma omp for schedule(static)
        for (int64_t n = 0; n < number; n++) {
            for (int64_t y = 0; y < height; y++)
                memcpy(padded + (y * padded_width + border) * in, image + (n * height + y) * width * in,
                       width * in * sizeof(bf16));
            for (int64_t i = 0; i < rows;) {
                int64_t offset[half], kernel_row[half], taps = 0;
                for (int64_t a = 0; a < half; a++)
                    if (i >= a && i - a < height) offset[taps] = (i - a) * padded_width * in, kernel_row[taps++] = a;
                /* Rows away from the edges see the whole kernel, all in the same way. */
                int64_t count = i == border && height > border ? height - border : 1;
                Strip strip = { padded, count, blocks, padded_width * in, together * in,
                                taps, (together + border) * in / UNIT, offset, kernel_row,
                                out + (n * out_height + 2 * i) * line, 2 * line, block };
                convolve_strip(&strip, &shared);
                i += count;
            }
            for (int64_t y = 0; y < out_height; y++) {
                int64_t filled = y < 2 * rows ? blocks * block : 0;
                memset(out + (n * out_height + y) * line + filled, 0, (line - filled) * sizeof(bf16));
            }
        }
        free(padded);
    }
}

/* sum[r][16 g + lane] += sum over units k of left[k][r] * right[k][g][lane]. */
INLINE void accumulate(const bf16 *left, const bf16 *right, int64_t units, float *sum, int64_t stride,
                       const int groups) {
    int64_t row_offset[ROWS];
    for (int r = 0; r < ROWS; r++) row_offset[r] = r * UNIT;
    Tile tile;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int g = 0; g < groups; g++) tile[r][g] = _mm512_loadu_ps(sum + r * stride + g * LANES);
    multiply_tile(tile, left, row_offset, UNIT * ROWS, right, units, groups);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int g = 0; g < groups; g++) _mm512_storeu_ps(sum + r * stride + g * LANES, tile[r][g]);
}

/* `count` pixels of `channels` each, by eights of channels and therein by units, the last one filled with zeros. */
static void pack_pixels(const bf16 *pixels, int64_t count, int64_t channels, const bf16 *zeros, bf16 *packed) {
    int64_t units = (count + UNIT - 1) / UNIT;
    for (int64_t p = 0; p < units * UNIT; p++) {
        const bf16 *pixel = p < count ? pixels + p * channels : zeros;
        for (int64_t m = 0; m < channels; m++)
            packed[(m / ROWS * ROWS * units + p / UNIT * ROWS + m % ROWS) * UNIT + p % UNIT] = pixel[m];
    }
}

/* What a kernel's first row covers at `count` positions, `columns` to a row and `positions` to an image, by panels of
 * up to three groups of lanes and therein by units. image [., height, width, in]. */
static void pack_runs(const bf16 *image, int64_t height, int64_t width, int64_t in, int64_t columns,
                      int64_t positions, int64_t count, int64_t run, const bf16 *zeros, bf16 *packed) {
    int64_t units = (count + UNIT - 1) / UNIT;
    for (int64_t k = 0; k < units; k++) {
        const bf16 *runs[UNIT];
        for (int64_t p = k * UNIT; p < (k + 1) * UNIT; p++) {
            int64_t n = p / positions, y = p % positions / columns, x = p % columns;
            runs[p % UNIT] = p < count ? image + ((n * height + 2 * y) * width + 2 * x) * in : zeros;
        }
        for (int64_t group = 0; group < run / LANES; group++) {
            int64_t panel = group / MOST_GROUPS * MOST_GROUPS, rest = run / LANES - panel;
            int64_t groups = rest < MOST_GROUPS ? rest : MOST_GROUPS;
            join(runs, group * LANES, packed + (panel * units + k * groups + group - panel) * UNIT * LANES);
        }
    }
}

/* The gradient of a kernel: result[i][m][j, c] is the sum over images and positions of
 * pixels[n, y, x, m] * image[n, 2y + i, 2x + j, c]. image [number, height, width, in], pixels [number, rows, columns,
 * out_channels], result [kernel][out_channels][kernel * in] in float32, to begin with zero. */
void kernel_gradient_bf16(const bf16 *image, const bf16 *pixels, float *result, int64_t number, int64_t height,
                          int64_t width, int64_t in, int64_t rows, int64_t columns, int64_t out_channels,
                          int64_t kernel) {
    int64_t run = kernel * in, positions = rows * columns, size = kernel * out_channels * run;
    int64_t threads = omp_get_max_threads(), images = (320 + positions - 1) / positions; /* at a time, for the cache */
    int64_t most = (images * positions + UNIT - 1) / UNIT * UNIT, longest = run > out_channels ? run : out_channels;
    float *sums = calloc((threads - 1) * size, sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads(); /* fewer, under a limit on threads */
        int64_t end = number * (me + 1) / team;
        float *sum = me ? sums + (me - 1) * size : result;
        bf16 *zeros = calloc(longest, sizeof(bf16));
        bf16 *left = malloc(most * out_channels * sizeof(bf16)), *right = malloc(most * run * sizeof(bf16));
        for (int64_t n = number * me / team; n < end; n += images) {
            int64_t count = (end - n < images ? end - n : images) * positions, units = (count + UNIT - 1) / UNIT;
            pack_pixels(pixels + n * positions * out_channels, count, out_channels, zeros, left);
            for (int64_t i = 0; i < kernel; i++) {
                const bf16 *seen = image + (n * height + i) * width * in;
                pack_runs(seen, height, width, in, columns, positions, count, run, zeros, right);
                for (int64_t panel = 0; panel < run / LANES; panel += MOST_GROUPS) {
                    const bf16 *factors = right + panel * units * UNIT * LANES;
                    int64_t groups = run / LANES - panel;
                    for (int64_t m = 0; m < out_channels; m += ROWS) {
                        float *to = sum + (i * out_channels + m) * run + panel * LANES;
                        const bf16 *row = left + m * units * UNIT;
                        if (groups >= 3) accumulate(row, factors, units, to, run, 3);
                        if (groups == 2) accumulate(row, factors, units, to, run, 2);
                        if (groups == 1) accumulate(row, factors, units, to, run, 1);
                    }
                }
            }
        }
        free(zeros), free(left), free(right);
    }
    for (int64_t t = 0; t < threads - 1; t++)
        for (int64_t j = 0; j < size; j++) result[j] += sums[t * size + j];
    free(sums);
}

#endif
