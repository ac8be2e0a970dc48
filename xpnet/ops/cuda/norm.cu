// Batch normalisation with ReLU, and the operations of single units: biases, ReLU, and their gradients.
//
// Blocks of (columns, rows) threads: a block has some units of one replica (blockIdx.y), and its rows of threads
// share out the samples.  Dynamic shared memory: a number for each thread.

// mean = sum s / n, var = sum (s - mean)^2 / n; put(k, t) gets t = gamma (s - mean) / sqrt(var + eps) + beta of the
// number k, and writes what the activation makes of it.
template <typename Put>
__device__ void batch_norm(const real* s, const real* gamma, int64 gamma_stride, const real* beta, int64 beta_stride,
                           real eps, real* centred, real* inv_std, real* mean, real* var, int n, int m, Put put) {
    real* part = reinterpret_cast<real*>(dynamic_memory);
    const int r = blockIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
    const bool inside = j < m;
    const int64 at = (int64)r * n * m + j;
    real sum = 0;
    if (inside) {
        for (int i = threadIdx.y; i < n; i += blockDim.y) sum += s[at + (int64)i * m];
    }
    const real mu = column_sum(sum, part) / n;
    sum = 0;
    if (inside) {
        for (int i = threadIdx.y; i < n; i += blockDim.y) {
            const real c = s[at + (int64)i * m] - mu;
            sum += c * c;
        }
    }
    const real v = column_sum(sum, part) / n;
    if (!inside) return;
    const real scale = 1 / sqrt(v + eps);
    const real g = gamma[r * gamma_stride + j], b = beta[r * beta_stride + j];
    for (int i = threadIdx.y; i < n; i += blockDim.y) {
        const int64 k = at + (int64)i * m;
        const real c = s[k] - mu;
        const real t = g * (c * scale) + b;
        centred[k] = c;
        put(k, t);
    }
    if (threadIdx.y == 0) {
        inv_std[(int64)r * m + j] = scale;
        mean[(int64)r * m + j] = mu;
        var[(int64)r * m + j] = v;
    }
}

// y = max(0, gamma (s - mean) / sqrt(var + eps) + beta).
extern "C" __global__ void batch_norm_relu(const real* s, const real* gamma, int64 gamma_stride, const real* beta,
                                           int64 beta_stride, real eps, real* y, real* centred, real* inv_std,
                                           real* mean, real* var, int n, int m) {
    batch_norm(s, gamma, gamma_stride, beta, beta_stride, eps, centred, inv_std, mean, var, n, m,
               [=](int64 k, real t) { y[k] = t < 0 ? 0 : t; });  // lets a value that is not a number through
}

// With open(k), the gradient g for the number k behind the activation, and s_hat = centred inv_std: dgamma = sum g s_hat,
// dbeta = sum g, ds = gamma inv_std (g - dbeta / n - s_hat dgamma / n).
template <typename Open>
__device__ void batch_norm_gradients(const real* centred, const real* inv_std, const real* gamma, int64 gamma_stride,
                                     real* ds, real* dgamma, real* dbeta, int n, int m, Open open) {
    real* part = reinterpret_cast<real*>(dynamic_memory);
    const int r = blockIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
    const bool inside = j < m;
    const int64 at = (int64)r * n * m + j;
    const real scale = inside ? inv_std[(int64)r * m + j] : real(0);
    real with_s = 0, alone = 0;
    if (inside) {
        for (int i = threadIdx.y; i < n; i += blockDim.y) {
            const int64 k = at + (int64)i * m;
            const real g = open(k);
            with_s += g * (centred[k] * scale);
            alone += g;
        }
    }
    with_s = column_sum(with_s, part);
    alone = column_sum(alone, part);
    if (!inside) return;
    const real factor = gamma[r * gamma_stride + j] * scale, mean_with = with_s / n, mean_alone = alone / n;
    for (int i = threadIdx.y; i < n; i += blockDim.y) {
        const int64 k = at + (int64)i * m;
        ds[k] = factor * (open(k) - mean_alone - centred[k] * scale * mean_with);
    }
    if (threadIdx.y == 0) {
        dgamma[(int64)r * m + j] = with_s;
        dbeta[(int64)r * m + j] = alone;
    }
}

// The gradients for g <- g where y > 0, else 0.
extern "C" __global__ void batch_norm_relu_gradients(const real* g, const real* y, const real* centred,
                                                     const real* inv_std, const real* gamma, int64 gamma_stride,
                                                     real* ds, real* dgamma, real* dbeta, int n, int m) {
    batch_norm_gradients(centred, inv_std, gamma, gamma_stride, ds, dgamma, dbeta, n, m,
                         [=](int64 k) { return y[k] > 0 ? g[k] : real(0); });
}

// out = sum over the samples of g: the gradient of a bias.
extern "C" __global__ void bias_gradient(const real* g, real* out, int n, int m) {
    real* part = reinterpret_cast<real*>(dynamic_memory);
    const int r = blockIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
    real sum = 0;
    if (j < m) {
        for (int i = threadIdx.y; i < n; i += blockDim.y) sum += g[((int64)r * n + i) * m + j];
    }
    sum = column_sum(sum, part);
    if (j < m && threadIdx.y == 0) out[(int64)r * m + j] = sum;
}

// y = max(0, gamma (s - mean) / sqrt(var + eps) + beta) with the running statistics.  One thread a number of a replica.
extern "C" __global__ void batch_norm_relu_inference(const real* s, const real* mean, int64 mean_stride,
                                                     const real* var, int64 var_stride, const real* gamma,
                                                     int64 gamma_stride, const real* beta, int64 beta_stride, real eps,
                                                     real* y, int64 size, int m) {
    const int r = blockIdx.y;
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int j = i % m;
    const real scale = gamma[r * gamma_stride + j] / sqrt(var[r * var_stride + j] + eps);
    const real t = s[r * size + i] * scale + (beta[r * beta_stride + j] - mean[r * mean_stride + j] * scale);
    y[r * size + i] = t < 0 ? 0 : t;
}

// s += b, a row for all samples of a replica.
extern "C" __global__ void add_bias(real* s, const real* b, int64 b_stride, int64 size, int m) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) s[blockIdx.y * size + i] += b[blockIdx.y * b_stride + i % m];
}

// y = max(0, s).
extern "C" __global__ void relu(const real* s, real* y, int64 size) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = s[i] < 0 ? real(0) : s[i];
}

// s += b, y = max(0, s).
extern "C" __global__ void bias_relu(real* s, const real* b, int64 b_stride, real* y, int64 size, int m) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int64 at = blockIdx.y * size + i;
    const real t = s[at] + b[blockIdx.y * b_stride + i % m];
    s[at] = t;
    y[at] = t < 0 ? real(0) : t;
}

// ds = dy where y > 0, else 0.
extern "C" __global__ void relu_gradient(const real* dy, const real* y, real* ds, int64 size) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) ds[i] = y[i] > 0 ? dy[i] : real(0);
}
