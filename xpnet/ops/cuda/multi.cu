// One network a block: all steps of a call, without a word between blocks.
//
// W1 does not fit into a multiprocessor.  It streams through once a step, CHUNK rows at a time: a chunk is updated by
// the gradient of the last step, multiplies the next batch, and goes back to memory.  All other layers stay in shared
// memory for the whole call; see upper.cu.  So step t has two phases:
//
//   stream   W1 <- keep W1 - x(t-1)' g1, s1 = x(t) W1, for one chunk after the other
//   upper    forward, loss, backward and updates of the other layers, which leave g1 for the next step
//
// A call ends with a stream that only updates.  While one chunk is computed, the next one's numbers are on their way.

#define CHUNK 64

constexpr int MULTI_QUADS = CHUNK / 4;                               // of neighbouring features
constexpr int BEFORE_ROW = CHUNK + 4;                                // numbers of a sample of the last batch
constexpr int RAW_ROW = CHUNK + 4;                                   // bytes of a sample: rows begin in other banks
constexpr int SHARE = THREADS / (CHUNK / 8 * (WIDTH / 4));           // threads that share a tile of a chunk's gradient
constexpr int MOST_PARTS = 4;                                        // threads that share a tile of x W1, at most

// The first layer, and where a block has the parts of it that it works on.
struct Stream {
    Source source;
    real* W;                // of the replica, in device memory
    const real* g1;         // (n, padded) dJ/d(x W1) * eta of the last step
    int n, m, padded;
    int across;             // samples of a batch, rounded up to a multiple of eight
    bool staged;            // bytes wait in `raw` until they are standardised
    real *before, *now;     // the chunk's inputs: of the last batch (n, BEFORE_ROW), of the next one (CHUNK, across)
    real* chunks;           // two chunks of W1 (CHUNK, padded)
    uint8* raw;             // two batches (n, RAW_ROW)
    real* scales;           // whole, rest and factor of the chunk's features (3, CHUNK)
};

// Begin to bring a chunk to shared memory; `last` and `next` are the samples of the two batches, or null.
__device__ void fetch_chunk(const Stream& s, int first, real* W, const int* last, const int* next) {
    const int j = threadIdx.x % WIDTH;
#pragma unroll
    for (int f = threadIdx.x / WIDTH; f < CHUNK; f += GROUPS) {
        if (j >= s.padded) continue;
        const bool there = j < s.m && first + f < s.source.d;
        if (there) copy_later<sizeof(real)>(W + f * s.padded + j, s.W + (int64)(first + f) * s.m + j);
        else W[f * s.padded + j] = 0;
    }
    if (!s.staged) return;
    for (int which = 0; which < 2; ++which) {
        const int* rows = which ? next : last;
        if (!rows) continue;
        uint8* to = s.raw + which * s.n * RAW_ROW;
#pragma unroll 4
        for (int k = threadIdx.x; k < s.n * MULTI_QUADS; k += THREADS) {
            const int i = k / MULTI_QUADS, f = 4 * (k % MULTI_QUADS);
            if (first + f < s.source.d)
                copy_later<4>(to + i * RAW_ROW + f, s.source.bytes + (int64)rows[i] * s.source.d + first + f);
        }
    }
    const int f = threadIdx.x % CHUNK, which = threadIdx.x / CHUNK;
    const real* from = which == 0 ? s.source.whole : which == 1 ? s.source.rest : s.source.factor;
    if (which < 3 && first + f < s.source.d) copy_later<sizeof(real)>(s.scales + threadIdx.x, from + first + f);
}

// Input f of the chunk from `first` on, of sample i of a batch.
__device__ real chunk_input(const Stream& s, int first, const int* rows, const uint8* raw, int i, int f) {
    const Source& from = s.source;
    if (first + f >= from.d) return 0;
    const int64 at = (int64)rows[i] * from.d + first + f;
    if (!from.bytes) return from.values[at];
    if (s.staged) return (raw[i * RAW_ROW + f] - s.scales[f] - s.scales[CHUNK + f]) * s.scales[2 * CHUNK + f];
    return (from.bytes[at] - from.whole[first + f] - from.rest[first + f]) * from.factor[first + f];
}

