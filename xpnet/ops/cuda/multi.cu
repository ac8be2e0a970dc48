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
constexpr int SAMPLES_AT_ONCE = MOMENTUM || MODIFIED_LOSS ? 1 : 2;      // of a thread's sums: as registers allow
constexpr int ROWS_AT_ONCE = MODIFIED_LOSS && !MOMENTUM ? 1 : 4;           // of a chunk that a thread writes back
constexpr int MOST_PARTS = 4;                                        // threads that share a tile of x W1, at most

// The first layer.  What else there is to know of it is in the plan, in shared memory, as sums leave few registers free:
//   at_W1      two chunks of W1 (CHUNK, padded)
//   at_raw     bytes of a chunk's features for two batches (n, RAW_ROW), if they are `staged`
//   at_scales  whole, rest and factor of the features of two chunks (3, CHUNK)
//   at_before  a chunk's inputs of the last batch (n, BEFORE_ROW)
//   at_now     a chunk's inputs of the next batch (CHUNK, across)
//   at_V1      with MOMENTUM, a chunk of velocities (CHUNK, padded), whose numbers one thread each fetches and stores
struct Stream {
    Source source;
    real* W;  // of the replica, in device memory
    int64 to_V;  // with MOMENTUM, from a number of W to its velocity
    real* memory;
    const Plan* plan;
    int n;
    bool nesterov;
};

// The first layer's scores, and g1 = dJ/d(x W1) * eta of the last step, (n, padded).
__device__ real* scores_of(const Stream& s) { return s.memory + s.plan->layers[0].at_y; }
__device__ real* g1_of(const Stream& s) { return s.memory + s.plan->at_g + s.plan->g_size; }

// Whether bytes wait in shared memory until they are standardised.
__device__ bool staged(const Stream& s) { return s.source.bytes && s.source.d % 4 == 0; }

// Samples of a batch, rounded up to whole tiles.
__device__ int across(const Stream& s) { return (s.n + 7) / 8 * 8; }

// A chunk of W1, and its scales: there is room for two, as one is computed while the next arrives.
__device__ real* chunk_of(const Stream& s, int first) {
    return s.memory + s.plan->at_W1 + first / CHUNK % 2 * CHUNK * s.plan->layers[0].padded;
}

__device__ real* scales_of(const Stream& s, int first) {
    return s.memory + s.plan->at_scales + first / CHUNK % 2 * 3 * CHUNK;
}

__device__ uint8* raw_of(const Stream& s, int which) {
    return reinterpret_cast<uint8*>(s.memory + s.plan->at_raw) + which * s.n * RAW_ROW;
}

// Begin to bring a chunk to shared memory; `last` and `next` are the samples of the two batches, or null.
__device__ void fetch_chunk(const Stream& s, int first, const int* last, const int* next) {
    real* W = chunk_of(s, first);
    const int m = s.plan->layers[0].m, padded = s.plan->layers[0].padded, d = s.source.d, j = threadIdx.x % WIDTH;
#pragma unroll 4
    for (int f = threadIdx.x / WIDTH; f < CHUNK; f += GROUPS) {
        if (j >= padded) continue;
        if (j < m && first + f < d) copy_later<sizeof(real)>(W + f * padded + j, s.W + (int64)(first + f) * m + j);
        else W[f * padded + j] = 0;
    }
    if (!staged(s)) return;
#pragma unroll 1
    for (int which = 0; which < 2; ++which) {
        const int* rows = which ? next : last;
        if (!rows) continue;
        uint8* to = raw_of(s, which);
#pragma unroll 4
        for (int k = threadIdx.x; k < s.n * MULTI_QUADS; k += THREADS) {
            const int i = k / MULTI_QUADS, f = 4 * (k % MULTI_QUADS);
            if (first + f < d) copy_later<4>(to + i * RAW_ROW + f, s.source.bytes + (int64)rows[i] * d + first + f);
        }
    }
    const int f = threadIdx.x % CHUNK, which = threadIdx.x / CHUNK;
    const real* from = which == 0 ? s.source.whole : which == 1 ? s.source.rest : s.source.factor;
    if (which < 3 && first + f < d)
        copy_later<sizeof(real)>(scales_of(s, first) + threadIdx.x, from + first + f);
}

