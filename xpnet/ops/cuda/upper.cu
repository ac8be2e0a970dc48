// All layers of one network but the first, computed by one block of THREADS threads with everything in shared memory:
// what small_rest and multi_steps have in common.

// The host compiles these kernels anew for trainings that need more than plain gradient descent:
//   MOMENTUM=1        parameters have velocities
//   MODIFIED_LOSS=1   labels are smoothed, samples have weights, or both
// What is not asked for takes no register and no instruction.
#ifndef MOMENTUM
#define MOMENTUM 0
#endif
#ifndef MODIFIED_LOSS
#define MODIFIED_LOSS 0
#endif

#define WIDTH 64  // units of a layer, at most
#define THREADS (sizeof(real) == 4 ? 512 : 256)  // twice the registers for numbers of twice the size

constexpr int GROUPS = THREADS / WIDTH;  // thread j of each group of WIDTH has unit j, and each GROUPS-th sample

// Where a layer's tensors lie: numbers from the start of a replica's block (-1: it has none), and in shared memory.
struct Layer {
    int m, padded;              // units, and those of a row in shared memory: a multiple of four
    int W, b, gamma, beta;      // W in the block of weights, the others in that of units
    int mean, var;              // in the block of running statistics
    int at_W, at_y, at_hat;     // in shared memory: W (rows of `padded`), y, and s_hat with batch normalisation
};

// What shared memory holds, and where; it begins with this.  xpnet/training/steppers/cuda_plan.py makes it.
struct Plan {
    int hidden;                               // layers with an activation
    int units, running;                       // numbers in a replica's blocks of units and of running statistics
    int at_units, at_running;                 // copies of these blocks
    int at_labels;                            // (n,) integers
    int at_part;                              // a number a thread
    int at_g, g_size;                         // two gradients
    int at_rows, at_W1, at_raw, at_scales;    // what multi_steps streams: see `Stream`
    int at_before, at_now;
    int at_W_parts, at_g_parts, at_totals;    // of multi_steps_bf16
#if MOMENTUM
    int behind;                               // from a weight to its velocity
    int at_unit_velocities;                   // of the block of units
    int at_rho;                               // one number, as sums leave no register free for it
    int at_V1;                                // a chunk of velocities of W1, of multi_steps
#endif
#if MODIFIED_LOSS
    int at_smoothing, at_sample_weights;      // one number, and (n,)
#endif
    Layer layers[1];                          // hidden + 1
};

// The samples' features, and how they are standardised.
struct Source {
    const uint8* bytes;  // or
    const real* values;
    const real *whole, *rest, *factor;
    int d;
};

// The tensors of a replica in device memory.
struct Tensors {
    real *weights, *units, *running;
};

// With MOMENTUM: how far behind parameters their velocities lie, in device memory, as pointers would take registers; and
// the momentum of a replica.
struct Momentum {
    int64 weights, units;
    const real* rho;
    bool nesterov;
};

// How velocities move.
struct Push {
    real rho;
    bool nesterov;
};

// With MODIFIED_LOSS: the smoothing of a replica's labels, and the samples' weights, in device memory, or null.
struct Loss {
    const real *smoothing, *sample_weights;
};

// A block's memory, and what all steps have in common.
struct Upper {
    real* memory;
    const Plan* plan;
    double* sums;  // a number a thread
    Tensors there;
    int n;
    real eps;
    Momentum momentum;
    Loss loss;
};

__device__ real* units_of(const Upper& u) { return u.memory + u.plan->at_units; }
__device__ real* running_of(const Upper& u) { return u.memory + u.plan->at_running; }
__device__ int* labels_of(const Upper& u) { return reinterpret_cast<int*>(u.memory + u.plan->at_labels); }
__device__ real* part_of(const Upper& u) { return u.memory + u.plan->at_part; }
__device__ real* gradient_of(const Upper& u, int which) { return u.memory + u.plan->at_g + which * u.plan->g_size; }

// What a replica's kernel is given of momentum and the loss; null pointers where it is not compiled for them.
__device__ Momentum momentum_of(const real* weights, const real* weight_velocities, const real* units,
                                const real* unit_velocities, const real* rho, bool nesterov) {
    if constexpr (!MOMENTUM) return Momentum{0, 0, nullptr, false};
    return Momentum{weight_velocities - weights, unit_velocities - units, rho + blockIdx.x, nesterov};
}

__device__ Loss loss_of(const real* smoothing, const real* sample_weights) {
    if constexpr (!MODIFIED_LOSS) return Loss{nullptr, nullptr};
    return Loss{smoothing ? smoothing + blockIdx.x : nullptr, sample_weights};
}

