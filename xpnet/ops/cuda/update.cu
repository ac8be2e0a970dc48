// Updates of parameters and running statistics.  Blocks (of a replica's numbers, R).
//
// The gradients are a list of tensors that, side by side, have the layout of the block of parameters to update: their
// addresses, and where each begins in the block (`starts`, one more than there are members).

struct Members {
    const real* const* sources;
    const int* starts;
    int count;
};

// Number i of replica r of tensors that lie side by side.
__device__ real member(const Members& members, int r, int i) {
    int low = 0, high = members.count;  // the member that i is in: starts[low] <= i < starts[low + 1]
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (members.starts[middle] <= i) low = middle; else high = middle;
    }
    const int start = members.starts[low], size = members.starts[low + 1] - start;
    return members.sources[low][(int64)r * size + (i - start)];
}

// g <- factor g, for `size` numbers a replica.
extern "C" __global__ void scale_gradient(real* g, const real* factor, int64 stride, int64 size) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) g[blockIdx.y * size + i] *= factor[blockIdx.y * stride];
}

// totals += sum W^2, then W <- keep W where `keep` is given.
extern "C" __global__ void square_and_scale(real* W, int64 stride, int64 size, const real* keep, double* parts,
                                            unsigned int* counters, double* totals) {
    const int r = blockIdx.y;
    real* of_replica = W + r * stride;
    const real left = keep ? keep[r] : real(1);
    double sum = 0;
    for (int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += (int64)gridDim.x * blockDim.x) {
        const real w = of_replica[i];
        sum += (double)w * w;
        if (keep) of_replica[i] = left * w;
    }
    add_squares(sum, Squares{parts, counters, totals});
}

// p <- keep p - step; without `keep`, p <- p - step.  If `totals` is given, totals += sum p^2 before the step.
extern "C" __global__ void descend(real* p, int64 stride, int size, const real* const* sources, const int* starts,
                                   int count, const real* keep, double* parts, unsigned int* counters,
                                   double* totals) {
    const int r = blockIdx.y;
    const Members steps{sources, starts, count};
    double sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const real before = p[r * stride + i];
        sum += (double)before * before;
        p[r * stride + i] = (keep ? keep[r] * before : before) - member(steps, r, i);
    }
    if (totals) add_squares(sum, Squares{parts, counters, totals});
}

// v <- rho v - step - shrink p, then p <- p + v, or with Nesterov p <- p + rho v - step - shrink p.
extern "C" __global__ void descend_with_momentum(real* p, real* velocity, int64 stride, int size,
                                                 const real* const* sources, const int* starts, int count,
                                                 const real* shrink, const real* rho, bool nesterov, double* parts,
                                                 unsigned int* counters, double* totals) {
    const int r = blockIdx.y;
    const Members steps{sources, starts, count};
    double sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const real before = p[r * stride + i];
        sum += (double)before * before;
        const real step = member(steps, r, i);
        const real full = shrink ? step + shrink[r] * before : step;
        const real v = rho[r] * velocity[r * stride + i] - full;
        velocity[r * stride + i] = v;
        p[r * stride + i] = before + (nesterov ? rho[r] * v - full : v);
    }
    if (totals) add_squares(sum, Squares{parts, counters, totals});
}

// running <- alpha running + (1 - alpha) batch.
extern "C" __global__ void average(real* running, int64 stride, int size, const real* const* sources, const int* starts,
                                   int count, const real* alpha) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y;
    if (i >= size) return;
    const Members batch{sources, starts, count};
    const real a = *alpha;
    running[r * stride + i] = a * running[r * stride + i] + (1 - a) * member(batch, r, i);
}
