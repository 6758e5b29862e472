/* Convolution, ReLU and 2 x 2 max-pooling of few channels, and their gradients, in 32-bit floats.

   The batch is the innermost dimension of every array and a multiple of LANES: each vector has a
   pixel of eight images. What `dfal.nn.kernels` calls are the functions without `static`; shapes:

   x, of_x      (c, h, w, n)
   weight       (o, c, k, k), and as many gradients
   y            (o, rows, columns, n), pooled, with rows = (h - k + 1) / 2
   place        as y, which of the four pixels of a block is the largest, the first of equal ones;
                CUT where ReLU cut it
   pixels       (o, 2 rows, 2 columns, n), a gradient by the convolution's output */

#define LANES 8
#define CUT 4

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int places __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vector read(const float *at) { return *(const vector *)at; }
INLINE void write(float *at, vector value) { *(vector *)at = value; }

INLINE places is_nan(vector a) { return a != a; }

INLINE vector either(places chosen, vector a, vector b)
{
    return (vector)(((places)a & chosen) | ((places)b & ~chosen));
}

INLINE void forward(const float *x, const float *weight, const float *bias, float *y, int *place,
                    long relu, long c, long h, long w, long n, long o, const long k)
{
    const long rows = (h - k + 1) / 2, columns = (w - k + 1) / 2, size = c * k * k;
    const long of_filter = rows * columns * n;
    for (long f = 0; f < o; f += 2) {
        const long second = f + 1 < o;
        for (long p = 0; p < rows; p++)
        for (long q = 0; q < columns; q++)
        for (long m = 0; m < n; m += LANES) {
            vector sum[2][4] = {0};
            const float *one = weight + f * size, *two = one + second * size;
            for (long ch = 0; ch < c; ch++)
            for (long i = 0; i < k; i++) {
                const float *at = x + ((ch * h + 2 * p + i) * w + 2 * q) * n + m;
#pragma GCC unroll 8
                for (long j = 0; j < k; j++, at += n, one++, two++)
#pragma GCC unroll 4
                    for (int block = 0; block < 4; block++) {
                        const vector pixel = read(at + ((block / 2) * w + block % 2) * n);
                        sum[0][block] += *one * pixel;
                        sum[1][block] += *two * pixel;
                    }
            }
            for (long g = 0; g <= second; g++) {
                vector most = sum[g][0];
                places of_most = {0};
                for (int block = 1; block < 4; block++) {
                    const places larger = (sum[g][block] > most) | is_nan(sum[g][block]);
                    most = either(larger, sum[g][block], most);
                    of_most = (larger & block) | (of_most & ~larger);
                }
                if (bias)
                    most += bias[f + g];
                if (relu) {
                    const places alive = (most > 0) | is_nan(most);
                    most = (vector)((places)most & alive);
                    of_most = (of_most & alive) | (CUT & ~alive);
                }
                const long at = (f + g) * of_filter + (p * columns + q) * n + m;
                write(y + at, most);
                *(places *)(place + at) = of_most;
            }
        }
    }
}

/* Give the gradient of each block to its largest pixel, and add it to the filter's bias. */
void unpool(const float *gradient, const int *place, float *pixels, float *of_bias, long rows,
            long columns, long n, long o)
{
    for (long f = 0; f < o; f++) {
        vector sum = {0};
        for (long p = 0; p < rows; p++)
        for (long q = 0; q < columns; q++)
        for (long m = 0; m < n; m += LANES) {
            const long at = ((f * rows + p) * columns + q) * n + m;
            const vector value = read(gradient + at);
            const places chosen = *(const places *)(place + at);
            for (int block = 0; block < 4; block++) {
                const long row = f * 2 * rows + 2 * p + block / 2, column = 2 * q + block % 2;
                const vector here = (vector)((places)value & (chosen == block));
                write(pixels + (row * 2 * columns + column) * n + m, here);
                sum += here;
            }
        }
        for (int lane = 0; lane < LANES; lane++)
            of_bias[f] += sum[lane];
    }
}

