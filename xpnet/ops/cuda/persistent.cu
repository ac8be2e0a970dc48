// One network on the whole GPU: all steps of a call in one kernel, whose blocks stay.
//
// Every block keeps some rows of W1 in its shared memory for the whole call.  A step:
//
//   1 product    the block multiplies its features of the batch by its rows of W1
//   2 cluster    the blocks of a cluster add up their products: each gets the sums of its samples, in the order of ranks
//   3 exchange   blocks of equal rank tell each other these sums by device memory, with a flag for each block, and add
//                them in the order of the clusters; meanwhile the next batch is standardised
//   4 upper      each cluster computes all other layers, each block with its samples: see cluster_upper.cu
//   5 update     the block fetches g1 of all samples from its cluster, and moves its rows of W1
//
// All clusters compute the same bits, so nothing else goes from one to another.  A flag has the number of the step, and
// numbers go on from one call to the next, so none has to be reset.  What is told of a step lies in one of two places,
// which take turns: a block that tells of the next step may be ahead of one that still reads the last.  No block is two
// steps ahead, as it waits for the flags of all.
//
// All blocks must be on the GPU at once: the host asks for how many there is room.

// Numbers that a block tells of a step, and where the first cluster's block of this rank does; those of the other
// clusters follow, CLUSTER times as many numbers apart.
__device__ int told_size(const Member& t) { return t.each * t.u.plan->layers[0].padded; }

__device__ real* told_of(const Member& t, real* exchange, unsigned int number) {
    return exchange + (int64)(number % 2 * gridDim.x + t.rank) * told_size(t);
}

// Tell the blocks of equal rank the sum of the cluster's products for this block's samples.
__device__ void tell_products(const Member& t, real* to) {
    const int padded = t.u.plan->layers[0].padded;
    const real* from = t.u.memory + t.own->at_product + t.first * padded;
    for (int at = 4 * threadIdx.x; at < t.u.n * padded; at += 4 * THREADS) {
        real4 of[CLUSTER], sum = {};
#pragma unroll
        for (int rank = 0; rank < CLUSTER; ++rank) of[rank] = load4(peer(from + at, rank));
#pragma unroll
        for (int rank = 0; rank < CLUSTER; ++rank)
            sum = real4{sum.x + of[rank].x, sum.y + of[rank].y, sum.z + of[rank].z, sum.w + of[rank].w};
        tell(reinterpret_cast<real4*>(to + at), sum);
    }
}

// The scores of this block's samples: the sum of what all clusters tell, in their order.
__device__ void add_products(const Member& t, real* exchange, unsigned int number) {
    const int padded = t.u.plan->layers[0].padded, clusters = gridDim.x / CLUSTER;
    const real* told = told_of(t, exchange, number);
    const int apart = CLUSTER * told_size(t);
    real* y = t.u.memory + t.u.plan->layers[0].at_y;
    for (int at = 4 * threadIdx.x; at < t.u.n * padded; at += 4 * THREADS) {
        real4 sum = {};
#pragma unroll 8
        for (int cluster = 0; cluster < clusters; ++cluster) {
            const real4 of = load_told(told + cluster * apart + at);
            sum = real4{sum.x + of.x, sum.y + of.y, sum.z + of.z, sum.w + of.w};
        }
        *reinterpret_cast<real4*>(y + at) = sum;
    }
}

// W1 moves by the batch of `step` and the gradients of all blocks' samples, which lie at `g` in their memories.
__device__ void move_rows(const Member& t, const real* g, int step, real decay) {
    const Upper& u = t.u;
    const int padded = u.plan->layers[0].padded;
    real *g1 = u.memory + t.own->at_g1, *W = u.memory + t.own->at_W1, *V = u.memory + t.own->at_V1;
#pragma unroll 4
    for (int at = 4 * threadIdx.x; at < t.n * padded; at += 4 * THREADS) {
        const int rank = at / padded / t.each;
        *reinterpret_cast<real4*>(g1 + at) = load4(peer(g + at - rank * t.each * padded, rank));
    }
    fetch_shares(t, false);
    __syncthreads();
    const Push push = push_of(u.memory, u.plan, u.momentum.nesterov);
    gradient_tiles(inputs_of(t, step), t.own->rows, g1, padded, t.n, [&](int row, int j, real4 d) {
        move_four(W + row * padded + j, MOMENTUM ? V + row * padded + j : nullptr, d, push, decay);
    });
}

// Squares, loss and right answers.  The squares of the upper layers, which all clusters have, are those of the first.
__device__ void tell_figures(const Member& t, double* figures, int step) {
    if (threadIdx.x >= 3) return;
    double sum = 0;
    for (int warp = 0; warp < THREADS / 32; ++warp) {
        sum += warps_of(t, threadIdx.x)[warp];
        if (threadIdx.x == OF_W1 && blockIdx.x < CLUSTER) sum += warps_of(t, OF_UPPER)[warp];
    }
    tell(figures + ((int64)step * 3 + threadIdx.x) * gridDim.x + blockIdx.x, sum);
}

// The figures of all steps, by the last block, a warp a number: the other clusters had the loss of the same samples.
__device__ void add_figures(const double* figures, int steps, double* total_loss, int64* total_correct, double* total_penalty) {
    const int lane = threadIdx.x % 32;
    for (int k = threadIdx.x / 32; k < 3 * steps; k += THREADS / 32) {
        const int which = k % 3, count = which == OF_W1 ? gridDim.x : CLUSTER;
        double sum = 0;
        for (int b = lane; b < count; b += 32) sum += figures[(int64)k * gridDim.x + b];
        for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffff, sum, offset);
        if (lane != 0) continue;
        if (which == OF_W1) total_penalty[k / 3] = sum;
        else if (which == OF_LOSS) total_loss[k / 3] = sum;
        else total_correct[k / 3] = (int64)sum;
    }
}

