// What CUDA's C++ needs to run on a host, so that the text of a kernel is tested as it is.
//
// The threads of a block are fibers: one runs until it meets a barrier, then the next.  A block ends when all of
// them have.  A kernel whose first block meets no barrier needs no fibers.  Blocks run one after the other, forwards or backwards, and so do the threads between two barriers:
// a kernel without a race gives the same bits in both orders.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using std::min;
using std::exp;
using std::fabs;
using std::log;
using std::sqrt;

struct dim3 {
    unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__ static
#define __forceinline__ inline
#define __host__
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n)
// Blocks run one after the other, so what they share can be static.
#define __shared__ static
#define DYNAMIC_MEMORY static unsigned char* dynamic_memory = nullptr
#define EMULATED

namespace emulator {

enum State { ready, at_barrier, at_warp, done };

struct Copy {
    void* to;
    const void* from;
    int bytes;
};

struct Fiber {
    ucontext_t start;
    jmp_buf where;
    std::unique_ptr<char[]> stack;
    State state;
    bool begun;
    dim3 thread;
    unsigned number;
    std::vector<Copy> copies;  // begun, and not waited for
};

static const size_t stack_bytes = 64 * 1024;
static std::vector<Fiber> fibers;
static Fiber* current = nullptr;
static jmp_buf scheduler;
static void (*body)(void**) = nullptr;
static void** arguments = nullptr;
static std::string error;
static unsigned char slots[64][32][16];  // of each warp: what its lanes hand to each other

static void enter() {
    body(arguments);
    if (!current->copies.empty()) error = "a copy to shared memory is not waited for";
    current->state = done;
    _longjmp(scheduler, 1);
}

static bool fibers_needed = true;
static bool eager = false;  // copies to shared memory are made at once
static bool waited = false;

static void wait(State state) {
    waited = true;
    if (!fibers_needed) {
        error = "a block meets a barrier that the first one did not";
        _longjmp(scheduler, 1);
    }
    current->state = state;
    if (_setjmp(current->where) == 0) _longjmp(scheduler, 1);
}

static void resume(Fiber& fiber) {
    current = &fiber;
    threadIdx = fiber.thread;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.where, 1);
    fiber.begun = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = stack_bytes;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
    setcontext(&fiber.start);
}

// Let fibers go on that wait for others that are all there; false if none can.
static bool release(unsigned count) {
    unsigned finished = 0, waiting = 0;
    bool any = false;
    for (unsigned i = 0; i < count; ++i) {
        finished += fibers[i].state == done;
        waiting += fibers[i].state == at_barrier;
    }
    if (waiting == count) {
        for (unsigned i = 0; i < count; ++i) fibers[i].state = ready;
        return true;
    }
    for (unsigned first = 0; first < count; first += 32) {
        unsigned lanes = 0;
        for (unsigned i = first; i < first + 32 && i < count; ++i) lanes += fibers[i].state == at_warp;
        if (lanes == 32) {
            for (unsigned i = first; i < first + 32; ++i) fibers[i].state = ready;
            any = true;
        }
    }
    if (!any && finished < count) error = "a barrier or a shuffle is not reached by all threads";
    return any;
}

static void run_block(unsigned count, bool backwards) {
    if (!fibers_needed) {
        if (_setjmp(scheduler) != 0) return;
        for (unsigned k = 0; k < count; ++k) {
            const unsigned i = backwards ? count - 1 - k : k;
            threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
            body(arguments);
        }
        return;
    }
    for (unsigned i = 0; i < count; ++i) {
        Fiber& fiber = fibers[i];
        fiber.state = ready;
        fiber.begun = false;
        fiber.copies.clear();
        fiber.number = i;
        fiber.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    }
    do {
        for (unsigned k = 0; k < count; ++k) {
            Fiber& fiber = fibers[backwards ? count - 1 - k : k];
            if (fiber.state == ready) resume(fiber);
        }
    } while (release(count));
}

template <typename T>
static T shuffle(T value, unsigned from) {
    const unsigned warp = current->number / 32, lane = current->number % 32;
    std::memcpy(slots[warp][lane], &value, sizeof(T));
    wait(at_warp);
    T result;
    std::memcpy(&result, slots[warp][from % 32], sizeof(T));
    wait(at_warp);
    return result;
}

// Run a kernel; return what is wrong with it, or null.
static const char* launch(void (*kernel)(void**), void** given, const unsigned* grid, const unsigned* block,
                          size_t shared, bool backwards, unsigned char** dynamic) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const unsigned count = block[0] * block[1] * block[2];
    error.clear();
    if (count > 1024) error = "a block has more than 1024 threads";
    if (grid[1] > 65535 || grid[2] > 65535) error = "a grid has more than 65535 blocks in y or z";
    if (!error.empty()) return error.c_str();
    while (fibers.size() < count) {
        fibers.emplace_back();
        fibers.back().stack.reset(new char[stack_bytes]);
    }
    std::vector<unsigned char> memory(shared + 64);
    *dynamic = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
    body = kernel;
    arguments = given;
    fibers_needed = true;
    eager = backwards;
    const std::uint64_t blocks = (std::uint64_t)grid[0] * grid[1] * grid[2];
    for (std::uint64_t k = 0; k < blocks && error.empty(); ++k) {
        const std::uint64_t b = backwards ? blocks - 1 - k : k;
        blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
        std::memset(memory.data(), 0xff, memory.size());  // what nobody has written is not a number
        waited = false;
        run_block(count, backwards);
        fibers_needed = waited;
    }
    return error.empty() ? nullptr : error.c_str();
}

}  // namespace emulator

static void __syncthreads() { emulator::wait(emulator::at_barrier); }
static void __syncwarp(unsigned = 0xffffffff) { emulator::wait(emulator::at_warp); }
static void __threadfence() {}
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
    std::memcpy(emulator::slots[warp][lane], a, 16);
    emulator::wait(emulator::at_warp);
    for (unsigned l = 0; l < 32; ++l) {
        unsigned of[4];
        std::memcpy(of, emulator::slots[warp][l], 16);
        for (unsigned k = 0; k < 8; ++k)
            left[l / 4 + 8 * (k / 2 % 2)][2 * (l % 4) + 8 * (k / 4) + k % 2] = number(of[k / 2], k % 2);
    }
    emulator::wait(emulator::at_warp);
    std::memcpy(emulator::slots[warp][lane], b, 8);
    emulator::wait(emulator::at_warp);
    for (unsigned l = 0; l < 32; ++l) {
        unsigned of[2];
        std::memcpy(of, emulator::slots[warp][l], 8);
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
