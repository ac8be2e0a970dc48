// multi_steps with the products of the first layer on tensor cores, exact as in float32: see tensor.cu.
//
// An input is (byte - 128 + offset) factor, with the offset 128 - whole - rest of its feature.  So
//
//   x W    = (byte - 128) (factor W) + sum over features of offset factor W, the same for all samples
//   x' g1  = factor ((byte - 128)' g1 + offset times the sum over samples of g1)
//
// factor W and g1 are split in three parts.  A warp has tiles of 16 rows by 8 units, and adds 16 products at a time.

constexpr int WARPS = THREADS / 32;
constexpr int NOW_ROW = CHUNK / 2 + 4;  // words of a sample of the next batch, or of a unit of factor W: CHUNK and eight
constexpr int MOST_TILES = WIDTH / 8;   // of units, for a warp

// Words of a feature of the last batch, or of a unit of g1: its samples, rounded up to whole tiles, and eight numbers
// so that rows begin in other banks.
__device__ int sample_row(const Stream& s) { return (s.n + 15) / 16 * 8 + 4; }

__device__ int unit_tiles(const Stream& s) { return (s.plan->layers[0].padded + 7) / 8; }

__device__ word* words_of(const Stream& s, int at) { return reinterpret_cast<word*>(s.memory + at); }

// The chunk's bytes of both batches as bfloat16: of the last one feature by feature, of the next one sample by sample.
__device__ void widen_chunk(const Stream& s, int first, bool last, bool next) {
    const int lane = threadIdx.x % 32, row = sample_row(s), samples = (s.n + 15) / 16 * 16;
    half16* before = reinterpret_cast<half16*>(words_of(s, s.plan->at_before));
    word* now = words_of(s, s.plan->at_now);
#pragma unroll 1
    for (int f = 4 * (threadIdx.x / 32); f < CHUNK; f += 4 * WARPS) {
        for (int i = lane; i < samples; i += 32) {
            half16 x[2][4] = {};
            const bool there = i < s.n && first + f < s.source.d;  // zeros for all others
#pragma unroll
            for (int which = 0; which < 2; ++which) {
                if (!there || !(which ? next : last)) continue;
                const bytes4 quad = *reinterpret_cast<const bytes4*>(raw_of(s, which) + i * RAW_ROW + f);
                x[which][0] = centred(quad.x);
                x[which][1] = centred(quad.y);
                x[which][2] = centred(quad.z);
                x[which][3] = centred(quad.w);
            }
#pragma unroll
            for (int q = 0; q < 4; ++q) before[(f + q) * 2 * row + i] = x[0][q];
            now[i * NOW_ROW + f / 2] = x[1][0] | word(x[1][1]) << 16;
            now[i * NOW_ROW + f / 2 + 1] = x[1][2] | word(x[1][3]) << 16;
        }
    }
}

// Split g1 in its parts (3, units, sample_row), with zeros for samples that there are not, and sum it over the samples:
// at_totals has a sum for each unit.
__device__ void split_gradient(const Stream& s, real* part) {
    const real* g1 = g1_of(s);
    const int padded = s.plan->layers[0].padded, units = 8 * unit_tiles(s), row = sample_row(s);
    const int j = threadIdx.x % WIDTH, samples = (s.n + 15) / 16 * 16;
    half16* parts = reinterpret_cast<half16*>(words_of(s, s.plan->at_g_parts));
    real total = 0;
#pragma unroll 2
    for (int i = threadIdx.x / WIDTH; j < units && i < samples; i += GROUPS) {
        const real g = i < s.n && j < padded ? g1[i * padded + j] : real(0);
        total += g;
        float left = g;
#pragma unroll
        for (int p = 0; p < 3; ++p) parts[(p * units + j) * 2 * row + i] = next_part(left);
    }
    total = small_sum_of_unit(total, part);
    if (threadIdx.x < WIDTH) s.memory[s.plan->at_totals + j] = total;
}