// A chunk's velocities in shared memory.
__device__ real* velocities_of(const Stream& s) {
#if MOMENTUM
    return s.memory + s.plan->at_V1;
#else
    return nullptr;
#endif
}

// Begin to bring a chunk's velocities to shared memory.
__device__ void fetch_velocities(const Stream& s, int first) {
    real* V = velocities_of(s);
    const int m = s.plan->layers[0].m, padded = s.plan->layers[0].padded, j = threadIdx.x % WIDTH;
#pragma unroll 4
    for (int f = threadIdx.x / WIDTH; f < CHUNK; f += GROUPS) {
        if (j >= padded) continue;
        if (j < m && first + f < s.source.d)
            copy_later<sizeof(real)>(V + f * padded + j, s.W + (int64)(first + f) * m + j + s.to_V);
        else V[f * padded + j] = 0;
    }
}

// Inputs f to f + 3 of the chunk from `first` on, of sample i of a batch; 0 beyond the last feature.
__device__ real4 chunk_inputs(const Stream& s, int first, int row, const uint8* raw, int i, int f) {
    const Source& from = s.source;
    real x[4] = {};
    if (staged(s)) {
        const real* scales = scales_of(s, first) + f;
        const bytes4 quad = *reinterpret_cast<const bytes4*>(raw + i * RAW_ROW + f);
        const uint8 of[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
        for (int q = 0; q < 4; ++q)
            if (first + f < from.d) x[q] = (of[q] - scales[q] - scales[CHUNK + q]) * scales[2 * CHUNK + q];
    } else {
        const int64 at = (int64)row * from.d;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            const int feature = first + f + q;
            if (feature >= from.d) continue;
            if (!from.bytes) x[q] = from.values[at + feature];
            else x[q] = (from.bytes[at + feature] - from.whole[feature] - from.rest[feature]) * from.factor[feature];
        }
    }
    return real4{x[0], x[1], x[2], x[3]};
}

