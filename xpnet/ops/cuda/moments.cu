// Steps of AdamW and Lion.  Blocks (of a replica's numbers, R); `Members` and `member` are those of update.cu.
//
// `numbers` (9, R) are rate, keep, shrink, beta1, new1, beta2, new2, root, eps; see xpnet/ops/moments.py.

extern "C" __global__ void descend_adamw(real* p, real* first, real* second, int64 stride, int size,
                                         const real* const* sources, const int* starts, int count,
                                         const real* numbers, double* parts, unsigned int* counters, double* totals) {
    const int r = blockIdx.y, R = gridDim.y;
    const Members steps{sources, starts, count};
    const real rate = numbers[r], keep = numbers[R + r], shrink = numbers[2 * R + r];
    const real beta1 = numbers[3 * R + r], new1 = numbers[4 * R + r];
    const real beta2 = numbers[5 * R + r], new2 = numbers[6 * R + r];
    const real root = numbers[7 * R + r], eps = numbers[8 * R + r];
    double sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const int64 at = r * stride + i;
        const real before = p[at];
        sum += (double)before * before;
        const real g = member(steps, r, i) + shrink * before;
        const real mean = beta1 * first[at] + new1 * g;
        const real square = beta2 * second[at] + new2 * (g * g);
        first[at] = mean;
        second[at] = square;
        p[at] = keep * before - rate * mean / (root * sqrt(square) + eps);
    }
    if (totals) add_squares(sum, Squares{parts, counters, totals});
}

extern "C" __global__ void descend_lion(real* p, real* first, int64 stride, int size, const real* const* sources,
                                        const int* starts, int count, const real* numbers, double* parts,
                                        unsigned int* counters, double* totals) {
    const int r = blockIdx.y, R = gridDim.y;
    const Members steps{sources, starts, count};
    const real rate = numbers[r], keep = numbers[R + r], shrink = numbers[2 * R + r];
    const real beta1 = numbers[3 * R + r], new1 = numbers[4 * R + r];
    const real beta2 = numbers[5 * R + r], new2 = numbers[6 * R + r];
    double sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const int64 at = r * stride + i;
        const real before = p[at], moment = first[at];
        sum += (double)before * before;
        const real g = member(steps, r, i) + shrink * before;
        const real mean = beta1 * moment + new1 * g;
        first[at] = beta2 * moment + new2 * g;
        const real move = mean > 0 ? rate : mean < 0 ? -rate : mean;  // a NaN stays one
        p[at] = keep * before - move;
    }
    if (totals) add_squares(sum, Squares{parts, counters, totals});
}
