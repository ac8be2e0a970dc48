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
