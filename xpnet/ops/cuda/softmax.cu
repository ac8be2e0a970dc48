// Softmax and cross-entropy: a warp has a sample, its lanes share out the classes.

// losses = log(sum exp s) - s[label], correct = (first best class == label), g = (p - onehot) scale.
// `scale` is `factor`, times that of the replica where `scales` is given.
extern "C" __global__ void softmax_cross_entropy(const real* s, const int* labels, int64 labels_stride,
                                                 const real* scales, int64 scale_stride, real factor, real* losses,
                                                 bool* correct, real* g, int n, int c) {
    const int r = blockIdx.y, i = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (i >= n) return;  // the same for all lanes of a warp
    const int64 row = (int64)r * n + i;
    real largest, sum;
    int best;
    warp_softmax(s + row * c, c, lane, largest, sum, best);
    const int label = labels[r * labels_stride + i];
    const real scale = scales ? factor * scales[r * scale_stride] : factor;
    for (int k = lane; k < c; k += 32) {
        const real p = exp(s[row * c + k] - largest) / sum;
        g[row * c + k] = (p - (k == label ? real(1) : real(0))) * scale;
    }
    if (lane == 0) {
        losses[row] = log(sum) - (s[row * c + label] - largest);
        correct[row] = best == label;
    }
}

// losses += alpha (s[label] - mean s), g += scale alpha (onehot - 1 / c), as for labels (1 - alpha) onehot + alpha / c.
// `scale` is that of softmax_cross_entropy.
extern "C" __global__ void smooth_labels(const real* s, const int* labels, int64 labels_stride, const real* alphas,
                                         int64 alpha_stride, const real* scales, int64 scale_stride, real factor,
                                         real* losses, real* g, int n, int c) {
    const int r = blockIdx.y, i = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (i >= n) return;  // the same for all lanes of a warp
    const int64 row = (int64)r * n + i;
    const int label = labels[r * labels_stride + i];
    const real alpha = alphas[r * alpha_stride], share = real(1) / c;
    const real step = (scales ? factor * scales[r * scale_stride] : factor) * alpha;
    real towards = 0;
    for (int k = lane; k < c; k += 32) {
        const real direction = (k == label ? real(1) : real(0)) - share;
        towards += s[row * c + k] * direction;
        g[row * c + k] += step * direction;
    }
    towards = warp_sum(towards);
    if (lane == 0) losses[row] += alpha * towards;
}

// losses *= w, g *= w, with the weight w of each sample: weights[i], or weights[rows[i]] where `rows` is given, whose high
// bits are a view.  A replica has `own` of these places for itself, 0 if all share them.
extern "C" __global__ void weigh_samples(const real* weights, const int64* rows, int64 own, real* losses, real* g, int n,
                                         int c) {
    const int r = blockIdx.y, i = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (i >= n) return;  // the same for all lanes of a warp
    const int64 row = (int64)r * n + i, place = r * own + i;
    const real w = weights[rows ? rows[place] & 0xffffffff : place];
    for (int k = lane; k < c; k += 32) g[row * c + k] *= w;
    if (lane == 0) losses[row] *= w;
}

// p = exp(s) / sum exp(s) over the c classes of each of the rows.
extern "C" __global__ void softmax(const real* s, real* p, int rows, int c) {
    const int64 row = (int64)blockIdx.x * blockDim.y + threadIdx.y;
    const int lane = threadIdx.x;
    if (row >= rows) return;
    real largest, sum;
    int best;
    warp_softmax(s + row * c, c, lane, largest, sum, best);
    for (int k = lane; k < c; k += 32) p[row * c + k] = exp(s[row * c + k] - largest) / sum;
}

// losses += sum of the n losses, hits += number of the n that are correct.  A block a replica.
extern "C" __global__ void tally(const real* losses, const bool* correct, double* loss, int64* hits, int n) {
    __shared__ double part[256];
    const int r = blockIdx.x;
    double sum = 0, right = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        sum += losses[(int64)r * n + i];
        right += correct[(int64)r * n + i] ? 1 : 0;
    }
    sum = block_sum(sum, part);
    right = block_sum(right, part);
    if (threadIdx.x == 0) {
        loss[r] += sum;
        hits[r] += (int64)right;
    }
}