// What updates of weights multiply them by: 1 - 2 eta lambda, or with momentum 2 eta lambda, which is part of the step.
__device__ real decay_of(double rate, double lambda) { return MOMENTUM ? 2 * rate * lambda : 1 - 2 * rate * lambda; }

// A parameter after a step with momentum: p + v, or with Nesterov p + rho v - step, where v <- rho v - step.
__device__ real pushed(const Push& push, real p, real& velocity, real step) {
    const real v = push.rho * velocity - step;
    velocity = v;
    return p + (push.nesterov ? push.rho * v - step : v);
}

__device__ Push push_of(const real* memory, const Plan* plan, bool nesterov) {
#if MOMENTUM
    return {memory[plan->at_rho], nesterov};
#else
    return {};
#endif
}

// Bring the plan to the start of shared memory.
__device__ void load_plan(const int* plan, int size) {
    int* to = reinterpret_cast<int*>(dynamic_memory);
#pragma unroll 1
    for (int k = threadIdx.x; k < size; k += THREADS) copy_later<4>(to + k, plan + k);
    copies_done();
    __syncthreads();
}

// to (rows, padded) <- from (count, m), with zeros beyond them; not waited for.
__device__ void load_matrix(real* to, int padded, int rows, const real* from, int m, int count) {
    const int j = threadIdx.x % WIDTH;
    if (j >= padded) return;
#pragma unroll 8
    for (int i = threadIdx.x / WIDTH; i < rows; i += GROUPS) {
        if (i < count && j < m) copy_later<sizeof(real)>(to + i * padded + j, from + (int64)i * m + j);
        else to[i * padded + j] = 0;
    }
}

// Bring units, running statistics, and weights with zeros around them to shared memory; not waited for.
__device__ void load_upper(const Upper& u) {
    const Plan& plan = *u.plan;
    for (int l = 1; l <= plan.hidden; ++l) {
        const Layer& layer = plan.layers[l];
        const Layer& below = plan.layers[l - 1];
        load_matrix(u.memory + layer.at_W, layer.padded, below.padded, u.there.weights + layer.W, layer.m, below.m);
#if MOMENTUM
        load_matrix(u.memory + layer.at_W + plan.behind, layer.padded, below.padded,
                    u.there.weights + layer.W + u.momentum.weights, layer.m, below.m);
#endif
    }
#if MOMENTUM
    for (int k = threadIdx.x; k < plan.units; k += THREADS)
        copy_later<sizeof(real)>(u.memory + plan.at_unit_velocities + k, u.there.units + k + u.momentum.units);
    if (threadIdx.x == 0) copy_later<sizeof(real)>(u.memory + plan.at_rho, u.momentum.rho);
#endif
#if MODIFIED_LOSS
    if (threadIdx.x == 0 && u.loss.smoothing) copy_later<sizeof(real)>(u.memory + plan.at_smoothing, u.loss.smoothing);
    else if (threadIdx.x == 0) u.memory[plan.at_smoothing] = 0;
#endif
    for (int k = threadIdx.x; k < plan.units; k += THREADS)
        copy_later<sizeof(real)>(units_of(u) + k, u.there.units + k);
    for (int k = threadIdx.x; k < plan.running; k += THREADS)
        copy_later<sizeof(real)>(running_of(u) + k, u.there.running + k);
}

// Products of matrices in shared memory, four by four numbers a thread.  Rows have a multiple of four numbers, zeros
// beyond the last column; B and W have zeros beyond the last row, up to a multiple of four.

