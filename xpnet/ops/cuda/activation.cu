// The activations of hidden layers other than ReLU: xpnet/ops/activations.py has their formulas.
//
// The kernels take an activation as a number, in the order of the names below: all threads take the same branch.

enum { LEAKY_RELU, GELU, SILU, TANH, SIGMOID, IDENTITY };

// Return the output y for the input z of an activation; slope becomes dy/dz.
__device__ real activated(int kind, real z, real& slope) {
    const real half = 0.5, one = 1, leak = 0.01, linear = 0.79788456080286536, cubic = 0.035677408136300125;
    switch (kind) {
        case LEAKY_RELU:
            slope = z > 0 ? one : leak;
            return z < leak * z ? leak * z : z;  // lets a value that is not a number through
        case GELU: {
            const real t = tanh(z * (linear + cubic * (z * z)));
            slope = half * (one + t) + half * z * (linear + 3 * cubic * (z * z)) * (one - t * t);
            return half * z * (one + t);
        }
        case SILU: {
            const real p = half + half * tanh(half * z);
            slope = p * (one + z * (one - p));
            return z * p;
        }
        case TANH: {
            const real y = tanh(z);
            slope = one - y * y;
            return y;
        }
        case SIGMOID: {
            const real y = half + half * tanh(half * z);
            slope = y * (one - y);
            return y;
        }
        default:
            slope = one;
            return z;
    }
}

// The outputs and slopes for inputs gamma (s - mean) / sqrt(var + eps) + beta: see batch_norm.
extern "C" __global__ void batch_norm_activation(const real* s, const real* gamma, int64 gamma_stride,
                                                 const real* beta, int64 beta_stride, real eps, real* y, real* centred,
                                                 real* inv_std, real* mean, real* var, real* slope, int kind, int n,
                                                 int m) {
    batch_norm(s, gamma, gamma_stride, beta, beta_stride, eps, centred, inv_std, mean, var, n, m,
               [=](int64 k, real t) { y[k] = activated(kind, t, slope[k]); });
}

// The gradients for g <- g slope: see batch_norm_gradients.
extern "C" __global__ void batch_norm_activation_gradients(const real* g, const real* slope, const real* centred,
                                                           const real* inv_std, const real* gamma, int64 gamma_stride,
                                                           real* ds, real* dgamma, real* dbeta, int n, int m) {
    batch_norm_gradients(centred, inv_std, gamma, gamma_stride, ds, dgamma, dbeta, n, m,
                         [=](int64 k) { return g[k] * slope[k]; });
}

// The outputs for inputs gamma (s - mean) / sqrt(var + eps) + beta with the running statistics.
extern "C" __global__ void batch_norm_activation_inference(const real* s, const real* mean, int64 mean_stride,
                                                           const real* var, int64 var_stride, const real* gamma,
                                                           int64 gamma_stride, const real* beta, int64 beta_stride,
                                                           real eps, real* y, int kind, int64 size, int m) {
    const int r = blockIdx.y;
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int j = i % m;
    const real scale = gamma[r * gamma_stride + j] / sqrt(var[r * var_stride + j] + eps);
    const real t = s[r * size + i] * scale + (beta[r * beta_stride + j] - mean[r * mean_stride + j] * scale);
    real slope;
    y[r * size + i] = activated(kind, t, slope);
}

// s += b, and the outputs and slopes for these inputs; without slopes where `slopes` is null.
extern "C" __global__ void bias_activation(real* s, const real* b, int64 b_stride, real* y, real* slopes, int kind,
                                           int64 size, int m) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int64 at = blockIdx.y * size + i;
    const real z = s[at] + b[blockIdx.y * b_stride + i % m];
    real slope;
    s[at] = z;
    y[at] = activated(kind, z, slope);
    if (slopes) slopes[at] = slope;
}

// The outputs for inputs z.
extern "C" __global__ void activation(const real* z, real* y, int kind, int64 size) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    real slope;
    if (i < size) y[i] = activated(kind, z[i], slope);
}

// dz = dy slope.
extern "C" __global__ void activation_gradient(const real* dy, const real* slope, real* dz, int64 size) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dz[i] = dy[i] * slope[i];
}
