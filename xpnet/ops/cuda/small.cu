// Small networks: three kernels a step, with activations in shared memory.
//
//   small_first   every block owns FEATURES rows of W1: it updates them by the last step's gradient and multiplies the
//                 next batch by them; it writes its part of x W1 and of sum W1^2 to memory
//   small_sum     adds the parts of x W1, in their order
//   small_rest    one block computes all other layers: forward, loss, backward, updates; it writes
//                 g1 = dJ/d(x W1) * eta
//
// small_first begins the first step of a call without an update (update = 0), and ends the last one with an update
// alone (forward = 0).
//
// A load from memory takes as long as hundreds of multiplications, so each kernel begins all its loads before it waits
// for the first: numbers by `copy_later`, bytes into registers.

#define FEATURES 32
#define FIRST_THREADS 256

constexpr int QUADS = FEATURES / 4;                      // of neighbouring features, which a thread loads at once
constexpr int FIRST_GROUPS = FIRST_THREADS / WIDTH;      // thread j of each group has unit j
constexpr int LIFTED = 4;                                // samples whose features a thread loads before it stores any

// Bring FEATURES numbers of each sample of a batch to shared memory, standardised; zeros beyond the last feature.
// A thread has the same four features of several samples, and loads those of LIFTED samples before it stores any.
__device__ void small_batch(real* xs, const int64* rows, const Source& source, int first, int n) {
    constexpr int STEP = FIRST_THREADS / QUADS;
    const int d = source.d, f = first + 4 * (threadIdx.x % QUADS);
    const bool quads = source.bytes && d % 4 == 0;  // four bytes are loaded at once
    real whole[4], rest[4], factor[4];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        const bool scaled = source.bytes && f + q < d;
        whole[q] = scaled ? source.whole[f + q] : real(0);
        rest[q] = scaled ? source.rest[f + q] : real(0);
        factor[q] = scaled ? source.factor[f + q] : real(1);
    }
    for (int begin = threadIdx.x / QUADS; begin < n; begin += LIFTED * STEP) {
        int64 at[LIFTED];
        real x[4 * LIFTED];
#pragma unroll
        for (int k = 0; k < LIFTED; ++k) at[k] = begin + k * STEP < n ? rows[begin + k * STEP] * d + f : -1;
        if (quads) {
            bytes4 quad[LIFTED];
#pragma unroll
            for (int k = 0; k < LIFTED; ++k) {
                quad[k] = bytes4{0, 0, 0, 0};
                if (at[k] >= 0 && f < d) quad[k] = *reinterpret_cast<const bytes4*>(source.bytes + at[k]);
            }
#pragma unroll
            for (int k = 0; k < LIFTED; ++k) {
                x[4 * k] = quad[k].x;
                x[4 * k + 1] = quad[k].y;
                x[4 * k + 2] = quad[k].z;
                x[4 * k + 3] = quad[k].w;
            }
        } else if (source.bytes) {
#pragma unroll
            for (int k = 0; k < 4 * LIFTED; ++k)
                x[k] = at[k / 4] >= 0 && f + k % 4 < d ? source.bytes[at[k / 4] + k % 4] : 0;
        } else {
#pragma unroll
            for (int k = 0; k < 4 * LIFTED; ++k)
                x[k] = at[k / 4] >= 0 && f + k % 4 < d ? source.values[at[k / 4] + k % 4] : real(0);
        }
#pragma unroll
        for (int k = 0; k < LIFTED; ++k) {
            if (at[k] < 0) continue;
            real out[4];
#pragma unroll
            for (int q = 0; q < 4; ++q) out[q] = (x[4 * k + q] - whole[q] - rest[q]) * factor[q];
            real4* to = reinterpret_cast<real4*>(xs + (begin + k * STEP) * FEATURES + (f - first));
            *to = real4{out[0], out[1], out[2], out[3]};
        }
    }
}

