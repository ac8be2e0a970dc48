// Batches: rows of the data set, standardised where it is kept as bytes.

// out[i] = ((x[rows[i]] - whole) - rest) * factor for i < count, in this order: what xpnet.data.Standardiser stores.
// Blocks (count, d by four).
extern "C" __global__ void gather_bytes(const int64* rows, const uint8* x, const real* whole, const real* rest,
                                        const real* factor, real* out, int d) {
    const int64 from = rows[blockIdx.x] * d, to = (int64)blockIdx.x * d;
    const int j = 4 * (blockIdx.y * blockDim.x + threadIdx.x);
    if (d % 4 == 0) {
        if (j >= d) return;
        const bytes4 v = *reinterpret_cast<const bytes4*>(x + from + j);
        const real4 a = *reinterpret_cast<const real4*>(whole + j);
        const real4 b = *reinterpret_cast<const real4*>(rest + j);
        const real4 f = *reinterpret_cast<const real4*>(factor + j);
        real4 y;
        y.x = (v.x - a.x - b.x) * f.x;
        y.y = (v.y - a.y - b.y) * f.y;
        y.z = (v.z - a.z - b.z) * f.z;
        y.w = (v.w - a.w - b.w) * f.w;
        *reinterpret_cast<real4*>(out + to + j) = y;
        return;
    }
    for (int k = j; k < j + 4 && k < d; ++k) out[to + k] = (x[from + k] - whole[k] - rest[k]) * factor[k];
}

// out[i] = x[rows[i]] for i < count.
extern "C" __global__ void gather_values(const int64* rows, const real* x, real* out, int d) {
    const int64 from = rows[blockIdx.x] * d, to = (int64)blockIdx.x * d;
    const int j = 4 * (blockIdx.y * blockDim.x + threadIdx.x);
    if (d % 4 == 0) {
        if (j < d) *reinterpret_cast<real4*>(out + to + j) = *reinterpret_cast<const real4*>(x + from + j);
        return;
    }
    for (int k = j; k < j + 4 && k < d; ++k) out[to + k] = x[from + k];
}

// The place in a picture that its mirror image shows at `place`, which is at most `size` - 1 beyond the border.
__device__ int reflected(int place, int size) {
    place = place < 0 ? -place : place;
    place = place < size ? place : 2 * (size - 1) - place;
    return place < 0 ? 0 : place;  // a picture of one pixel
}

// Bits `at` to `at` + 5 of a row, a number from -32 to 31.
__device__ int moved(int64 row, int at) {
    const int bits = (int)(row >> at) & 63;
    return bits - 2 * (bits & 32);
}

// out[i] = the pictures of rows[i], in their views, as means of squares of `pool` pixels, standardised, and 0 in the
// square that a view cuts out: xpnet/data/transformed_rows.py without its projection.  Bits of a row: see
// xpnet/data/views.py.  Blocks (count, cells).  A thread has a cell, and reads its pixels where they lie: neighbouring
// threads read neighbours in a line, and the lines of a square come from the first cache.
template <typename T>
__device__ void pictures(const int64* rows, const T* x, const real* whole, const real* rest, const real* factor,
                         real* out, int channels, int height, int width, int pool, bool constant, int cutout) {
    const int lines = height / pool, cells = width / pool, size = channels * lines * cells;
    const int64 row = rows[blockIdx.x];
    const T* picture = x + (row & 0xffffffff) * channels * height * width;
    const bool flip = row >> 32 & 1;
    const int down = moved(row, 33), right = moved(row, 39);
    const int cut_line = (int)(row >> 45 & 511) - 1, cut_column = (int)(row >> 54 & 511) - 1;  // -1: none is cut out
    const real share = real(1) / (pool * pool);
    for (int k = blockIdx.y * blockDim.x + threadIdx.x; k < size; k += gridDim.y * blockDim.x) {
        const int column = k % cells, line = k / cells % lines, channel = k / (cells * lines);
        const int top = line * pool, left = column * pool;
        // Twice the distances of the cell's centre from that of the square.
        const int below = 2 * (top - cut_line) + pool - 1, beside = 2 * (left - cut_column) + pool - 1;
        real mean = 0;
        for (int i = 0; i < pool; ++i) {
            const int y = top + i - down;
            const T* pixels = picture + ((int64)channel * height + reflected(y, height)) * width;
            for (int j = 0; j < pool; ++j) {
                const int across = (flip ? width - 1 - left - j : left + j) - right;
                const bool inside = y >= 0 && y < height && across >= 0 && across < width;
                mean += constant && !inside ? real(0) : real(pixels[reflected(across, width)]);
            }
        }
        if (pool > 1) mean *= share;
        const bool cut = cut_line >= 0 && -cutout <= below && below < cutout && -cutout <= beside && beside < cutout;
        out[(int64)blockIdx.x * size + k] = cut ? real(0) : (mean - whole[k] - rest[k]) * factor[k];
    }
}

extern "C" __global__ void gather_picture_bytes(const int64* rows, const uint8* x, const real* whole, const real* rest,
                                                const real* factor, real* out, int channels, int height, int width,
                                                int pool, bool constant, int cutout) {
    pictures(rows, x, whole, rest, factor, out, channels, height, width, pool, constant, cutout);
}

extern "C" __global__ void gather_picture_values(const int64* rows, const real* x, const real* whole, const real* rest,
                                                 const real* factor, real* out, int channels, int height, int width,
                                                 int pool, bool constant, int cutout) {
    pictures(rows, x, whole, rest, factor, out, channels, height, width, pool, constant, cutout);
}
