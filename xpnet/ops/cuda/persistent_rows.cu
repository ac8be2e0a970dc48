// What a block of persistent_steps has of the first layer: its rows of W1, and its features of two batches.

// A block's part of the first layer.
struct Rows {
    Source source;
    real *W, *V;  // in device memory; V with MOMENTUM
    const int64* perm;
    const int* labels;
    int begin, end;  // its features
};

// What a thread holds of the next batch until the last one is done with: one sample's label and weight.
struct Target {
    int label;
    real weight;
};

__device__ real* inputs_of(const Member& t, int step) { return t.u.memory + t.own->at_x + step % 2 * t.n * t.own->rows; }

__device__ int64* order_of(const Member& t, int step) {
    return reinterpret_cast<int64*>(t.u.memory + t.own->at_order) + step % 2 * t.n;
}

// Bring W1 and its velocities to shared memory, with zeros around them, or write them back.
__device__ void load_rows(const Member& t, const Rows& rows) {
    const Layer& layer = t.u.plan->layers[0];
    const int64 at = (int64)rows.begin * layer.m;
    load_matrix(t.u.memory + t.own->at_W1, layer.padded, t.own->rows, rows.W + at, layer.m, rows.end - rows.begin);
    if (MOMENTUM)
        load_matrix(t.u.memory + t.own->at_V1, layer.padded, t.own->rows, rows.V + at, layer.m, rows.end - rows.begin);
    for (int k = threadIdx.x; rows.source.bytes && k < 3 * t.own->rows; k += THREADS) {
        const int which = k / t.own->rows, f = rows.begin + k % t.own->rows;
        const real* from = which == 0 ? rows.source.whole : which == 1 ? rows.source.rest : rows.source.factor;
        if (f < rows.end) copy_later<sizeof(real)>(t.u.memory + t.own->at_scales + k, from + f);
    }
}

__device__ void leave_matrix(real* to, const real* from, int padded, int m, int count) {
    const int j = threadIdx.x % WIDTH;
    for (int i = threadIdx.x / WIDTH; j < m && i < count; i += GROUPS) to[(int64)i * m + j] = from[i * padded + j];
}

// Write back what moved: the block's rows, and by the first block all the rest.
__device__ void leave_all(const Member& t, const Rows& rows) {
    const Upper& u = t.u;
    const Plan& plan = *u.plan;
    const int m = plan.layers[0].m, padded = plan.layers[0].padded, count = rows.end - rows.begin;
    leave_matrix(rows.W + (int64)rows.begin * m, u.memory + t.own->at_W1, padded, m, count);
    if (MOMENTUM) leave_matrix(rows.V + (int64)rows.begin * m, u.memory + t.own->at_V1, padded, m, count);
    if (blockIdx.x != 0) return;
    for (int l = 1; l <= plan.hidden; ++l) {
        const Layer& layer = plan.layers[l];
        leave_matrix(u.there.weights + layer.W, u.memory + layer.at_W, layer.padded, layer.m, plan.layers[l - 1].m);
#if MOMENTUM
        leave_matrix(u.there.weights + layer.W + u.momentum.weights, u.memory + layer.at_W + plan.behind, layer.padded,
                     layer.m, plan.layers[l - 1].m);
#endif
    }
    for (int k = threadIdx.x; k < plan.units; k += THREADS) {
        u.there.units[k] = units_of(u)[k];
#if MOMENTUM
        u.there.units[k + u.momentum.units] = u.memory[plan.at_unit_velocities + k];
#endif
    }
    for (int k = threadIdx.x; k < plan.running; k += THREADS) u.there.running[k] = running_of(u)[k];
}

__device__ bool in_quads(const Source& from) { return from.bytes && from.d % 4 == 0; }

// Begin to bring the samples' numbers of step `step` to shared memory.
__device__ void fetch_order(const Member& t, const Rows& rows, int step) {
    for (int i = threadIdx.x; i < t.n; i += THREADS) copy_later<8>(order_of(t, step) + i, rows.perm + (int64)step * t.n + i);
}

// Begin to bring the batch of step `step`, whose order is there: bytes, or values in their places; and targets.
__device__ Target fetch_batch(const Member& t, const Rows& rows, int step) {
    const int64* order = order_of(t, step);
    const int width = t.own->rows, d = rows.source.d, quads = width / 4;
    if (in_quads(rows.source)) {
        uint8* raw = reinterpret_cast<uint8*>(t.u.memory + t.own->at_raw);
#pragma unroll 2
        for (int k = threadIdx.x; k < t.n * quads; k += THREADS) {
            const int i = k / quads, f = 4 * (k % quads);
            if (rows.begin + f < d) copy_later<4>(raw + i * width + f, rows.source.bytes + order[i] * d + rows.begin + f);
        }
    } else if (rows.source.values) {
        real* x = inputs_of(t, step);
        for (int k = threadIdx.x; k < t.n * width; k += THREADS) {
            const int i = k / width, f = k % width;
            if (rows.begin + f < d) copy_later<sizeof(real)>(x + k, rows.source.values + order[i] * d + rows.begin + f);
            else x[k] = 0;
        }
    }
    Target target = {0, 1};
    if (threadIdx.x < t.u.n) {
        const int64 row = order[t.first + threadIdx.x];
        target.label = rows.labels[row];
        if (MODIFIED_LOSS && t.u.loss.sample_weights) target.weight = t.u.loss.sample_weights[row];
    }
    return target;
}

// Bytes of step `step` to inputs; zeros beyond the last feature.
__device__ void standardise(const Member& t, const Rows& rows, int step) {
    if (!rows.source.bytes) return;
    const int width = t.own->rows, d = rows.source.d, quads = width / 4;
    const bool waits = in_quads(rows.source);
    const uint8* raw = reinterpret_cast<const uint8*>(t.u.memory + t.own->at_raw);
    const real* scales = t.u.memory + t.own->at_scales;
    real* x = inputs_of(t, step);
    for (int k = threadIdx.x; k < t.n * quads; k += THREADS) {
        const int i = k / quads, f = 4 * (k % quads);
        const uint8* from = waits ? raw + i * width + f : rows.source.bytes + order_of(t, step)[i] * d + rows.begin + f;
        real out[4] = {};
#pragma unroll
        for (int q = 0; q < 4; ++q)
            if (rows.begin + f + q < d)
                out[q] = (from[q] - scales[f + q] - scales[width + f + q]) * scales[2 * width + f + q];
        *reinterpret_cast<real4*>(x + i * width + f) = real4{out[0], out[1], out[2], out[3]};
    }
}
