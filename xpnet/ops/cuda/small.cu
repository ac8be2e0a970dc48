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

#define FEATURES 32
#define WIDTH 64  // units of a layer, at most
#define REST_THREADS (sizeof(real) == 4 ? 512 : 256)  // twice the registers for numbers of twice the size

// Bring FEATURES numbers of each sample of a batch to shared memory, standardised; zeros beyond the last feature.
__device__ void small_batch(real* xs, const int64* rows, const uint8* bytes, const real* values, const real* whole,
                            const real* rest, const real* factor, int first, int n, int d) {
    for (int k = threadIdx.x; k < n * (FEATURES / 4); k += blockDim.x) {
        const int i = k / (FEATURES / 4), f = first + 4 * (k % (FEATURES / 4));
        const int64 at = rows[i] * d + f;
        real* out = xs + i * FEATURES + (f - first);
        bytes4 quad = {0, 0, 0, 0};
        const bool aligned = d % 4 == 0 && f + 3 < d;
        if (bytes && aligned) quad = *reinterpret_cast<const bytes4*>(bytes + at);
        const uint8 of[4] = {quad.x, quad.y, quad.z, quad.w};
        for (int q = 0; q < 4; ++q) {
            if (f + q >= d) out[q] = 0;
            else if (!bytes) out[q] = values[at + q];
            else out[q] = ((aligned ? of[q] : bytes[at + q]) - whole[f + q] - rest[f + q]) * factor[f + q];
        }
    }
}

// Blocks (slices of features, R) of 256 threads; dynamic memory n (FEATURES + WIDTH) + FEATURES WIDTH numbers.
extern "C" __global__ void __launch_bounds__(256)
small_first(const int* cursor, const int64* perm, int64 orders, const double* eta, const double* lam,
            const uint8* bytes, const real* values, const real* whole, const real* rest, const real* factor, real* W,
            int64 W_stride, const real* g, real* parts, double* squares, bool update, bool forward, int n, int d, int m) {
    __shared__ double part[256];
    real* xs = reinterpret_cast<real*>(dynamic_memory);
    real* gs = xs + n * FEATURES;
    real* Ws = gs + n * WIDTH;
    const int slice = blockIdx.x, r = blockIdx.y, first = slice * FEATURES;
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, groups = blockDim.x / WIDTH;
    const int each = FEATURES / groups;  // rows of W1 that a thread moves
    const int64 order = orders > 1 ? r : 0;
    real* mine = W + r * W_stride + (int64)first * m + j;
    for (int f = group; f < FEATURES; f += groups)
        Ws[f * WIDTH + j] = first + f < d && j < m ? mine[(int64)f * m] : real(0);
    if (update) {
        const int64 step = *cursor - 1;
        small_batch(xs, perm + (step * orders + order) * n, bytes, values, whole, rest, factor, first, n, d);
        for (int i = group; i < n; i += groups) gs[i * WIDTH + j] = j < m ? g[((int64)r * n + i) * m + j] : real(0);
        __syncthreads();
        const real keep = 1 - 2 * eta[step * gridDim.y + r] * lam[r];
        real dW[FEATURES / 4] = {};
        for (int i = 0; i < n; ++i) {
            const real gij = gs[i * WIDTH + j];
            const real* x = xs + i * FEATURES + group * each;
#pragma unroll
            for (int q = 0; q < FEATURES / 4; ++q) dW[q] += x[q] * gij;
        }
#pragma unroll
        for (int q = 0; q < FEATURES / 4; ++q) {
            const int f = group * each + q;
            const real w = keep * Ws[f * WIDTH + j] - dW[q];
            Ws[f * WIDTH + j] = w;
            if (first + f < d && j < m) mine[(int64)f * m] = w;
        }
        __syncthreads();  // the batch gives way to the next one
    }
    if (!forward) return;
    const int64 step = *cursor;
    small_batch(xs, perm + (step * orders + order) * n, bytes, values, whole, rest, factor, first, n, d);
    __syncthreads();
    real w[FEATURES];
    double sum = 0;
#pragma unroll
    for (int f = 0; f < FEATURES; ++f) w[f] = Ws[f * WIDTH + j];
    for (int f = group; f < FEATURES; f += groups) sum += (double)Ws[f * WIDTH + j] * Ws[f * WIDTH + j];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) squares[(int64)r * gridDim.x + slice] = sum;
    if (j >= m) return;
    real* out = parts + ((int64)r * gridDim.x + slice) * n * m + j;
    for (int i = group; i < n; i += groups) {
        real s = 0;
#pragma unroll
        for (int f = 0; f < FEATURES; ++f) s += xs[i * FEATURES + f] * w[f];
        out[(int64)i * m] = s;
    }
}

