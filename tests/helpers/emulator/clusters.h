// Blocks that run in turns: clusters, their barrier, and what blocks tell each other.  A part of fibers.h.

static const std::int64_t turn_takes = 1 << 12;        // of the clock
static const std::int64_t for_ever = 1ll << 42;
static const unsigned patience = 6;                     // turns of each other block, until who sleeps wakes
static const unsigned turns_without_progress = 3000;  // of each block, until nothing can come any more

// The next number of the schedule, below `count` (Knuth's linear congruential generator, of which the high bits are used).
static unsigned draw(unsigned count) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned((seed >> 33) % count);
}

static bool all_are(const Block& one, State state) {
    for (unsigned i = 0; i < one.count; ++i)
        if (fibers[one.first + i].state != state) return false;
    return true;
}

// If all threads of the running block's cluster are at its barrier, let them go on: what they had written is then seen by
// their cluster.  Returns whether they were.
static bool release_cluster() {
    block->arrived = all_are(*block, at_cluster);
    if (!block->arrived) return false;
    const size_t first = block->index.x / cluster * cluster;
    for (unsigned b = 0; b < cluster; ++b) {
        if (blocks[first + b]->ended) error = "a block has ended that its cluster waits for";
        if (!blocks[first + b]->arrived) return false;
    }
    for (unsigned b = 0; b < cluster; ++b) {
        Block& one = *blocks[first + b];
        std::memcpy(start_of(one.told), start_of(one.memory), one.memory.size() - 64);
        one.arrived = false;
        for (unsigned i = 0; i < one.count; ++i) fibers[one.first + i].state = ready;
    }
    return true;
}

// Let each thread of the block that can go on do so once; return whether one did more than ask again.
static bool turn(bool backwards) {
    const unsigned count = block->count, shift = seed ? draw(count) : 0;
    bool any = false;
    for (unsigned k = 0; k < count && error.empty(); ++k) {
        Fiber& fiber = fibers[block->first + ((backwards ? count - 1 - k : k) + shift) % count];
        if (fiber.state != ready && fiber.state != asking) continue;
        const bool asked = fiber.state == asking;
        resume(fiber);
        any |= !asked || fiber.state != asking;
    }
    return any;
}

// The block whose turn is next: each in order, or drawn.  Now and then one sleeps until all others wait for it: what it
// has still to read, they may overwrite.
static Block* next_block(std::uint64_t turns, std::uint64_t idle) {
    static Block* asleep;
    const unsigned count = unsigned(blocks.size());
    if (turns == 0 || idle > patience * count) asleep = nullptr;
    if (!seed) return blocks[turns % count].get();
    Block* drawn = blocks[draw(count)].get();
    if (drawn == asleep) return nullptr;
    if (!asleep && idle == 0 && draw(16) == 0) asleep = drawn;
    return drawn;
}

// The running block goes on until it waits for another one, or as the schedule draws it; returns whether it could.
static bool go_on(bool backwards) {
    const size_t bytes = __stop_block_memory - __start_block_memory;
    bool more = true, moved = false;
    std::memcpy(__start_block_memory, block->own.data(), bytes);
    while (more && error.empty()) {
        more = turn(backwards);
        more |= release();
        moved |= more;
        if (seed && draw(4) == 0) break;
    }
    std::memcpy(block->own.data(), __start_block_memory, bytes);
    return moved | release_cluster();
}

static void run_together(std::uint64_t grid, unsigned count, size_t shared, bool backwards, unsigned char** dynamic) {
    enough_fibers(grid * count);
    blocks.resize(grid);
    for (std::uint64_t b = 0; b < grid; ++b) {
        if (!blocks[b]) blocks[b].reset(new Block);
        begin(*blocks[b], b, unsigned(b) * count, count, shared);
        blocks[b]->told.assign(shared + 64, 0xff);
        blocks[b]->own.assign(__stop_block_memory - __start_block_memory, 0xff);
        blocks[b]->arrived = false;
    }
    std::uint64_t idle = 0, left = grid;
    for (std::uint64_t turns = 0; left && error.empty(); ++turns, now += turn_takes) {
        block = next_block(turns, idle);
        bool moved = false;
        if (block && !block->ended && !block->arrived) {
            blockIdx = block->index;
            *dynamic = start_of(block->memory);
            moved = go_on(backwards);
            block->ended = all_are(*block, done);
            if (block->ended) {
                arrive(block->stores);
                std::fill(block->memory.begin(), block->memory.end(), 0xff);  // it has no memory any more
                std::fill(block->told.begin(), block->told.end(), 0xff);
                --left;
            }
        }
        if (moved) idle = 0;
        else if (++idle == grid * turns_without_progress) now += for_ever;  // who asks may find that it takes too long
        else if (idle > 2 * grid * turns_without_progress) error = "blocks wait for each other for ever";
    }
}

// The number `at` of another block of the cluster, by its rank there.
template <typename T>
static const T* peer(const T* at, unsigned rank) {
    const size_t offset = reinterpret_cast<const unsigned char*>(at) - start_of(block->memory);
    if (rank >= cluster || offset + 64 >= block->memory.size()) stop("no such memory of a cluster");
    Block& other = *blocks[block->index.x / cluster * cluster + rank];
    if (other.ended) stop("a block has ended whose memory is read");
    return reinterpret_cast<const T*>(start_of(eager ? other.memory : other.told) + offset);
}

template <typename T>
static void tell(T* at, const T& value) {
    if (eager) {
        *at = value;
        return;
    }
    Store store{at, sizeof(T), {}};
    static_assert(sizeof(T) <= sizeof(store.value), "");
    std::memcpy(store.value, &value, sizeof(T));
    current->stores.push_back(store);
}
