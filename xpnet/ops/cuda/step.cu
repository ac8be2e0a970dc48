// The first and the last kernel of a captured step: values that differ by step are read at `cursor`, in device memory.

// Copy the inputs of step `cursor` to the addresses that its kernels read.  A thread for each sample and each replica.
//   rows (R or 1, n) and labels of the batch; scale = eta / n; shrink = 2 eta lambda, keep = 1 - shrink (from products
//   in double); alpha of the running statistics; squares = 0.
extern "C" __global__ void begin_step(const int* cursor, const int64* perm, int64 orders, const double* eta,
                                      const double* lam, const real* alphas, const int* labels, int64* rows,
                                      int* batch_labels, real* scale, real* keep, real* shrink, real* alpha,
                                      double* squares, int n, int replicas) {
    const int step = *cursor;
    const int64 count = orders * n, i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        const int64 row = perm[step * count + i];
        rows[i] = row;
        batch_labels[i] = labels[row & 0xffffffff];  // the high bits are a view
    }
    if (i < replicas) {
        const double rate = eta[(int64)step * replicas + i], decay = 2 * rate * lam[i];
        scale[i] = rate / n;
        shrink[i] = decay;
        keep[i] = 1 - decay;
        squares[i] = 0;
    }
    if (i == 0) *alpha = alphas[step];
}

// row = table[cursor], for a table of `size` numbers a step.
extern "C" __global__ void read_row(const int* cursor, const double* table, real* row, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) row[i] = table[(int64)(*cursor) * size + i];
}

// Write the step's figures at `cursor` and move on.  A block a replica.
extern "C" __global__ void end_step(int* cursor, unsigned int* counter, const real* losses, const bool* correct,
                                    const double* squares, double* total_loss, int64* total_correct,
                                    double* total_penalty, int n) {
    __shared__ double part[256];
    const int r = blockIdx.x, replicas = gridDim.x;
    const int64 at = (int64)(*cursor) * replicas + r;
    double sum = 0, right = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        sum += losses[(int64)r * n + i];
        right += correct[(int64)r * n + i] ? 1 : 0;
    }
    sum = block_sum(sum, part);
    right = block_sum(right, part);
    if (threadIdx.x == 0) {
        total_loss[at] = sum;
        total_correct[at] = (int64)right;
        total_penalty[at] = squares[r];
    }
    if (is_last_block(counter, replicas) && threadIdx.x == 0) *cursor += 1;
}