__device__ real dot4(real4 a, real4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

// C (n, m) = A (n, k) B (k, m)
__device__ void small_product(const real* A, int lda, const real* B, int ldb, real* C, int n, int k) {
    const int across = ldb / 4, tiles = (n + 3) / 4 * across;
    for (int tile = threadIdx.x; tile < tiles; tile += THREADS) {
        const int j = 4 * (tile % across), i = 4 * (tile / across);
        real4 c[4] = {};
        for (int q = 0; q < k; q += 4) {
            const real4 b0 = load4(B + q * ldb + j), b1 = load4(B + (q + 1) * ldb + j);
            const real4 b2 = load4(B + (q + 2) * ldb + j), b3 = load4(B + (q + 3) * ldb + j);
#pragma unroll
            for (int p = 0; p < 4; ++p) {
                const real4 a = load4(A + min(i + p, n - 1) * lda + q);
                c[p].x += a.x * b0.x + a.y * b1.x + a.z * b2.x + a.w * b3.x;
                c[p].y += a.x * b0.y + a.y * b1.y + a.z * b2.y + a.w * b3.y;
                c[p].z += a.x * b0.z + a.y * b1.z + a.z * b2.z + a.w * b3.z;
                c[p].w += a.x * b0.w + a.y * b1.w + a.z * b2.w + a.w * b3.w;
            }
        }
#pragma unroll
        for (int p = 0; p < 4; ++p)
            if (i + p < n) *reinterpret_cast<real4*>(C + (i + p) * ldb + j) = c[p];
    }
}

// C (n, k) = G (n, m) W' (m, k), rows of C `ldc` long
__device__ void small_product_transposed(const real* G, int ldg, const real* W, real* C, int ldc, int n) {
    const int across = ldc / 4, tiles = (n + 3) / 4 * across;
    for (int tile = threadIdx.x; tile < tiles; tile += THREADS) {
        const int q = 4 * (tile % across), i = 4 * (tile / across);
        real c[4][4] = {};
        for (int j = 0; j < ldg; j += 4) {
            const real4 w[4] = {load4(W + q * ldg + j), load4(W + (q + 1) * ldg + j), load4(W + (q + 2) * ldg + j),
                                load4(W + (q + 3) * ldg + j)};
#pragma unroll
            for (int p = 0; p < 4; ++p) {
                const real4 g = load4(G + min(i + p, n - 1) * ldg + j);
#pragma unroll
                for (int o = 0; o < 4; ++o) c[p][o] += dot4(g, w[o]);
            }
        }
#pragma unroll
        for (int p = 0; p < 4; ++p)
            if (i + p < n) *reinterpret_cast<real4*>(C + (i + p) * ldc + q) = real4{c[p][0], c[p][1], c[p][2], c[p][3]};
    }
}

// The weights of a layer, in shared memory and in device memory, and their velocities.
struct Moved {
    real *W, *out;
    real *V, *out_V;
};

// W (k, m) moves by Y' G, with the penalty `decay`; to shared memory, rows of `ldg`, and to device memory, rows of m.
// Returns this thread's part of sum W^2 before.  S lanes share a tile of four by four numbers: each sums over every S-th
// sample, and then moves some of the numbers.
template <int S>
__device__ double small_update(const real* Y, int ldy, const real* G, int ldg, const Moved& moved,
                               const Push& push, real decay, int n, int k, int m) {
    const int across = ldg / 4, tiles = ldy / 4 * across, s = threadIdx.x % S;
    double squares = 0;
    for (int base = 0; base < tiles; base += THREADS / S) {  // all threads go round as often: they hand on sums
        const int tile = base + threadIdx.x / S;
        const bool mine = tile < tiles;
        const int j = mine ? 4 * (tile % across) : 0, q = mine ? 4 * (tile / across) : 0;
        real d[16] = {};
#pragma unroll 4
        for (int i = s; i < n; i += S) {
            const real4 y = load4(Y + i * ldy + q), g = load4(G + i * ldg + j);
            const real of[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int p = 0; p < 4; ++p) {
                d[4 * p] += of[p] * g.x;
                d[4 * p + 1] += of[p] * g.y;
                d[4 * p + 2] += of[p] * g.z;
                d[4 * p + 3] += of[p] * g.w;
            }
        }
        share_sums<16, S>(d, s);
#pragma unroll
        for (int t = 0; t < 16 / S; ++t) {
            const int number = s * (16 / S) + t, row = q + number / 4, column = j + number % 4;
            if (!mine || row >= k || column >= m) continue;
            const int at = row * ldg + column;
            const real w = moved.W[at];
#if MOMENTUM
            const real after = pushed(push, w, moved.V[at], d[t] + decay * w);
            moved.out_V[row * m + column] = moved.V[at];
#else
            const real after = decay * w - d[t];
#endif
            squares += (double)w * w;
            moved.W[at] = after;
            moved.out[row * m + column] = after;
        }
    }
    return squares;
}

// The same with as many lanes a tile as there are threads for.
__device__ double small_update(const real* Y, int ldy, const real* G, int ldg, const Moved& moved,
                               const Push& push, real decay, int n, int k, int m) {
    const int tiles = ldy / 4 * (ldg / 4);
    if (8 * tiles <= THREADS) return small_update<8>(Y, ldy, G, ldg, moved, push, decay, n, k, m);
    if (2 * tiles <= THREADS) return small_update<2>(Y, ldy, G, ldg, moved, push, decay, n, k, m);
    return small_update<1>(Y, ldy, G, ldg, moved, push, decay, n, k, m);
}

// Sum `value` of unit j = threadIdx.x % WIDTH over the groups of threads, in their order; `part` has one number for
// each thread.
__device__ real small_sum_of_unit(real value, real* part) {
    __syncthreads();
    part[threadIdx.x] = value;
    __syncthreads();
    real sum = 0;
#pragma unroll
    for (int group = 0; group < GROUPS; ++group) sum += part[group * WIDTH + threadIdx.x % WIDTH];
    return sum;
}

// y <- relu(gamma s_hat + beta) of a layer whose scores are in y, with s_hat; running statistics move on.
__device__ void normalise_layer(const Upper& u, const Layer& layer, real* y, real bias, real alpha) {
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    const bool mine = j < layer.m;
    real* hat = u.memory + layer.at_hat;
    real sum = 0;
    for (int i = group; mine && i < n; i += GROUPS) sum += y[i * layer.padded + j] + bias;
    const real mean = small_sum_of_unit(sum, part_of(u)) / n;
    sum = 0;
    for (int i = group; mine && i < n; i += GROUPS) {
        const real c = y[i * layer.padded + j] + bias - mean;
        sum += c * c;
    }
    const real var = small_sum_of_unit(sum, part_of(u)) / n;
    if (!mine) return;
    const real inv_std = 1 / sqrt(var + u.eps);
    const real gamma = units_of(u)[layer.gamma + j], beta = units_of(u)[layer.beta + j];
    for (int i = group; i < n; i += GROUPS) {
        const real h = (y[i * layer.padded + j] + bias - mean) * inv_std, t = gamma * h + beta;
        hat[i * layer.padded + j] = h;
        y[i * layer.padded + j] = t < 0 ? real(0) : t;
    }
    if (group != 0) return;
    hat[n * layer.padded + j] = inv_std;  // waits behind s_hat for the backward pass
    const real new_mean = alpha * running_of(u)[layer.mean + j] + (1 - alpha) * mean;
    const real new_var = alpha * running_of(u)[layer.var + j] + (1 - alpha) * var;
    running_of(u)[layer.mean + j] = u.there.running[layer.mean + j] = new_mean;
    running_of(u)[layer.var + j] = u.there.running[layer.var + j] = new_var;
}

// From the first layer's scores to those of the last one.  y of a layer holds its scores first.
__device__ void upper_forward(const Upper& u, real alpha) {
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    for (int l = 0; l < u.plan->hidden; ++l) {
        const Layer& layer = u.plan->layers[l];
        real* y = u.memory + layer.at_y;
        const bool mine = j < layer.m;
        const real bias = mine && layer.b >= 0 ? units_of(u)[layer.b + j] : real(0);
        if (layer.gamma >= 0) {
            normalise_layer(u, layer, y, bias, alpha);
        } else if (mine) {
            for (int i = group; i < n; i += GROUPS) {
                const real t = y[i * layer.padded + j] + bias;
                y[i * layer.padded + j] = t < 0 ? real(0) : t;
            }
        }
        __syncthreads();
        const Layer& above = u.plan->layers[l + 1];
        small_product(y, layer.padded, u.memory + above.at_W, above.padded, u.memory + above.at_y, n, layer.m);
        __syncthreads();
    }
}

// Loss and right answers of the warp's samples, of which lane 0 has the sums; dJ/d(scores) * eta takes the place of the
// scores.  A warp a sample.
__device__ void loss_of_samples(const Upper& u, real scale, double& loss, double& right) {
    const Layer& last = u.plan->layers[u.plan->hidden];
    const int lane = threadIdx.x % 32;
    loss = right = 0;
    for (int i = threadIdx.x / 32; i < u.n; i += THREADS / 32) {
        real* row = u.memory + last.at_y + i * last.padded;
        for (int k = lane; k < last.m; k += 32) row[k] += last.b >= 0 ? units_of(u)[last.b + k] : real(0);
        __syncwarp();
        real largest, sum;
        int best;
        warp_softmax(row, last.m, lane, largest, sum, best);
        const int label = labels_of(u)[i];
#if MODIFIED_LOSS
        const real alpha = u.memory[u.plan->at_smoothing], weight = u.memory[u.plan->at_sample_weights + i];
        const real share = real(1) / last.m;
        real towards = 0;  // the score of the label less the mean of all
        for (int k = lane; k < last.m; k += 32) towards += row[k] * ((k == label ? real(1) : real(0)) - share);
        towards = warp_sum(towards);
        if (lane == 0) {
            loss += weight * (log(sum) - (row[label] - largest) + alpha * towards);
            right += best == label ? 1 : 0;
        }
        __syncwarp();
        for (int k = lane; k < last.m; k += 32) {
            const real p = exp(row[k] - largest) / sum, one = k == label ? real(1) : real(0);
            row[k] = weight * scale * (p - one + alpha * (one - share));
        }
#else
        if (lane == 0) {
            loss += log(sum) - (row[label] - largest);
            right += best == label ? 1 : 0;
        }
        __syncwarp();
        for (int k = lane; k < last.m; k += 32) {
            const real p = exp(row[k] - largest) / sum;
            row[k] = (p - (k == label ? real(1) : real(0))) * scale;
        }
#endif
    }
}

// The same of the whole block, for all threads.
__device__ void upper_loss(const Upper& u, real scale, double& loss, double& right) {
    loss_of_samples(u, scale, loss, right);
    loss = block_sum(loss, u.sums);
    right = block_sum(right, u.sums);
}

// Move a number of the block of units, which have no penalty.
__device__ void move_unit(const Upper& u, int at, real step) {
#if MOMENTUM
    real& velocity = u.memory[u.plan->at_unit_velocities + at];
    const Push push = push_of(u.memory, u.plan, u.momentum.nesterov);
    units_of(u)[at] = u.there.units[at] = pushed(push, units_of(u)[at], velocity, step);
    u.there.units[at + u.momentum.units] = velocity;
#else
    units_of(u)[at] = u.there.units[at] = units_of(u)[at] - step;
#endif
}

// dy <- dJ/d(scores) of a layer with the gradient dy of its outputs; gamma and beta move.
__device__ void normalise_layer_gradients(const Upper& u, const Layer& layer, real* dy) {
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    const bool mine = j < layer.m;
    const real *y = u.memory + layer.at_y, *hat = u.memory + layer.at_hat;
    const real inv_std = mine ? hat[n * layer.padded + j] : real(0);
    real with_s = 0, alone = 0;
    for (int i = group; mine && i < n; i += GROUPS) {
        const int at = i * layer.padded + j;
        const real open = y[at] > 0 ? dy[at] : real(0);
        with_s += open * hat[at];
        alone += open;
    }
    with_s = small_sum_of_unit(with_s, part_of(u));
    alone = small_sum_of_unit(alone, part_of(u));
    if (mine) {
        const real gamma = units_of(u)[layer.gamma + j];
        for (int i = group; i < n; i += GROUPS) {
            const int at = i * layer.padded + j;
            const real open = y[at] > 0 ? dy[at] : real(0);
            dy[at] = gamma * inv_std * (open - alone / n - hat[at] * (with_s / n));
        }
    }
    __syncthreads();  // all have read gamma
    if (mine && group == 0) {
        move_unit(u, layer.gamma + j, with_s);
        move_unit(u, layer.beta + j, alone);
    }
}

// From dJ/d(scores) * eta of the last layer to that of the first, which is returned; all layers but the first move.
// Adds this thread's part of sum W^2 before to `squares`.
__device__ real* upper_backward(const Upper& u, real decay, double& squares) {
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    const Plan& plan = *u.plan;
    real* g = u.memory + plan.layers[plan.hidden].at_y;
    for (int l = plan.hidden; l >= 0; --l) {
        const Layer& layer = plan.layers[l];
        if (layer.b >= 0) {
            real sum = 0;
            for (int i = group; j < layer.m && i < n; i += GROUPS) sum += g[i * layer.padded + j];
            sum = small_sum_of_unit(sum, part_of(u));
            if (j < layer.m && group == 0) move_unit(u, layer.b + j, sum);
        }
        if (l == 0) break;
        const Layer& below = plan.layers[l - 1];
        const real* y = u.memory + below.at_y;
        real *W = u.memory + layer.at_W, *dy = gradient_of(u, l % 2);
        small_product_transposed(g, layer.padded, W, dy, below.padded, n);
        __syncthreads();  // weights move once what is below them has been computed
#if MOMENTUM
        const Moved moved{W, u.there.weights + layer.W, W + plan.behind, u.there.weights + layer.W + u.momentum.weights};
#else
        const Moved moved{W, u.there.weights + layer.W, nullptr, nullptr};
#endif
        const Push push = push_of(u.memory, u.plan, u.momentum.nesterov);
        squares += small_update(y, below.padded, g, layer.padded, moved, push, decay, n, below.m, layer.m);
        if (below.gamma >= 0) {
            normalise_layer_gradients(u, below, dy);
        } else if (j < below.m) {
            for (int i = group; i < n; i += GROUPS) {
                const int at = i * below.padded + j;
                if (!(y[at] > 0)) dy[at] = 0;
            }
        }
        g = dy;
        __syncthreads();
    }
    return g;
}