// The chunk's inputs of the last batch, sample by sample, and of the next one, feature by feature: as they are read.
__device__ void standardise_chunk(const Stream& s, int first, const int* last, const int* next) {
    const int lane = threadIdx.x % 32;
    for (int f = 4 * (threadIdx.x / 32); f < CHUNK; f += 4 * (THREADS / 32)) {
        for (int i = lane; last && i < s.n; i += 32) {
            real x[4];
#pragma unroll
            for (int q = 0; q < 4; ++q) x[q] = chunk_input(s, first, last, s.raw, i, f + q);
            *reinterpret_cast<real4*>(s.before + i * BEFORE_ROW + f) = real4{x[0], x[1], x[2], x[3]};
        }
        for (int i = lane; next && i < s.n; i += 32) {
#pragma unroll
            for (int q = 0; q < 4; ++q)
                s.now[(f + q) * s.across + i] = chunk_input(s, first, next, s.raw + s.n * RAW_ROW, i, f + q);
        }
    }
}

// c += a b' for eight numbers a and four numbers b.
__device__ __forceinline__ void add_outer(real (&c)[32], real4 low, real4 high, real4 b) {
    const real a[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int p = 0; p < 8; ++p) {
        c[4 * p] += a[p] * b.x;
        c[4 * p + 1] += a[p] * b.y;
        c[4 * p + 2] += a[p] * b.z;
        c[4 * p + 3] += a[p] * b.w;
    }
}

// W <- keep W - before' g1 of a chunk in shared memory.  SHARE lanes have a tile of eight features by four units: each
// sums over every SHARE-th sample, and then moves some of the features.
__device__ void update_chunk(const Stream& s, real* W, real keep) {
    const int wide = s.padded / 4, lane = threadIdx.x % SHARE, tile = threadIdx.x / SHARE;
    const bool mine = tile < CHUNK / 8 * wide;
    const int j = mine ? 4 * (tile % wide) : 0, f = mine ? 8 * (tile / wide) : 0;
    real d[32] = {};
#pragma unroll 2
    for (int i = lane; i < s.n; i += SHARE) {
        const real* x = s.before + i * BEFORE_ROW + f;
        add_outer(d, load4(x), load4(x + 4), load4(s.g1 + i * s.padded + j));
    }
    share_sums<32, SHARE>(d, lane);
    if (!mine) return;
#pragma unroll
    for (int p = 0; p < 8 / SHARE; ++p) {
        real* at = W + (f + lane * (8 / SHARE) + p) * s.padded + j;
        const real4 w = load4(at);
        *reinterpret_cast<real4*>(at) = real4{keep * w.x - d[4 * p], keep * w.y - d[4 * p + 1],
                                              keep * w.z - d[4 * p + 2], keep * w.w - d[4 * p + 3]};
    }
}

// Write a chunk back to device memory, if `store`; returns this thread's part of its sum of squares.
__device__ double leave_chunk(const Stream& s, int first, const real* W, bool store) {
    const int j = threadIdx.x % WIDTH;
    double squares = 0;
#pragma unroll
    for (int f = threadIdx.x / WIDTH; f < CHUNK; f += GROUPS) {
        if (j >= s.m || first + f >= s.source.d) continue;
        const real w = W[f * s.padded + j];
        squares += (double)w * w;
        if (store) s.W[(int64)(first + f) * s.m + j] = w;
    }
    return squares;
}

// The threads that share the sums of x W1: a thread has a tile of eight samples by four units, of some features.
struct Tile {
    int i, j, part, parts;  // part < parts, but for threads that have none
};

__device__ Tile tile_of(const Stream& s) {
    const int wide = s.padded / 4, tiles = s.across / 8 * wide, tile = threadIdx.x % tiles;
    return {8 * (tile / wide), 4 * (tile % wide), (int)threadIdx.x / tiles, min(MOST_PARTS, THREADS / tiles)};
}

// y (n, padded) <- the sum of the tiles' parts, in their order.
__device__ void add_parts(const Stream& s, const Tile& tile, const real (&c)[32], real* y) {
    for (int part = 0; part < tile.parts; ++part) {
#pragma unroll
        for (int p = 0; p < 8; ++p) {
            if (tile.part != part || tile.i + p >= s.n) continue;
            real4* at = reinterpret_cast<real4*>(y + (tile.i + p) * s.padded + tile.j);
            real4 sum = {c[4 * p], c[4 * p + 1], c[4 * p + 2], c[4 * p + 3]};
            if (part) sum = real4{at->x + sum.x, at->y + sum.y, at->z + sum.z, at->w + sum.w};
            *at = sum;
        }
        __syncthreads();
    }
}