// Blocks (slices of features, R) of FIRST_THREADS threads; dynamic memory n (2 FEATURES + WIDTH) + FEATURES WIDTH
// numbers, with MOMENTUM FEATURES WIDTH more.
extern "C" __global__ void __launch_bounds__(FIRST_THREADS)
small_first(const int* cursor, const int64* perm, int64 orders, const double* eta, const double* lam,
            const uint8* bytes, const real* values, const real* whole, const real* rest, const real* factor, real* W,
            int64 W_stride, const real* g, real* parts, double* squares, bool update, bool forward, int n, int d, int m,
            real* V, const real* rho, bool nesterov) {
    __shared__ double part[FIRST_THREADS];
    real* before = reinterpret_cast<real*>(dynamic_memory);  // the batch of the last step
    real* now = before + n * FEATURES;
    real* gs = now + n * FEATURES;
    real* Ws = gs + n * WIDTH;
    real* Vs = Ws + FEATURES * WIDTH;
    const int slice = blockIdx.x, r = blockIdx.y, first = slice * FEATURES;
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH;
    constexpr int EACH = FEATURES / FIRST_GROUPS;  // rows of W1 that a thread moves
    const int64 step = *cursor, order = orders > 1 ? r : 0;
    const Source source{bytes, values, whole, rest, factor, d};
    real* mine = W + r * W_stride + (int64)first * m + j;
#pragma unroll
    for (int f = group; f < FEATURES; f += FIRST_GROUPS) {
        if (first + f < d && j < m) copy_later<sizeof(real)>(Ws + f * WIDTH + j, mine + (int64)f * m);
        else Ws[f * WIDTH + j] = 0;
    }
    real* velocities = V + r * W_stride + (int64)first * m + j;
    if (MOMENTUM && update) {
#pragma unroll
        for (int f = group; f < FEATURES; f += FIRST_GROUPS)
            if (first + f < d && j < m) copy_later<sizeof(real)>(Vs + f * WIDTH + j, velocities + (int64)f * m);
            else Vs[f * WIDTH + j] = 0;
    }
    if (update) {
#pragma unroll 8
        for (int i = group; i < n; i += FIRST_GROUPS) {
            if (j < m) copy_later<sizeof(real)>(gs + i * WIDTH + j, g + ((int64)r * n + i) * m + j);
            else gs[i * WIDTH + j] = 0;
        }
        small_batch(before, perm + ((step - 1) * orders + order) * n, source, first, n);
    }
    if (forward) small_batch(now, perm + (step * orders + order) * n, source, first, n);
    const real decay = update ? decay_of(eta[(step - 1) * gridDim.y + r], lam[r]) : real(1);
    const Push push{MOMENTUM ? rho[r] : real(0), nesterov};
    copies_done();
    __syncthreads();
    if (update) {
        real dW[EACH] = {};
#pragma unroll 4
        for (int i = 0; i < n; ++i) {
            const real gij = gs[i * WIDTH + j];
#pragma unroll
            for (int q = 0; q < EACH; q += 4) {
                const real4 x = load4(before + i * FEATURES + group * EACH + q);
                dW[q] += x.x * gij;
                dW[q + 1] += x.y * gij;
                dW[q + 2] += x.z * gij;
                dW[q + 3] += x.w * gij;
            }
        }
#pragma unroll
        for (int q = 0; q < EACH; ++q) {
            const int f = group * EACH + q;
#if MOMENTUM
            const real before = Ws[f * WIDTH + j];
            const real w = pushed(push, before, Vs[f * WIDTH + j], dW[q] + decay * before);
            if (first + f < d && j < m) velocities[(int64)f * m] = Vs[f * WIDTH + j];
#else
            const real w = decay * Ws[f * WIDTH + j] - dW[q];
#endif
            Ws[f * WIDTH + j] = w;
            if (first + f < d && j < m) mine[(int64)f * m] = w;
        }
        __syncthreads();
    }
    if (!forward) return;
    real w[FEATURES];
    double sum = 0;
#pragma unroll
    for (int f = 0; f < FEATURES; ++f) w[f] = Ws[f * WIDTH + j];
    for (int f = group; f < FEATURES; f += FIRST_GROUPS) sum += (double)Ws[f * WIDTH + j] * Ws[f * WIDTH + j];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) squares[(int64)r * gridDim.x + slice] = sum;
    if (j >= m) return;
    real* out = parts + ((int64)r * gridDim.x + slice) * n * m + j;