/* Add the gradient by the weights to `of_weight`. */
INLINE void by_weight(const float *pixels, const float *x, float *of_weight, long c, long h, long w,
                      long n, long o, const long k)
{
    const long rows = (h - k + 1) / 2 * 2, columns = (w - k + 1) / 2 * 2;
    for (long f = 0; f < o; f += 2) {
        const long second = f + 1 < o;
        for (long ch = 0; ch < c; ch++)
        for (long i = 0; i < k; i++) {
            vector sum[2][7];
            for (long j = 0; j < k; j++)
                sum[0][j] = sum[1][j] = (vector){0};
            for (long p = 0; p < rows; p++)
            for (long q = 0; q < columns; q++)
            for (long m = 0; m < n; m += LANES) {
                const float *from = pixels + ((f * rows + p) * columns + q) * n + m;
                const vector one = read(from), two = read(from + second * rows * columns * n);
                const float *at = x + ((ch * h + p + i) * w + q) * n + m;
#pragma GCC unroll 8
                for (long j = 0; j < k; j++) {
                    const vector pixel = read(at + j * n);
                    sum[0][j] += one * pixel;
                    sum[1][j] += two * pixel;
                }
            }
            for (long g = 0; g <= second; g++)
                for (long j = 0; j < k; j++)
                    for (int lane = 0; lane < LANES; lane++)
                        of_weight[(((f + g) * c + ch) * k + i) * k + j] += sum[g][j][lane];
        }
    }
}

/* Write the gradient by the images. */
INLINE void by_images(const float *pixels, const float *weight, float *of_x, long c, long h, long w,
                      long n, long o, const long k)
{
    const long rows = (h - k + 1) / 2 * 2, columns = (w - k + 1) / 2 * 2;
    for (long ch = 0; ch < c; ch += 2) {
        const long second = ch + 1 < c;
        for (long u = 0; u < h; u++)
        for (long v = 0; v < w; v++)
        for (long m = 0; m < n; m += 2 * LANES) {
            const long more = m + LANES < n ? LANES : 0;
            const long first_i = u >= rows ? u - rows + 1 : 0, last_i = u < k ? u : k - 1;
            const long first_j = v >= columns ? v - columns + 1 : 0, last_j = v < k ? v : k - 1;
            vector sum[2][2] = {0};
            for (long f = 0; f < o; f++)
            for (long i = first_i; i <= last_i; i++)
            for (long j = first_j; j <= last_j; j++) {
                const float *from = pixels + ((f * rows + u - i) * columns + v - j) * n + m;
                const float *one = weight + ((f * c + ch) * k + i) * k + j;
                const float two = one[second * k * k];
                const vector here = read(from), next = read(from + more);
                sum[0][0] += *one * here;
                sum[0][1] += *one * next;
                sum[1][0] += two * here;
                sum[1][1] += two * next;
            }
            for (long g = 0; g <= second; g++) {
                float *at = of_x + (((ch + g) * h + u) * w + v) * n + m;
                write(at, sum[g][0]);
                if (more)
                    write(at + LANES, sum[g][1]);
            }
        }
    }
}

/* The side of a kernel is a constant in each of these, so that its loops are unrolled. */
#define FOR_EACH_SIDE(call)                                                                        \
    switch (k) {                                                                                   \
    case 3: call(3); break;                                                                        \
    case 5: call(5); break;                                                                        \
    case 7: call(7); break;                                                                        \
    }

void convolve(const float *x, const float *weight, const float *bias, float *y, int *place,
              long relu, long c, long h, long w, long n, long o, long k)
{
#define CALL(side) forward(x, weight, bias, y, place, relu, c, h, w, n, o, side)
    FOR_EACH_SIDE(CALL)
#undef CALL
}

void weights(const float *pixels, const float *x, float *of_weight, long c, long h, long w,
             long n, long o, long k)
{
#define CALL(side) by_weight(pixels, x, of_weight, c, h, w, n, o, side)
    FOR_EACH_SIDE(CALL)
#undef CALL
}

void images(const float *pixels, const float *weight, float *of_x, long c, long h, long w,
            long n, long o, long k)
{
#define CALL(side) by_images(pixels, weight, of_x, c, h, w, n, o, side)
    FOR_EACH_SIDE(CALL)
#undef CALL
}