// What a launch is given for all steps.
struct Steps {
    int count;
    const double *eta, *lam;
    const real* alphas;
    real* exchange;
    unsigned int *flags, number;  // flags (CLUSTER, clusters); steps of all calls before
    double* figures;
};

// Tell the cluster's sums, and get those of all clusters as this block's scores; meanwhile the next batch gets ready.
__device__ void exchange_products(const Member& t, const Rows& rows, const Steps& steps, int step) {
    const int clusters = gridDim.x / CLUSTER, cluster = blockIdx.x / CLUSTER;
    const unsigned int number = steps.number + step + 1;
    unsigned int* flags = steps.flags + t.rank * clusters;
    tell_products(t, told_of(t, steps.exchange, number) + cluster * CLUSTER * told_size(t));
    copies_done();
    __syncthreads();  // all have told
    if (threadIdx.x == 0) store_release(flags + cluster, number);
    if (step + 1 < steps.count) standardise(t, rows, step + 1);
    double squares = 0;
    const real* W = t.u.memory + t.own->at_W1;
    for (int k = threadIdx.x; k < t.own->rows * t.u.plan->layers[0].padded; k += THREADS) squares += (double)W[k] * W[k];
    keep_figure(t, OF_W1, squares);
    if (threadIdx.x < clusters) wait_for(flags + threadIdx.x, number);
    __syncthreads();
    add_products(t, steps.exchange, number);
    __syncthreads();
}

__device__ void take_steps(const Member& t, const Rows& rows, const Steps& steps) {
    const Upper& u = t.u;
    const int padded = u.plan->layers[0].padded, width = t.own->rows;
    int turn = 0;
    fetch_order(t, rows, 0);
    if (steps.count > 1) fetch_order(t, rows, 1);
    load_upper(u);
    load_rows(t, rows);
    copies_done();
    __syncthreads();
    Target target = fetch_batch(t, rows, 0);
    copies_done();
    __syncthreads();
    standardise(t, rows, 0);
    for (int step = 0; step < steps.count; ++step) {
        __syncthreads();
        if (step > 0) tell_figures(t, steps.figures, step - 1);
        if (threadIdx.x < u.n) labels_of(u)[threadIdx.x] = target.label;
#if MODIFIED_LOSS
        if (threadIdx.x < u.n) u.memory[u.plan->at_sample_weights + threadIdx.x] = target.weight;
#endif
        const real scale = steps.eta[step] / t.n, decay = decay_of(steps.eta[step], steps.lam[0]);
        if (step + 2 < steps.count) fetch_order(t, rows, step + 2);
        if (step + 1 < steps.count) target = fetch_batch(t, rows, step + 1);
        small_product(inputs_of(t, step), width, u.memory + t.own->at_W1, padded, u.memory + t.own->at_product, t.n, width);
        cluster_barrier();
        exchange_products(t, rows, steps, step);
        forward_in_cluster(t, steps.alphas[step], turn);
        double loss, right;
        loss_of_samples(u, scale, loss, right);
        keep_figure(t, OF_LOSS, loss);
        keep_figure(t, OF_RIGHT, right);
        __syncthreads();
        const real* g = backward_in_cluster(t, decay, turn);
        move_rows(t, g, step, decay);
    }
    __syncthreads();
    tell_figures(t, steps.figures, steps.count - 1);
    if (blockIdx.x == 0) fetch_shares(t, true);
    cluster_barrier();  // no block ends while another reads its memory
    leave_all(t, rows);
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
// Blocks of THREADS threads, in clusters: `steps` steps of one network.
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
persistent_steps(int steps, const int64* perm, const double* eta, const double* lam, const real* alphas,
                 const int* labels, const uint8* bytes, const real* values, const real* whole, const real* rest,
                 const real* factor, const int* plan, int plan_size, real* W, real* weights, real* units,
                 real* running, double* total_loss, int64* total_correct, double* total_penalty, real eps, int n, int d,
                 real* exchange, unsigned int* flags, unsigned int number, double* figures, unsigned int* counter, real* V,
                 real* weight_velocities, real* unit_velocities, const real* rho, bool nesterov, const real* smoothing,
                 const real* sample_weights) {
    load_plan(plan, plan_size);
    real* memory = reinterpret_cast<real*>(dynamic_memory);
    const Own* own = reinterpret_cast<const Own*>(dynamic_memory);
    const int rank = blockIdx.x % CLUSTER, each = (n + CLUSTER - 1) / CLUSTER, begin = blockIdx.x * own->rows;
    Momentum momentum{0, 0, nullptr, false};
    if (MOMENTUM) momentum = {weight_velocities - weights, unit_velocities - units, rho, nesterov};
    const Loss loss{smoothing, sample_weights};
    Member t{{memory, reinterpret_cast<const Plan*>(own + 1), nullptr, {weights, units, running}, 0, eps, momentum, loss},
             own, rank, n, each, rank * each};
    t.u.n = samples_of(t, rank);
    const Source source{bytes, values, whole, rest, factor, d};
    const Rows rows{source, W, V, perm, labels, begin, min(begin + own->rows, d)};
    take_steps(t, rows, {steps, eta, lam, alphas, exchange, flags, number, figures});
    if (is_last_block(counter, gridDim.x)) add_figures(figures, steps, total_loss, total_correct, total_penalty);
}
#endif
