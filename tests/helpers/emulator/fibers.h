// Threads of blocks as fibers: one runs until it waits for others, then the next.
//
// Blocks of an ordinary kernel run one after the other, each to its end.  Those of a kernel of clusters run in turns, as
// they wait for each other: which block is next, and which of its threads, is drawn from the schedule's seed (0: in
// order).  What they tell each other arrives at once if the launch is `eager`, and otherwise as late as CUDA allows:
//   - what a thread wrote to the memory that its cluster reads, at its cluster's barrier
//   - what it wrote for all blocks (`tell`), at a fence or a release that it, or with a barrier its block, makes after it
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

struct dim3 {
    unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

// What blocks share lies in a section of its own, so that each block in turn finds its own numbers there.
#define __shared__ static __attribute__((section("block_memory")))
__shared__ int __attribute__((used)) a_block_has_memory;  // the section exists
extern "C" char __start_block_memory[] __attribute__((visibility("hidden")));
extern "C" char __stop_block_memory[] __attribute__((visibility("hidden")));

namespace emulator {

enum State { ready, at_barrier, at_warp, at_cluster, asking, done };

struct Copy {
    void* to;
    const void* from;
    int bytes;
};

struct Store {
    void* to;
    unsigned bytes;
    unsigned char value[32];
};

struct Fiber {
    ucontext_t start;
    jmp_buf where;
    std::unique_ptr<char[]> stack;
    State state;
    bool begun;
    dim3 thread;
    unsigned number;            // in its block
    std::vector<Copy> copies;   // begun, and not waited for
    std::vector<Store> stores;  // not arrived anywhere yet
};

struct Block {
    dim3 index;
    unsigned first, count;       // its fibers
    std::vector<unsigned char> memory, told;  // dynamic memory, and as its cluster sees it; see start_of
    std::vector<unsigned char> own;           // the section's numbers
    std::vector<Store> stores;   // that the next fence or release of a thread makes arrive
    bool ended, arrived;         // arrived: at its cluster's barrier, with all threads
    unsigned char slots[32][32][16];  // of each warp: what its lanes hand to each other
};

static const size_t stack_bytes = 64 * 1024;
static std::vector<Fiber> fibers;
static std::vector<std::unique_ptr<Block>> blocks;  // those that run: one, or with clusters all
static Fiber* current = nullptr;
static Block* block = nullptr;
static unsigned cluster = 0;  // blocks of a cluster, or 0
static jmp_buf scheduler;
static void (*body)(void**) = nullptr;
static void** arguments = nullptr;
static std::string error;
static bool fibers_needed = true;
static bool eager = false;  // copies and stores are made at once
static bool waited = false;
static std::int64_t now = 0;  // of the GPU's clock
static std::uint64_t seed = 0;

// Where memory of a block begins, aligned, of which there are 64 bytes more.
static unsigned char* start_of(std::vector<unsigned char>& memory) {
    return memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
}

static void arrive(std::vector<Store>& stores) {
    for (const Store& store : stores) std::memcpy(store.to, store.value, store.bytes);
    stores.clear();
}

// What the running thread, and before a barrier its block, have written for all blocks arrives.
static void fence() {
    arrive(block->stores);
    arrive(current->stores);
}

static void wait(State state) {
    waited = true;
    if (!fibers_needed) {
        error = "a block meets a barrier that the first one did not";
        _longjmp(scheduler, 1);
    }
    current->state = state;
    if (_setjmp(current->where) == 0) _longjmp(scheduler, 1);
}

// End the kernel.
static void stop(const char* why) {
    if (error.empty()) error = why;
    _longjmp(scheduler, 1);
}

static void enter() {
    body(arguments);
    if (!current->copies.empty()) error = "a copy to shared memory is not waited for";
    arrive(current->stores);
    current->state = done;
    _longjmp(scheduler, 1);
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

// Let fibers of the block go on that wait for others of it which are all there; false if none can.
static bool release() {
    Fiber* of = &fibers[block->first];
    const unsigned count = block->count;
    unsigned finished = 0, waiting = 0, elsewhere = 0;
    bool any = false;
    for (unsigned i = 0; i < count; ++i) {
        finished += of[i].state == done;
        waiting += of[i].state == at_barrier;
        elsewhere += of[i].state == at_cluster || of[i].state == asking;
    }
    if (waiting == count) {
        for (unsigned i = 0; i < count; ++i) {
            of[i].state = ready;
            for (const Store& store : of[i].stores) block->stores.push_back(store);
            of[i].stores.clear();
        }
        return true;
    }
    for (unsigned first = 0; first < count; first += 32) {
        unsigned lanes = 0;
        for (unsigned i = first; i < first + 32 && i < count; ++i) lanes += of[i].state == at_warp;
        if (lanes == 32) {
            for (unsigned i = first; i < first + 32; ++i) of[i].state = ready;
            any = true;
        }
    }
    if (!any && !elsewhere && finished < count && error.empty()) error = "a barrier or a shuffle is not reached by all threads";
    return any;
}

// Begin the threads of the block `b` of the grid; its memory is not a number.
static void begin(Block& one, std::uint64_t b, unsigned first, unsigned count, size_t shared) {
    one.index = {unsigned(b % gridDim.x), unsigned(b / gridDim.x % gridDim.y), unsigned(b / gridDim.x / gridDim.y)};
    one.first = first;
    one.count = count;
    one.ended = false;
    one.stores.clear();
    one.memory.assign(shared + 64, 0xff);
    for (unsigned i = 0; i < count; ++i) {
        Fiber& fiber = fibers[first + i];
        fiber.state = ready;
        fiber.begun = false;
        fiber.copies.clear();
        fiber.stores.clear();
        fiber.number = i;
        fiber.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    }
}

static void enough_fibers(std::uint64_t count) {
    while (fibers.size() < count) {
        fibers.emplace_back();
        fibers.back().stack.reset(new char[stack_bytes]);
    }
}

static void run_block(bool backwards) {
    const unsigned count = block->count;
    if (!fibers_needed) {
        if (_setjmp(scheduler) != 0) return;
        for (unsigned k = 0; k < count; ++k) {
            const unsigned i = backwards ? count - 1 - k : k;
            threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
            body(arguments);
        }
        return;
    }
    do {
        for (unsigned k = 0; k < count; ++k) {
            Fiber& fiber = fibers[block->first + (backwards ? count - 1 - k : k)];
            if (fiber.state == ready) resume(fiber);
        }
    } while (release());
}

template <typename T>
static T shuffle(T value, unsigned from) {
    const unsigned warp = current->number / 32, lane = current->number % 32;
    std::memcpy(block->slots[warp][lane], &value, sizeof(T));
    wait(at_warp);
    T result;
    std::memcpy(&result, block->slots[warp][from % 32], sizeof(T));
    wait(at_warp);
    return result;
}

static void run_one_by_one(std::uint64_t grid, unsigned count, size_t shared, bool backwards, unsigned char** dynamic) {
    enough_fibers(count);
    blocks.resize(1);
    if (!blocks[0]) blocks[0].reset(new Block);
    block = blocks[0].get();
    for (std::uint64_t k = 0; k < grid && error.empty(); ++k) {
        begin(*block, backwards ? grid - 1 - k : k, 0, count, shared);
        blockIdx = block->index;
        *dynamic = start_of(block->memory);
        waited = false;
        run_block(backwards);
        fibers_needed = waited;
    }
}

#include "clusters.h"

// Run a kernel whose clusters have `of` blocks (0: it has none); return what is wrong with it, or null.
static const char* launch(void (*kernel)(void**), void** given, const unsigned* grid, const unsigned* block_size,
                          size_t shared, bool backwards, std::uint64_t drawn, unsigned of, unsigned char** dynamic) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block_size[0], block_size[1], block_size[2]};
    const unsigned count = block_size[0] * block_size[1] * block_size[2];
    error.clear();
    if (count > 1024) error = "a block has more than 1024 threads";
    if (grid[1] > 65535 || grid[2] > 65535) error = "a grid has more than 65535 blocks in y or z";
    if (of && grid[0] % of) error = "the grid has no whole number of clusters";
    if (!error.empty()) return error.c_str();
    body = kernel;
    arguments = given;
    fibers_needed = true;
    eager = backwards;
    cluster = of;
    seed = drawn;
    const std::uint64_t all = (std::uint64_t)grid[0] * grid[1] * grid[2];
    if (of) run_together(all, count, shared, backwards, dynamic);
    else run_one_by_one(all, count, shared, backwards, dynamic);
    return error.empty() ? nullptr : error.c_str();
}

}  // namespace emulator
