// All layers of a network but the first, by the blocks of a cluster: each has some of the samples.  Every block keeps all
// weights, units and running statistics, and moves units itself, as all of them know all sums.  Of a matrix of weights, a
// block moves its share of the rows, by the gradients that it adds up over the cluster; the others fetch these rows
// behind the last barrier of the step.  Sums have the order of the ranks, so all blocks of all clusters compute the same
// bits.
//
// Barriers of the cluster in a step: one for each layer with batch normalisation, forward, and one for each layer,
// backward, as the sums of a layer's normalisation and the gradient of the weights above it are told at once.

// y <- relu(gamma s_hat + beta) of a layer whose scores are in y, with s_hat; running statistics move on.
__device__ void normalise_in_cluster(const Member& t, const Layer& layer, real* y, real bias, real alpha, int turn) {
    const Upper& u = t.u;
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    const bool mine = j < layer.m;
    real* hat = u.memory + layer.at_hat;
    real sum = 0;
    for (int i = group; mine && i < n; i += GROUPS) sum += y[i * layer.padded + j] + bias;
    const real here = small_sum_of_unit(sum, part_of(u)) / max(n, 1);  // the mean of this block's samples
    sum = 0;
    for (int i = group; mine && i < n; i += GROUPS) {
        const real c = y[i * layer.padded + j] + bias - here;
        sum += c * c;
    }
    tell_sums<2>(t, {group == 0 ? here : real(0), sum}, turn);
    cluster_barrier();
    fetch_sums<2>(t, turn);
    // The mean of all is that of the blocks' means, and the squares about it are those about theirs, and of the difference.
    const real* told = u.memory + t.own->at_told + j;
    real mean = 0, var = 0;
#pragma unroll
    for (int rank = 0; rank < CLUSTER; ++rank) mean += samples_of(t, rank) * told[rank * 3 * WIDTH];
    mean /= t.n;
#pragma unroll
    for (int rank = 0; rank < CLUSTER; ++rank) {
        const real c = told[rank * 3 * WIDTH] - mean;
        var += told[rank * 3 * WIDTH + WIDTH] + samples_of(t, rank) * c * c;
    }
    var /= t.n;
    if (!mine) return;
    const real inv_std = 1 / sqrt(var + u.eps);
    const real gamma = units_of(u)[layer.gamma + j], beta = units_of(u)[layer.beta + j];
    for (int i = group; i < n; i += GROUPS) {
        const real h = (y[i * layer.padded + j] + bias - mean) * inv_std, s = gamma * h + beta;
        hat[i * layer.padded + j] = h;
        y[i * layer.padded + j] = s < 0 ? real(0) : s;
    }
    if (group != 0) return;
    hat[n * layer.padded + j] = inv_std;  // waits behind s_hat for the backward pass
    running_of(u)[layer.mean + j] = alpha * running_of(u)[layer.mean + j] + (1 - alpha) * mean;
    running_of(u)[layer.var + j] = alpha * running_of(u)[layer.var + j] + (1 - alpha) * var;
}

// From the first layer's scores to those of the last one.
__device__ void forward_in_cluster(const Member& t, real alpha, int& turn) {
    const Upper& u = t.u;
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    for (int l = 0; l < u.plan->hidden; ++l) {
        const Layer& layer = u.plan->layers[l];
        real* y = u.memory + layer.at_y;
        const bool mine = j < layer.m;
        const real bias = mine && layer.b >= 0 ? units_of(u)[layer.b + j] : real(0);
        if (layer.gamma >= 0) {
            normalise_in_cluster(t, layer, y, bias, alpha, turn++);
        } else if (mine) {
            for (int i = group; i < n; i += GROUPS) {
                const real s = y[i * layer.padded + j] + bias;
                y[i * layer.padded + j] = s < 0 ? real(0) : s;
            }
        }
        __syncthreads();
        const Layer& above = u.plan->layers[l + 1];
        thin_product<false>(y, layer.padded, u.memory + above.at_W, u.memory + above.at_y, above.padded, n);
        __syncthreads();
    }
}

// What this block tells of layer l and of the normalisation below it, and then gets from its cluster.
enum { OF_BIAS, OF_BETA, OF_GAMMA };

// This block's sums of the gradient g of a layer's scores, and of the gradient dy of the outputs below.
__device__ void tell_gradient_sums(const Member& t, int l, const real* g, const real* dy, int turn) {
    const Upper& u = t.u;
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    const Layer& layer = u.plan->layers[l];
    real sums[3] = {};
    for (int i = group; layer.b >= 0 && j < layer.m && i < n; i += GROUPS) sums[OF_BIAS] += g[i * layer.padded + j];
    if (l > 0 && u.plan->layers[l - 1].gamma >= 0 && j < u.plan->layers[l - 1].m) {
        const Layer& below = u.plan->layers[l - 1];
        const real *y = u.memory + below.at_y, *hat = u.memory + below.at_hat;
        for (int i = group; i < n; i += GROUPS) {
            const int at = i * below.padded + j;
            const real open = y[at] > 0 ? dy[at] : real(0);
            sums[OF_GAMMA] += open * hat[at];
            sums[OF_BETA] += open;
        }
    }
    tell_sums<3>(t, sums, turn);
}

