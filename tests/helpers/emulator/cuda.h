// What CUDA's C++ needs to run on a host, so that the text of a kernel is tested as it is.
//
// Threads are fibers (fibers.h).  A kernel whose first block meets no barrier needs none.  Blocks run forwards or
// backwards, and so do the threads between two barriers: a kernel without a race gives the same bits in both orders.
#include "fibers.h"

using std::max;
using std::min;
using std::exp;
using std::fabs;
using std::log;
using std::sqrt;

#define __global__
#define __device__ static
#define __forceinline__ inline
#define __host__
#define __restrict__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n)
#define DYNAMIC_MEMORY static unsigned char* dynamic_memory = nullptr
#define EMULATED

static void __syncthreads() { emulator::wait(emulator::at_barrier); }
static void __syncwarp(unsigned = 0xffffffff) { emulator::wait(emulator::at_warp); }
static void __threadfence() { emulator::fence(); }
template <typename T>
static T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulator::shuffle(value, emulator::current->number % 32 ^ unsigned(mask));
}
template <typename T>
static T __shfl_down_sync(unsigned, T value, unsigned by) {
    const unsigned lane = emulator::current->number % 32;
    return emulator::shuffle(value, lane + by < 32 ? lane + by : lane);
}
template <typename T>
static T __shfl_sync(unsigned, T value, int from) {
    return emulator::shuffle(value, unsigned(from));
}
static unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
static float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
// A tensor core's product, as PTX defines mma.sync.m16n8k16 for bfloat16: the warp's lanes hand on what they have, and
// each adds up its own sums.  The sixteen products of a sum are added exactly, and with it they are rounded to zero, as
// tensor cores are taken to do.
static void multiply_tile(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    const unsigned lane = emulator::current->number % 32, warp = emulator::current->number / 32;
    const auto number = [](unsigned word, unsigned which) { return __uint_as_float(which ? word & 0xffff0000 : word << 16); };
    float left[16][16], right[16][8];
    std::memcpy(emulator::block->slots[warp][lane], a, 16);
    emulator::wait(emulator::at_warp);
    for (unsigned l = 0; l < 32; ++l) {
        unsigned of[4];
        std::memcpy(of, emulator::block->slots[warp][l], 16);
        for (unsigned k = 0; k < 8; ++k)
            left[l / 4 + 8 * (k / 2 % 2)][2 * (l % 4) + 8 * (k / 4) + k % 2] = number(of[k / 2], k % 2);
    }
    emulator::wait(emulator::at_warp);
    std::memcpy(emulator::block->slots[warp][lane], b, 8);
    emulator::wait(emulator::at_warp);
    for (unsigned l = 0; l < 32; ++l) {
        unsigned of[2];
        std::memcpy(of, emulator::block->slots[warp][l], 8);
        for (unsigned k = 0; k < 4; ++k) right[2 * (l % 4) + 8 * (k / 2) + k % 2][l / 4] = number(of[k / 2], k % 2);
    }
    emulator::wait(emulator::at_warp);
    for (unsigned k = 0; k < 4; ++k) {
        double sum = d[k];
        for (unsigned q = 0; q < 16; ++q) sum += double(left[lane / 4 + 8 * (k / 2)][q]) * right[q][2 * (lane % 4) + k % 2];
        d[k] = float(sum);
        if (std::fabs(double(d[k])) > std::fabs(sum)) d[k] = std::nextafter(d[k], 0.0f);
    }
}
// A copy is made as late as may be, when it is waited for, or backwards as early as may be, at once: a wait that is
// missing shows in the one order, and a target that is still read in the other.
template <int BYTES>
static void copy_later(void* to, const void* from) {
    const auto places = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from);
    if (places % BYTES != 0) emulator::error = "a copy to shared memory is not aligned";
    if (!emulator::fibers_needed) emulator::error = "the first block did not wait for copies to shared memory";
    else if (emulator::eager) std::memcpy(to, from, BYTES);
    else emulator::current->copies.push_back({to, from, BYTES});
}
static void copies_done() {
    if (emulator::current == nullptr) return;
    for (const auto& copy : emulator::current->copies) std::memcpy(copy.to, copy.from, copy.bytes);
    emulator::current->copies.clear();
}
static unsigned atomicInc(unsigned* at, unsigned limit) {
    const unsigned old = *at;
    *at = old >= limit ? 0 : old + 1;
    return old;
}
template <typename T>
static T atomicAdd(T* at, T value) {
    const T old = *at;
    *at = old + value;
    return old;
}
template <typename T>
static T __ldg(const T* at) {
    return *at;
}
// Clusters, and what blocks tell each other: see clusters.h.
static void cluster_barrier() { emulator::wait(emulator::at_cluster); }
using emulator::peer;
using emulator::tell;
static unsigned load_acquire(const unsigned* flag) {
    emulator::wait(emulator::asking);
    return *flag;
}
static void store_release(unsigned* flag, unsigned value) {
    emulator::fence();
    *flag = value;
}
static void give_up() { emulator::stop("a block gives up: it waits for what does not come"); }
static long long clock64() { return emulator::now; }
// The cache that all blocks share has what has arrived.
template <typename T>
static T load_told_as(const void* at) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
}
#define load_told(at) load_told_as<real4>(at)