#pragma unroll 2
    for (int i = group; i < n; i += FIRST_GROUPS) {
        real s = 0;
#pragma unroll
        for (int f = 0; f < FEATURES; f += 4) {
            const real4 x = load4(now + i * FEATURES + f);
            s += x.x * w[f];
            s += x.y * w[f + 1];
            s += x.z * w[f + 2];
            s += x.w * w[f + 3];
        }
        out[(int64)i * m] = s;
    }
}

// s1 = sum of the parts.  Blocks (size / 64, R) of (64, 4) threads: a column of threads sums one number, and each
// of its threads adds every fourth slice.
extern "C" __global__ void small_sum(const real* parts, real* s1, int size, int slices) {
    real* part = reinterpret_cast<real*>(dynamic_memory);
    const int r = blockIdx.y, k = blockIdx.x * 64 + threadIdx.x;
    real sum = 0;
    if (k < size) {
#pragma unroll 8
        for (int slice = threadIdx.y; slice < slices; slice += 4) sum += parts[((int64)r * slices + slice) * size + k];
    }
    sum = column_sum(sum, part);
    if (k < size && threadIdx.y == 0) s1[(int64)r * size + k] = sum;
}

// One block a replica (blockIdx.x) of THREADS threads.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
small_rest(int* cursor, unsigned int* counter, const int64* perm, int64 orders, const double* eta, const double* lam,
           const real* alphas, const int* labels, const int* plan, int plan_size, real* weights, int64 weights_stride,
           real* units, int64 units_stride, real* running, int64 running_stride, const real* s1, const double* squares,
           int slices, real* g1, double* total_loss, int64* total_correct, double* total_penalty, real eps, int n,
           real* weight_velocities, real* unit_velocities, const real* rho, bool nesterov, const real* smoothing,
           const real* sample_weights) {
    __shared__ double sums[THREADS];
    const int r = blockIdx.x, replicas = gridDim.x;
    const int64 step = *cursor;
    load_plan(plan, plan_size);
    int64 row = 0;
    if (threadIdx.x < n) row = perm[(step * orders + (orders > 1 ? r : 0)) * n + threadIdx.x];
    const double rate = eta[step * replicas + r], lambda = lam[r];
    const real alpha = alphas[step];
    double squared = threadIdx.x < slices ? squares[(int64)r * slices + threadIdx.x] : 0.0;

    real* memory = reinterpret_cast<real*>(dynamic_memory);
    const Tensors there{weights + r * weights_stride, units + r * units_stride, running + r * running_stride};
    const Momentum momentum =
        momentum_of(weights, weight_velocities, units, unit_velocities, rho, nesterov);
    const Upper u{memory, reinterpret_cast<const Plan*>(dynamic_memory), sums, there, n, eps, momentum,
                  loss_of(smoothing, sample_weights)};
    const Layer& first = u.plan->layers[0];
    load_matrix(memory + first.at_y, first.padded, n, s1 + (int64)r * n * first.m, first.m, n);
    load_upper(u);
    const int label = threadIdx.x < n ? labels[row] : 0;  // is not waited for before the loss
    const real weight = MODIFIED_LOSS && sample_weights && threadIdx.x < n ? sample_weights[row] : real(1);
    copies_done();
    __syncthreads();

    double loss, right;
    upper_forward(u, alpha);
    if (threadIdx.x < n) labels_of(u)[threadIdx.x] = label;
#if MODIFIED_LOSS
    if (threadIdx.x < n) u.memory[u.plan->at_sample_weights + threadIdx.x] = weight;
#endif
    __syncthreads();
    upper_loss(u, rate / n, loss, right);
    const real* g = upper_backward(u, decay_of(rate, lambda), squared);
    const int j = threadIdx.x % WIDTH;
    for (int i = threadIdx.x / WIDTH; j < first.m && i < n; i += GROUPS)
        g1[((int64)r * n + i) * first.m + j] = g[i * first.padded + j];

#pragma unroll 1
    for (int i = threadIdx.x + THREADS; i < slices; i += THREADS) squared += squares[(int64)r * slices + i];
    squared = block_sum(squared, sums);  // of the weights before the updates
    if (threadIdx.x == 0) {
        total_loss[step * replicas + r] = loss;
        total_correct[step * replicas + r] = (int64)right;
        total_penalty[step * replicas + r] = squared;
    }
    if (is_last_block(counter, replicas) && threadIdx.x == 0) *cursor += 1;
}