// W of a chunk in shared memory moves by x' g1.  A warp has up to two tiles of 16 features by 8 units.
__device__ void update_chunk_bf16(const Stream& s, int first, real* W, real decay) {
    constexpr int ROWS = CHUNK / 16, COLUMNS = WARPS / ROWS, MINE = MOST_TILES / COLUMNS;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int tiles = unit_tiles(s), row = sample_row(s), padded = s.plan->layers[0].padded, f = 16 * (warp % ROWS);
    const word *x = words_of(s, s.plan->at_before) + f * row, *parts = words_of(s, s.plan->at_g_parts);
    float sums[MINE][4] = {};
    for (int p = 2; p >= 0; --p) {
#pragma unroll 2
        for (int i = 0; i < row - 4; i += 8) {
            word a[4], b[2];
            load_left(a, x + i, row);
#pragma unroll
            for (int k = 0; k < MINE; ++k) {
                const int tile = warp / ROWS + k * COLUMNS;
                if (tile >= tiles) continue;  // the same for all of a warp
                load_right(b, parts + (p * tiles + tile) * 8 * row + i, row);
                multiply_tile(sums[k], a, b);
            }
        }
    }
    const real *scales = scales_of(s, first), *totals = s.memory + s.plan->at_totals;
#pragma unroll
    for (int k = 0; k < 4 * MINE; ++k) {
        const int j = 8 * (warp / ROWS + k / 4 * COLUMNS) + 2 * t + k % 2, feature = f + g + k % 4 / 2 * 8;
        if (j >= padded || first + feature >= s.source.d) continue;
        const real offset = 128 - scales[feature] - scales[CHUNK + feature];
        const real step = scales[2 * CHUNK + feature] * (sums[k / 4][k % 4] + offset * totals[j]);
#if MOMENTUM
        const Push push = push_of(s.memory, s.plan, s.nesterov);
        const int at = feature * padded + j;
        W[at] = pushed(push, W[at], velocities_of(s)[at], step + decay * W[at]);
#else
        W[feature * padded + j] = decay * W[feature * padded + j] - step;
#endif
    }
}

// Split factor W of a chunk in its parts (3, units, NOW_ROW).  Returns its sum times the offsets, of unit
// j = threadIdx.x % WIDTH and of this thread's features.
__device__ real split_chunk(const Stream& s, int first, const real* W) {
    const int padded = s.plan->layers[0].padded, units = 8 * unit_tiles(s), j = threadIdx.x % WIDTH;
    const real* scales = scales_of(s, first);
    half16* parts = reinterpret_cast<half16*>(words_of(s, s.plan->at_W_parts));
    real total = 0;
#pragma unroll 2
    for (int f = threadIdx.x / WIDTH; j < units && f < CHUNK; f += GROUPS) {
        const bool there = first + f < s.source.d && j < padded;
        const real scaled = there ? scales[2 * CHUNK + f] * W[f * padded + j] : real(0);
        if (there) total += (128 - scales[f] - scales[CHUNK + f]) * scaled;
        float left = scaled;
#pragma unroll
        for (int p = 0; p < 3; ++p) parts[(p * units + j) * 2 * NOW_ROW + f] = next_part(left);
    }
    return total;
}

// The tiles of x W that a warp has: 16 samples by 8 units, for every `parts`-th tile of units.
struct WarpTiles {
    int i, first, parts;
};

__device__ WarpTiles warp_tiles(const Stream& s) {
    const int rows = (s.n + 15) / 16, warp = threadIdx.x / 32;
    return {16 * (warp % rows), warp / rows, WARPS / rows};
}