// Update W1 by the batch `last` if there is one, and multiply the batch `next` by it if there is one: y = s1.
// Returns this thread's part of the sum of squares of W1 after the update.
__device__ double stream(const Stream& s, const int* last, const int* next, real keep, real* y) {
    const int chunks = (s.source.d + CHUNK - 1) / CHUNK, size = CHUNK * s.padded;
    const Tile tile = tile_of(s);
    real sums[32] = {};
    double squares = 0;
    fetch_chunk(s, 0, s.chunks, last, next);
    for (int chunk = 0; chunk < chunks; ++chunk) {
        real* W = s.chunks + chunk % 2 * size;
        copies_done();
        __syncthreads();
        standardise_chunk(s, chunk * CHUNK, last, next);
        __syncthreads();
        if (chunk + 1 < chunks) fetch_chunk(s, (chunk + 1) * CHUNK, s.chunks + (chunk + 1) % 2 * size, last, next);
        if (last) {
            update_chunk(s, W, keep);
            __syncthreads();
        }
        squares += leave_chunk(s, chunk * CHUNK, W, last);
        if (next && tile.part < tile.parts) {
#pragma unroll 2
            for (int f = tile.part; f < CHUNK; f += tile.parts) {
                const real* x = s.now + f * s.across + tile.i;
                add_outer(sums, load4(x), load4(x + 4), load4(W + f * s.padded + tile.j));
            }
        }
    }
    __syncthreads();  // y lies where the chunks were
    if (next) add_parts(s, tile, sums, y);
    return squares;
}

// One block a replica (blockIdx.x) of THREADS threads: `steps` steps.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
multi_steps(int steps, const int64* perm, int64 orders, const double* eta, const double* lam, const real* alphas,
            const int* labels, const uint8* bytes, const real* values, const real* whole, const real* rest,
            const real* factor, const int* plan, int plan_size, real* W, int64 W_stride, real* weights,
            int64 weights_stride, real* units, int64 units_stride, real* running, int64 running_stride,
            double* total_loss, int64* total_correct, double* total_penalty, real eps, int n, int d) {
    __shared__ double sums[THREADS];
    const int r = blockIdx.x, replicas = gridDim.x;
    load_plan(plan, plan_size);
    real* memory = reinterpret_cast<real*>(dynamic_memory);
    const Plan& at = *reinterpret_cast<const Plan*>(dynamic_memory);
    const Layer& first = at.layers[0];
    const Tensors there{weights + r * weights_stride, units + r * units_stride, running + r * running_stride};
    const Upper u{memory, &at, sums, there, n, eps};
    real *y = memory + first.at_y, *kept = gradient_of(u, 1);
    const Stream s{{bytes, values, whole, rest, factor, d}, W + r * W_stride, kept, n, first.m, first.padded,
                   (n + 7) / 8 * 8, bytes && d % 4 == 0, memory + at.at_before, memory + at.at_now,
                   memory + at.at_W1, reinterpret_cast<uint8*>(memory + at.at_raw), memory + at.at_scales};
    int* rows = reinterpret_cast<int*>(memory + at.at_rows);  // samples of this batch and of the last one
    load_upper(u);

    const double lambda = lam[r];
    real keep = 1;
    for (int step = 0; step < steps; ++step) {
        const int *last = step ? rows + (step + 1) % 2 * n : nullptr, *next = rows + step % 2 * n;
        if (threadIdx.x < n) {
            const int row = perm[((int64)step * orders + (orders > 1 ? r : 0)) * n + threadIdx.x];
            rows[step % 2 * n + threadIdx.x] = row;
            labels_of(u)[threadIdx.x] = labels[row];
        }
        const double rate = eta[(int64)step * replicas + r];
        const real alpha = alphas[step];
        __syncthreads();
        double squared = stream(s, last, next, keep, y), loss, right;
        keep = 1 - 2 * rate * lambda;
        upper_forward(u, alpha);
        upper_loss(u, rate / n, loss, right);
        const real* g = upper_backward(u, keep, squared);
        for (int k = threadIdx.x; g != kept && k < n * first.padded; k += THREADS) kept[k] = g[k];
        squared = block_sum(squared, sums);  // of the weights before the updates
        if (threadIdx.x == 0) {
            const int64 k = (int64)step * replicas + r;
            total_loss[k] = loss;
            total_correct[k] = (int64)right;
            total_penalty[k] = squared;
        }
    }
    stream(s, rows + (steps + 1) % 2 * n, nullptr, keep, nullptr);
}