// dy <- dJ/d(scores) of a layer with the gradient dy of its outputs; gamma and beta move.
__device__ void open_gradients(const Member& t, const Layer& layer, real* dy) {
    const Upper& u = t.u;
    const int j = threadIdx.x % WIDTH, group = threadIdx.x / WIDTH, n = u.n;
    const real* y = u.memory + layer.at_y;
    if (j >= layer.m) return;
    if (layer.gamma < 0) {
        for (int i = group; i < n; i += GROUPS)
            if (!(y[i * layer.padded + j] > 0)) dy[i * layer.padded + j] = 0;
        return;
    }
    const real* hat = u.memory + layer.at_hat;
    const real inv_std = hat[n * layer.padded + j], gamma = units_of(u)[layer.gamma + j];
    const real with_s = told_sum(t, OF_GAMMA), alone = told_sum(t, OF_BETA);
    for (int i = group; i < n; i += GROUPS) {
        const int at = i * layer.padded + j;
        const real open = y[at] > 0 ? dy[at] : real(0);
        dy[at] = gamma * inv_std * (open - alone / t.n - hat[at] * (with_s / t.n));
    }
}

// gamma and beta of a layer move by what `open_gradients` read.
__device__ void move_normalisation(const Member& t, const Layer& layer) {
    const int j = threadIdx.x;
    if (layer.gamma < 0 || j >= layer.m) return;
    move_own_unit(t.u, layer.gamma + j, told_sum(t, OF_GAMMA));
    move_own_unit(t.u, layer.beta + j, told_sum(t, OF_BETA));
}

// Numbers of a layer's weights in shared memory; a block moves every CLUSTER-th part of them.
__device__ int size_of(const Plan& plan, int l) { return plan.layers[l - 1].padded * plan.layers[l].padded; }
__device__ int share_of(const Plan& plan, int l) { return (size_of(plan, l) / 4 + CLUSTER - 1) / CLUSTER * 4; }

// This block's share of the weights of a layer moves by the sum of the blocks' gradients.
__device__ double move_share(const Member& t, int l, real decay) {
    const Plan& plan = *t.u.plan;
    const int share = share_of(plan, l), end = min(size_of(plan, l), (t.rank + 1) * share);
    real* W = t.u.memory + plan.layers[l].at_W;
    const real* dW = t.u.memory + t.own->at_dW + plan.layers[l].at_W - plan.layers[1].at_W;
    double squares = 0;
    for (int at = t.rank * share + 4 * threadIdx.x; at < end; at += 4 * THREADS) {
        real4 of[CLUSTER], sum = {};
#pragma unroll
        for (int rank = 0; rank < CLUSTER; ++rank) of[rank] = load4(peer(dW + at, rank));
#pragma unroll
        for (int rank = 0; rank < CLUSTER; ++rank)
            sum = real4{sum.x + of[rank].x, sum.y + of[rank].y, sum.z + of[rank].z, sum.w + of[rank].w};
#if MOMENTUM
        real* velocities = W + plan.behind + at;
#else
        real* velocities = nullptr;
#endif
        squares += move_four(W + at, velocities, sum, push_of(t.u.memory, t.u.plan, t.u.momentum.nesterov), decay);
    }
    return squares;
}

// Fetch the weights that the others have moved, and with `whole` their velocities, which nobody needs before the end.
__device__ void fetch_shares(const Member& t, bool whole) {
    const Plan& plan = *t.u.plan;
    for (int l = 1; l <= plan.hidden; ++l) {
        const int share = share_of(plan, l), size = size_of(plan, l);
        real* W = t.u.memory + plan.layers[l].at_W;
        for (int at = 4 * threadIdx.x; at < size; at += 4 * THREADS) {
            if (at / share == t.rank) continue;
            *reinterpret_cast<real4*>(W + at) = load4(peer(W + at, at / share));
#if MOMENTUM
            if (whole) *reinterpret_cast<real4*>(W + plan.behind + at) = load4(peer(W + plan.behind + at, at / share));
#endif
        }
    }
}

// From dJ/d(scores) * eta of the last layer to that of the first, which is returned: behind a barrier of the cluster,
// all blocks can read it.  All layers but the first move.
__device__ const real* backward_in_cluster(const Member& t, real decay, int& turn) {
    const Upper& u = t.u;
    const Plan& plan = *u.plan;
    const real* g = u.memory + plan.layers[plan.hidden].at_y;
    double squares = 0;  // of this thread's weights before they move
    for (int l = plan.hidden; l >= 0; --l, ++turn) {
        const Layer& layer = plan.layers[l];
        real* dy = gradient_of(u, l % 2);
        if (l > 0) {
            const Layer& below = plan.layers[l - 1];
            real* dW = u.memory + t.own->at_dW + layer.at_W - plan.layers[1].at_W;
            thin_product<true>(g, layer.padded, u.memory + layer.at_W, dy, below.padded, u.n);
            gradient_tiles(u.memory + below.at_y, below.padded, g, layer.padded, u.n,
                           [&](int row, int j, real4 d) { *reinterpret_cast<real4*>(dW + row * layer.padded + j) = d; });
            __syncthreads();
        }
        tell_gradient_sums(t, l, g, dy, turn);
        cluster_barrier();
        fetch_sums<3>(t, turn);
        const int j = threadIdx.x;
        if (layer.b >= 0 && j < layer.m) move_own_unit(u, layer.b + j, told_sum(t, OF_BIAS));
        if (l == 0) break;
        open_gradients(t, plan.layers[l - 1], dy);
        squares += move_share(t, l, decay);
        __syncthreads();  // all have read gamma
        move_normalisation(t, plan.layers[l - 1]);
        g = dy;
    }
    ++turn;
    keep_figure(t, OF_UPPER, squares);
    return g;
}