// s1 = sum of the parts.  Blocks (size / 64, R) of (64, 4) threads: a column of threads sums one number, and each
// of its threads adds every fourth slice.
extern "C" __global__ void small_sum(const real* parts, real* s1, int size, int slices) {
    real* part = reinterpret_cast<real*>(dynamic_memory);
    const int r = blockIdx.y, k = blockIdx.x * blockDim.x + threadIdx.x;
    real sum = 0;
    if (k < size) {
#pragma unroll 8
        for (int slice = threadIdx.y; slice < slices; slice += blockDim.y)
            sum += parts[((int64)r * slices + slice) * size + k];
    }
    sum = column_sum(sum, part);
    if (k < size && threadIdx.y == 0) s1[(int64)r * size + k] = sum;
}

// Where a layer's tensors lie: numbers from the start of a replica's block (-1: it has none), and in shared memory.
struct SmallLayer {
    int m, padded;              // units, and those of a row in shared memory: a multiple of four
    int W, b, gamma, beta;      // W in the block of weights, the others in that of units
    int mean, var;              // in the block of running statistics
    int at_W, at_y, at_hat;     // in shared memory: W (rows of `padded`), y, and s_hat with batch normalisation
};

// Products of matrices in shared memory, four by four numbers a thread.  Rows have a multiple of four numbers, zeros
// beyond the last column; B and W have zeros beyond the last row, up to a multiple of four.

__device__ real4 load4(const real* at) { return *reinterpret_cast<const real4*>(at); }