// The chunk's inputs of the last batch, sample by sample, and of the next one, feature by feature: as they are read.
__device__ void standardise_chunk(const Stream& s, int first, const int* last, const int* next) {
    real *before = s.memory + s.plan->at_before, *now = s.memory + s.plan->at_now;
    const int lane = threadIdx.x % 32, row = across(s);
#pragma unroll 1
    for (int f = 4 * (threadIdx.x / 32); f < CHUNK; f += 4 * (THREADS / 32)) {
        for (int i = lane; last && i < s.n; i += 32)
            *reinterpret_cast<real4*>(before + i * BEFORE_ROW + f) = chunk_inputs(s, first, last[i], raw_of(s, 0), i, f);
        for (int i = lane; next && i < s.n; i += 32) {
            const real4 x = chunk_inputs(s, first, next[i], raw_of(s, 1), i, f);
            now[f * row + i] = x.x;
            now[(f + 1) * row + i] = x.y;
            now[(f + 2) * row + i] = x.z;
            now[(f + 3) * row + i] = x.w;
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

// W of a chunk in shared memory moves by before' g1.  SHARE lanes have a tile of eight features by four units: each
// sums over every SHARE-th sample, and then moves some of the features.
__device__ void update_chunk(const Stream& s, real* W, real decay) {
    const int padded = s.plan->layers[0].padded, wide = padded / 4;
    const int lane = threadIdx.x % SHARE, tile = threadIdx.x / SHARE;
    const bool mine = tile < CHUNK / 8 * wide;
    const int j = mine ? 4 * (tile % wide) : 0, f = mine ? 8 * (tile / wide) : 0;
    const real *x = s.memory + s.plan->at_before + f, *g = g1_of(s) + j;
    real d[32] = {};
#pragma unroll SAMPLES_AT_ONCE
    for (int i = lane; i < s.n; i += SHARE)
        add_outer(d, load4(x + i * BEFORE_ROW), load4(x + i * BEFORE_ROW + 4), load4(g + i * padded));
    share_sums<32, SHARE>(d, lane);
    if (!mine) return;
#pragma unroll
    for (int p = 0; p < 8 / SHARE; ++p) {
        real* at = W + (f + lane * (8 / SHARE) + p) * padded + j;
        const real4 w = load4(at);
#if MOMENTUM
        const Push push = push_of(s.memory, s.plan, s.nesterov);
        real* of_at = velocities_of(s) + (at - W);
        real4 v = load4(of_at);
        *reinterpret_cast<real4*>(at) = real4{pushed(push, w.x, v.x, d[4 * p] + decay * w.x),
                                              pushed(push, w.y, v.y, d[4 * p + 1] + decay * w.y),
                                              pushed(push, w.z, v.z, d[4 * p + 2] + decay * w.z),
                                              pushed(push, w.w, v.w, d[4 * p + 3] + decay * w.w)};
        *reinterpret_cast<real4*>(of_at) = v;
#else
        *reinterpret_cast<real4*>(at) = real4{decay * w.x - d[4 * p], decay * w.y - d[4 * p + 1],
                                              decay * w.z - d[4 * p + 2], decay * w.w - d[4 * p + 3]};
#endif
    }
}

// Write a chunk back to device memory, if `store`; add its squares to the thread's number of `squares`.
__device__ void leave_chunk(const Stream& s, int first, const real* W, bool store, double* squares) {
    const int m = s.plan->layers[0].m, padded = s.plan->layers[0].padded, j = threadIdx.x % WIDTH;
    double sum = 0;
#pragma unroll ROWS_AT_ONCE
    for (int f = threadIdx.x / WIDTH; f < CHUNK; f += GROUPS) {
        if (j >= m || first + f >= s.source.d) continue;
        const real w = W[f * padded + j];
        sum += (double)w * w;
        if (store) s.W[(int64)(first + f) * m + j] = w;
        if (MOMENTUM && store) s.W[(int64)(first + f) * m + j + s.to_V] = velocities_of(s)[f * padded + j];
    }
    squares[threadIdx.x] += sum;
}

// The sums of x W1 that a thread has: a tile of eight samples by four units, over every `parts`-th feature.
struct Tile {
    int i, j, part, parts;  // part < parts, but for threads that have none
};

__device__ Tile tile_of(const Stream& s) {
    const int wide = s.plan->layers[0].padded / 4, tiles = across(s) / 8 * wide, tile = threadIdx.x % tiles;
    return {8 * (tile / wide), 4 * (tile % wide), (int)threadIdx.x / tiles, min(MOST_PARTS, THREADS / tiles)};
}

// sums += now' W of a chunk
__device__ void multiply_chunk(const Stream& s, const real* W, real (&sums)[32]) {
    const Tile tile = tile_of(s);
    if (tile.part >= tile.parts) return;
    const int padded = s.plan->layers[0].padded, row = across(s);
    const real *x = s.memory + s.plan->at_now + tile.i, *w = W + tile.j;
#pragma unroll 2
    for (int f = tile.part; f < CHUNK; f += tile.parts)
        add_outer(sums, load4(x + f * row), load4(x + f * row + 4), load4(w + f * padded));
}

// y (n, padded) <- the sum of the tiles' parts, in their order.
__device__ void add_parts(const Stream& s, const real (&c)[32]) {
    const Tile tile = tile_of(s);
    real* y = scores_of(s);
    const int padded = s.plan->layers[0].padded;
    for (int part = 0; part < tile.parts; ++part) {
#pragma unroll
        for (int p = 0; p < 8; ++p) {
            if (tile.part != part || tile.i + p >= s.n) continue;
            real4* at = reinterpret_cast<real4*>(y + (tile.i + p) * padded + tile.j);
            real4 sum = {c[4 * p], c[4 * p + 1], c[4 * p + 2], c[4 * p + 3]};
            if (part) sum = real4{at->x + sum.x, at->y + sum.y, at->z + sum.z, at->w + sum.w};
            *at = sum;
        }
        __syncthreads();
    }
}

// Update W1 by the batch `last` and its gradient g1, if there is one, and multiply the batch `next` by it, if there is
// one.  Each thread's number of `squares` is its part of the sum of squares of W1 after the update.
__device__ void stream(const Stream& s, const int* last, const int* next, real decay, double* squares) {
    real sums[32] = {};
    squares[threadIdx.x] = 0;
    fetch_chunk(s, 0, last, next);
    if (MOMENTUM && last) fetch_velocities(s, 0);
#pragma unroll 1
    for (int first = 0; first < s.source.d; first += CHUNK) {
        real* W = chunk_of(s, first);
        copies_done();
        __syncthreads();
        standardise_chunk(s, first, last, next);
        __syncthreads();
        if (first + CHUNK < s.source.d) fetch_chunk(s, first + CHUNK, last, next);
        if (last) {
            update_chunk(s, W, decay);
            __syncthreads();
        }
        leave_chunk(s, first, W, last, squares);
        if (MOMENTUM && last && first + CHUNK < s.source.d) fetch_velocities(s, first + CHUNK);
        if (next) multiply_chunk(s, W, sums);
    }
    __syncthreads();  // the scores lie where the chunks were
    if (next) add_parts(s, sums);
}

// What a launch is given.
struct Call {
    int steps;
    const int64* perm;
    int64 orders;
    const double *eta, *lam;
    const real* alphas;
    const int* labels;
    double* total_loss;
    int64* total_correct;
    double* total_penalty;
};

// Train the network of this block; `work` is a form of `stream`.
template <typename Work>
__device__ void train_network(const Call& call, const Upper& u, const Stream& s, Work work) {
    const int r = blockIdx.x, replicas = gridDim.x, n = u.n;
    int* rows = reinterpret_cast<int*>(u.memory + u.plan->at_rows);  // samples of this batch and of the last one
    load_upper(u);
    real decay = 1;
    for (int step = 0; step <= call.steps; ++step) {
        const int* last = step ? rows + (step + 1) % 2 * n : nullptr;
        int* next = step < call.steps ? rows + step % 2 * n : nullptr;
        if (next && threadIdx.x < n) {
            const int row = call.perm[((int64)step * call.orders + (call.orders > 1 ? r : 0)) * n + threadIdx.x];
            next[threadIdx.x] = row;
            copy_later<4>(labels_of(u) + threadIdx.x, call.labels + row);
#if MODIFIED_LOSS
            real* weight = u.memory + u.plan->at_sample_weights + threadIdx.x;
            if (u.loss.sample_weights) copy_later<sizeof(real)>(weight, u.loss.sample_weights + row);
            else *weight = 1;
#endif
        }
        __syncthreads();
        work(s, last, next, decay, u.sums);
        if (!next) return;
        double squared = u.sums[threadIdx.x], loss, right;
        const int64 k = (int64)step * replicas + r;
        const double rate = call.eta[k];
        decay = decay_of(rate, call.lam[r]);
        upper_forward(u, call.alphas[step]);
        upper_loss(u, rate / n, loss, right);
        // g1 stays where no activations are.
        const real *g = upper_backward(u, decay, squared), *kept = g1_of(s);
        for (int i = threadIdx.x; g != kept && i < n * u.plan->layers[0].padded; i += THREADS) g1_of(s)[i] = g[i];
        squared = block_sum(squared, u.sums);  // of the weights before the updates
        if (threadIdx.x == 0) {
            call.total_loss[k] = loss;
            call.total_correct[k] = (int64)right;
            call.total_penalty[k] = squared;
        }
    }
}

// One block a replica (blockIdx.x) of THREADS threads: `steps` steps.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
multi_steps(int steps, const int64* perm, int64 orders, const double* eta, const double* lam, const real* alphas,
            const int* labels, const uint8* bytes, const real* values, const real* whole, const real* rest,
            const real* factor, const int* plan, int plan_size, real* W, int64 W_stride, real* weights,
            int64 weights_stride, real* units, int64 units_stride, real* running, int64 running_stride,
            double* total_loss, int64* total_correct, double* total_penalty, real eps, int n, int d, real* V,
            real* weight_velocities, real* unit_velocities, const real* rho, bool nesterov, const real* smoothing,
            const real* sample_weights) {
    __shared__ double sums[THREADS];
    const int r = blockIdx.x;
    load_plan(plan, plan_size);
    real* memory = reinterpret_cast<real*>(dynamic_memory);
    const Plan* at = reinterpret_cast<const Plan*>(dynamic_memory);
    const Tensors there{weights + r * weights_stride, units + r * units_stride, running + r * running_stride};
    const Call call{steps, perm, orders, eta, lam, alphas, labels, total_loss, total_correct, total_penalty};
    const Momentum momentum =
        momentum_of(weights, weight_velocities, units, unit_velocities, rho, nesterov);
    const Source source{bytes, values, whole, rest, factor, d};
    train_network(call, Upper{memory, at, sums, there, n, eps, momentum, loss_of(smoothing, sample_weights)},
                  Stream{source, W + r * W_stride, MOMENTUM ? V - W : 0, memory, at, n, nesterov}, stream);
}