// sums += (byte - 128) (factor W) of a chunk: first the sums of the chunk, which are smaller, then all together.
__device__ void multiply_chunk_bf16(const Stream& s, float (&sums)[4 * MOST_TILES]) {
    const WarpTiles mine = warp_tiles(s);
    if (mine.first >= mine.parts) return;
    const int tiles = unit_tiles(s);
    const word *x = words_of(s, s.plan->at_now) + mine.i * NOW_ROW, *parts = words_of(s, s.plan->at_W_parts);
    word a[CHUNK / 16][4], b[2];
#pragma unroll
    for (int k = 0; k < CHUNK / 16; ++k) load_left(a[k], x + 8 * k, NOW_ROW);
#pragma unroll
    for (int tile = 0; tile < MOST_TILES; ++tile) {
        const int column = mine.first + tile * mine.parts;
        if (column >= tiles) continue;  // the same for all of a warp
        float of_chunk[4] = {};
#pragma unroll 1
        for (int p = 2; p >= 0; --p) {
#pragma unroll
            for (int k = 0; k < CHUNK / 16; ++k) {
                load_right(b, parts + (p * tiles + column) * 8 * NOW_ROW + 8 * k, NOW_ROW);
                multiply_tile(of_chunk, a[k], b);
            }
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[4 * tile + k] += of_chunk[k];
    }
}

// The first layer's scores are the sums and what all samples have in common, `totals`.
__device__ void add_totals(const Stream& s, const float (&sums)[4 * MOST_TILES], const real* totals) {
    const WarpTiles mine = warp_tiles(s);
    real* y = scores_of(s);
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, m = s.plan->layers[0].m, padded = s.plan->layers[0].padded;
#pragma unroll
    for (int k = 0; k < 4 * MOST_TILES; ++k) {
        const int i = mine.i + g + k % 4 / 2 * 8, j = 8 * (mine.first + k / 4 * mine.parts) + 2 * t + k % 2;
        if (mine.first < mine.parts && i < s.n && j < padded) y[i * padded + j] = j < m ? sums[k] + totals[j] : real(0);
    }
    __syncthreads();
}

// As `stream`.
__device__ void stream_bf16(const Stream& s, const int* last, const int* next, real decay, double* squares) {
    float sums[4 * MOST_TILES] = {};
    real total = 0;
    squares[threadIdx.x] = 0;
    fetch_chunk(s, 0, last, next);
    if (MOMENTUM && last) fetch_velocities(s, 0);
    if (last) split_gradient(s, s.memory + s.plan->at_part);
#pragma unroll 1
    for (int first = 0; first < s.source.d; first += CHUNK) {
        real* W = chunk_of(s, first);
        copies_done();
        __syncthreads();
        widen_chunk(s, first, last, next);
        __syncthreads();
        if (first + CHUNK < s.source.d) fetch_chunk(s, first + CHUNK, last, next);
        if (last) {
            update_chunk_bf16(s, first, W, decay);
            __syncthreads();
        }
        leave_chunk(s, first, W, last, squares);
        if (MOMENTUM && last && first + CHUNK < s.source.d) fetch_velocities(s, first + CHUNK);
        if (!next) continue;
        total += split_chunk(s, first, W);
        __syncthreads();
        multiply_chunk_bf16(s, sums);
    }
    total = small_sum_of_unit(total, s.memory + s.plan->at_part);
    real* totals = s.memory + s.plan->at_totals + WIDTH;
    if (threadIdx.x < WIDTH) totals[threadIdx.x] = total;
    __syncthreads();  // the scores lie where the chunks were
    if (next) add_totals(s, sums, totals);
}

// For `bytes` whose rows have a multiple of four features, in float32.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
multi_steps_bf16(int steps, const int64* perm, int64 orders, const double* eta, const double* lam, const real* alphas,
                 const int* labels, const uint8* bytes, const real* values, const real* whole, const real* rest,
                 const real* factor, const int* plan, int plan_size, real* W, int64 W_stride, real* weights,
                 int64 weights_stride, real* units, int64 units_stride, real* running, int64 running_stride,
                 double* total_loss, int64* total_correct, double* total_penalty, real eps, int n, int d, real* V,
                 real* weight_velocities, real* unit_velocities, const real* rho, bool nesterov, const real* smoothing,
                 const real* sample_weights) {
    if constexpr (sizeof(real) != sizeof(float)) return;
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
                  Stream{source, W + r * W_stride, MOMENTUM ? V - W : 0, memory, at, n, nesterov}, stream_bf16);
}