__device__ real dot4(real4 a, real4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

// C (n, m) = A (n, k) B (k, m)
__device__ void small_product(const real* A, int lda, const real* B, int ldb, real* C, int n, int k) {
    const int across = ldb / 4, tiles = (n + 3) / 4 * across;
    for (int tile = threadIdx.x; tile < tiles; tile += blockDim.x) {
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
    for (int tile = threadIdx.x; tile < tiles; tile += blockDim.x) {
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

// W (k, m) <- keep W - Y' G; to shared memory and to `out`, rows of m.  Returns this thread's part of sum W^2 before.
__device__ double small_update(const real* Y, int ldy, const real* G, int ldg, real* W, real* out, real keep, int n,
                               int k, int m) {
    const int across = ldg / 4, tiles = ldy / 4 * across;
    double squares = 0;
    for (int tile = threadIdx.x; tile < tiles; tile += blockDim.x) {
        const int j = 4 * (tile % across), q = 4 * (tile / across);
        real d[4][4] = {};
        for (int i = 0; i < n; ++i) {
            const real4 y = load4(Y + i * ldy + q), g = load4(G + i * ldg + j);
            const real of[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int p = 0; p < 4; ++p) {
                d[p][0] += of[p] * g.x;
                d[p][1] += of[p] * g.y;
                d[p][2] += of[p] * g.z;
                d[p][3] += of[p] * g.w;
            }
        }
#pragma unroll
        for (int p = 0; p < 4; ++p) {
#pragma unroll
            for (int o = 0; o < 4; ++o) {
                if (q + p >= k || j + o >= m) continue;
                const real w = W[(q + p) * ldg + j + o];
                squares += (double)w * w;
                W[(q + p) * ldg + j + o] = keep * w - d[p][o];
                out[(q + p) * m + j + o] = keep * w - d[p][o];
            }
        }
    }
    return squares;
}

// Sum `value` of unit j = threadIdx.x % WIDTH over the groups of threads, in their order; `part` has one number for
// each thread.
__device__ real small_sum_of_unit(real value, real* part) {
    __syncthreads();
    part[threadIdx.x] = value;
    __syncthreads();
    real sum = 0;
    for (int at = threadIdx.x % WIDTH; at < blockDim.x; at += WIDTH) sum += part[at];
    return sum;
}

// One block a replica (blockIdx.x) of REST_THREADS threads.
extern "C" __global__ void __launch_bounds__(REST_THREADS, 1)
small_rest(int* cursor, unsigned int* counter, const int64* perm, int64 orders, const double* eta, const double* lam,
           const real* alphas, const int* labels, const int* layout, int hidden, real* weights, int64 weights_stride,
           real* units, int64 units_stride, real* running, int64 running_stride, const real* s1, const double* squares,
           int slices, real* g1, double* total_loss, int64* total_correct, double* total_penalty, real eps, int n,
           int at_part, int at_g, int g_size) {
    __shared__ double sums[REST_THREADS];
    real* memory = reinterpret_cast<real*>(dynamic_memory);
    real* part = memory + at_part;  // a number a thread
    const SmallLayer* layers = reinterpret_cast<const SmallLayer*>(layout);
    const int r = blockIdx.x, replicas = gridDim.x, threads = blockDim.x;
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, groups = threads / WIDTH;
    const int64 step = *cursor;
    const double rate = eta[step * replicas + r];
    const real scale = rate / n, keep = 1 - 2 * rate * lam[r], alpha = alphas[step];
    real* of_weights = weights + r * weights_stride;
    real* of_units = units + r * units_stride;
    real* of_running = running + r * running_stride;

    // Weights of all layers but the first, with zeros around them; the first layer's scores.
    for (int l = 1; l <= hidden; ++l) {
        const SmallLayer layer = layers[l];
        const int k = layers[l - 1].m, rows = layers[l - 1].padded;
        for (int i = threadIdx.x; i < rows * layer.padded; i += threads) {
            const int q = i / layer.padded, o = i % layer.padded;
            memory[layer.at_W + i] = q < k && o < layer.m ? of_weights[layer.W + q * layer.m + o] : real(0);
        }
    }
    for (int i = threadIdx.x; i < n * layers[0].padded; i += threads) {
        const int o = i % layers[0].padded;
        memory[layers[0].at_y + i] = o < layers[0].m ? s1[((int64)r * n + i / layers[0].padded) * layers[0].m + o] : real(0);
    }
    __syncthreads();

    // Forward.  y of a layer holds its scores first.
    for (int l = 0; l < hidden; ++l) {
        const SmallLayer layer = layers[l];
        real* y = memory + layer.at_y;
        const bool mine = j < layer.m;
        const real bias = mine && layer.b >= 0 ? of_units[layer.b + j] : real(0);
        if (layer.gamma >= 0) {
            real* hat = memory + layer.at_hat;
            real sum = 0;
            for (int i = group; mine && i < n; i += groups) sum += y[i * layer.padded + j] + bias;
            const real mean = small_sum_of_unit(sum, part) / n;
            sum = 0;
            for (int i = group; mine && i < n; i += groups) {
                const real c = y[i * layer.padded + j] + bias - mean;
                sum += c * c;
            }
            const real var = small_sum_of_unit(sum, part) / n;
            if (mine) {
                const real inv_std = 1 / sqrt(var + eps);
                const real gamma = of_units[layer.gamma + j], beta = of_units[layer.beta + j];
                for (int i = group; i < n; i += groups) {
                    const real h = (y[i * layer.padded + j] + bias - mean) * inv_std, t = gamma * h + beta;
                    hat[i * layer.padded + j] = h;
                    y[i * layer.padded + j] = t < 0 ? real(0) : t;
                }
                if (group == 0) {
                    hat[n * layer.padded + j] = inv_std;  // waits behind s_hat for the backward pass
                    real* of_mean = of_running + layer.mean + j;
                    real* of_var = of_running + layer.var + j;
                    *of_mean = alpha * *of_mean + (1 - alpha) * mean;
                    *of_var = alpha * *of_var + (1 - alpha) * var;
                }
            }
        } else if (mine) {
            for (int i = group; i < n; i += groups) {
                const real t = y[i * layer.padded + j] + bias;
                y[i * layer.padded + j] = t < 0 ? real(0) : t;
            }
        }
        __syncthreads();
        const SmallLayer above = layers[l + 1];
        small_product(y, layer.padded, memory + above.at_W, above.padded, memory + above.at_y, n, layer.m);
        __syncthreads();
    }

    // Loss: a warp a sample.  g takes the place of the scores.
    const SmallLayer last = layers[hidden];
    real* g = memory + last.at_y;
    const int lane = threadIdx.x % 32;
    double loss = 0, right = 0;
    for (int i = threadIdx.x / 32; i < n; i += threads / 32) {
        real* row = g + i * last.padded;
        for (int k = lane; k < last.m; k += 32) row[k] += last.b >= 0 ? of_units[last.b + k] : real(0);
        __syncwarp();
        real largest, sum;
        int best;
        warp_softmax(row, last.m, lane, largest, sum, best);
        const int label = labels[perm[(step * orders + (orders > 1 ? r : 0)) * n + i]];
        if (lane == 0) {
            loss += log(sum) - (row[label] - largest);
            right += best == label ? 1 : 0;
        }
        __syncwarp();
        for (int k = lane; k < last.m; k += 32) {
            const real p = exp(row[k] - largest) / sum;
            row[k] = (p - (k == label ? real(1) : real(0))) * scale;
        }
    }
    loss = block_sum(loss, sums);
    right = block_sum(right, sums);

    // Backward.  A layer's weights move once what is below them has been computed.
    double squared = 0;
    for (int l = hidden; l >= 0; --l) {
        const SmallLayer layer = layers[l];
        if (layer.b >= 0) {
            real sum = 0;
            for (int i = group; j < layer.m && i < n; i += groups) sum += g[i * layer.padded + j];
            sum = small_sum_of_unit(sum, part);
            if (j < layer.m && group == 0) of_units[layer.b + j] -= sum;
        }
        if (l == 0) break;
        const SmallLayer below = layers[l - 1];
        real* dy = memory + at_g + (l % 2) * g_size;
        const real* y = memory + below.at_y;
        small_product_transposed(g, layer.padded, memory + layer.at_W, dy, below.padded, n);
        __syncthreads();
        squared += small_update(y, below.padded, g, layer.padded, memory + layer.at_W, of_weights + layer.W, keep, n,
                                below.m, layer.m);
        const bool mine = j < below.m;
        if (below.gamma >= 0) {
            const real* hat = memory + below.at_hat;
            const real inv_std = mine ? hat[n * below.padded + j] : real(0);
            real with_s = 0, alone = 0;
            for (int i = group; mine && i < n; i += groups) {
                const int at = i * below.padded + j;
                const real open = y[at] > 0 ? dy[at] : real(0);
                with_s += open * hat[at];
                alone += open;
            }
            with_s = small_sum_of_unit(with_s, part);
            alone = small_sum_of_unit(alone, part);
            if (mine) {
                const real gamma = of_units[below.gamma + j];
                for (int i = group; i < n; i += groups) {
                    const int at = i * below.padded + j;
                    const real open = y[at] > 0 ? dy[at] : real(0);
                    dy[at] = gamma * inv_std * (open - alone / n - hat[at] * (with_s / n));
                }
            }
            __syncthreads();  // all have read gamma
            if (mine && group == 0) {
                of_units[below.gamma + j] -= with_s;
                of_units[below.beta + j] -= alone;
            }
        } else if (mine) {
            for (int i = group; i < n; i += groups) {
                const int at = i * below.padded + j;
                if (!(y[at] > 0)) dy[at] = 0;
            }
        }
        g = dy;
        __syncthreads();
    }
    const SmallLayer first = layers[0];
    for (int i = threadIdx.x; i < n * first.m; i += threads)
        g1[(int64)r * n * first.m + i] = g[i / first.m * first.padded + i % first.m];

    // Figures of the step, before its updates.
    for (int i = threadIdx.x; i < slices; i += threads) squared += squares[(int64)r * slices + i];
    squared = block_sum(squared, sums);
    if (threadIdx.x == 0) {
        total_loss[step * replicas + r] = loss;
        total_correct[step * replicas + r] = (int64)right;
        total_penalty[step * replicas + r] = squared;
    }
    if (is_last_block(counter, replicas) && threadIdx.x == 0) *cursor += 1;
}
