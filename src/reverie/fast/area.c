/* Makes images smaller by averaging areas; area.py calls it. */

#include <stdint.h>
#include <string.h>

/* image [height, width, channels] to out [rows, columns, channels].
 *
 * Row i of the result adds up row_taps rows from first_row[i] on, times row_weight[row_taps, rows]; columns likewise.
 * Where the weight is 0, the row or column may be missing. All weights of a pixel together are `total`.
 * sums has room for [width + column_taps, channels] and is zero at its end; line for [columns].
 */
void area(const uint8_t *restrict image, uint8_t *restrict out, int64_t width, int64_t channels,
          const int32_t *restrict first_row, const int32_t *restrict row_weight, int64_t rows, int64_t row_taps,
          const int32_t *restrict first_column, const int32_t *restrict column_weight, int64_t columns,
          int64_t column_taps, int64_t total, int32_t *restrict sums, int32_t *restrict line) {
    int64_t entries = width * channels;
    float scale = 1.0f / (float)total;
    for (int64_t i = 0; i < rows; i++) {
        memset(sums, 0, entries * sizeof(int32_t));
        for (int64_t k = 0; k < row_taps; k++) {
            int32_t weight = row_weight[k * rows + i];
            const uint8_t *source = image + (first_row[i] + k) * entries;
            if (weight)
                for (int64_t j = 0; j < entries; j++) sums[j] += weight * source[j];
        }
        for (int64_t c = 0; c < channels; c++) {
            memset(line, 0, columns * sizeof(int32_t));
            for (int64_t k = 0; k < column_taps; k++) {
                const int32_t *weight = column_weight + k * columns;
                for (int64_t j = 0; j < columns; j++)
                    line[j] += weight[j] * sums[(first_column[j] + k) * channels + c];
            }
            for (int64_t j = 0; j < columns; j++)
                out[(i * columns + j) * channels + c] = (uint8_t)((float)line[j] * scale + 0.5f);
        }
    }
}
