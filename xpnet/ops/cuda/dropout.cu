// Dropout.  xpnet/ops/masks.py says how masks are drawn.

struct Words { unsigned int word[4]; };

// The four words of Philox4x32-10 (Salmon et al., 2011) for a counter and a key.
__device__ Words philox(unsigned int a, unsigned int b, unsigned int c, unsigned int d, unsigned int k, unsigned int l) {
    for (int i = 0; i < 10; ++i) {
        const unsigned long long first = 0xD2511F53ull * a, second = 0xCD9E8D57ull * c;
        a = (unsigned int)(second >> 32) ^ b ^ k;
        b = (unsigned int)second;
        c = (unsigned int)(first >> 32) ^ d ^ l;
        d = (unsigned int)first;
        k += 0x9E3779B9u;
        l += 0xBB67AE85u;
    }
    return Words{{a, b, c, d}};
}

// The number of the step at `cursor` of those that begin with number `first`.
extern "C" __global__ void step_of_masks(const int* first, const int* cursor, int* step) { *step = *first + *cursor; }

// y = x scale where the word of a value is not below the limit, else 0.  A thread for four units of a sample; blocks
// (of a replica's threads, R).  All replicas read one mask, or each its own of `masks`.
extern "C" __global__ void dropout(const real* x, int64 x_stride, const unsigned int* keys, const unsigned int* limits,
                                   const real* scales, int masks, const int* step, int layer, real* y, bool* kept,
                                   int n, int m) {
    const int groups = (m + 3) / 4, r = blockIdx.y, mask = masks > 1 ? r : 0;
    const int64 thread = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    const int sample = (int)(thread / groups), group = (int)(thread % groups);
    if (sample >= n) return;
    const Words words = philox(group, sample, layer, *step, keys[2 * mask], keys[2 * mask + 1]);
    const real scale = scales[mask];
    for (int k = 0; k < 4 && 4 * group + k < m; ++k) {
        const int64 at = (int64)sample * m + 4 * group + k, size = (int64)n * m;
        const bool keep = words.word[k] >= limits[mask];
        y[r * size + at] = keep ? x[r * x_stride + at] * scale : real(0);
        if (mask == r) kept[mask * size + at] = keep;
    }
}

// g <- g scale where a value was kept, else 0, for `size` numbers of each replica.
extern "C" __global__ void dropout_gradient(real* g, const bool* kept, const real* scales, int masks, int64 size) {
    const int r = blockIdx.y, mask = masks > 1 ? r : 0;
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) g[r * size + i] = kept[mask * size + i] ? g[r * size + i] * scales[mask] : real(0);
}
