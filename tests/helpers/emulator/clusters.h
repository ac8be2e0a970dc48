// Blocks that run in turns: clusters, their barrier, and what blocks tell each other.  A part of fibers.h.

static const std::int64_t turn_takes = 1 << 12;       // of the clock
static const std::int64_t for_ever = 1ll << 42;
static const unsigned turns_without_progress = 40;    // of each block, until nothing can come any more

// The next number of the schedule, below `count` (Knuth's linear congruential generator, of which the high bits are used).
static unsigned draw(unsigned count) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned((seed >> 33) % count);
}

// Let the clusters go on whose threads are all at their barrier; what they had written is then seen by their cluster.
static bool release_clusters() {
    bool any = false;
    for (size_t first = 0; first < blocks.size(); first += cluster) {
        bool all = true, some = false;
        for (unsigned b = 0; b < cluster; ++b)
            for (unsigned i = 0; i < blocks[first + b]->count; ++i) {
                const bool there = fibers[blocks[first + b]->first + i].state == at_cluster;
                all &= there;
                some |= there;
            }
        if (some && !all)
            for (unsigned b = 0; b < cluster; ++b)
                if (blocks[first + b]->ended) error = "a block has ended that its cluster waits for";
        if (!all) continue;
        any = true;
        for (unsigned b = 0; b < cluster; ++b) {
            Block& one = *blocks[first + b];
            std::memcpy(start_of(one.told), start_of(one.memory), one.memory.size() - 64);
            for (unsigned i = 0; i < one.count; ++i) fibers[one.first + i].state = ready;
        }
    }
    return any;
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

static bool has_ended(const Block& one) {
    for (unsigned i = 0; i < one.count; ++i)
        if (fibers[one.first + i].state != done) return false;
    return true;
}

// One block after the other goes on until it waits for another one, or as the schedule draws it.
static void run_together(std::uint64_t grid, unsigned count, size_t shared, bool backwards, unsigned char** dynamic) {
    const size_t bytes = __stop_block_memory - __start_block_memory;
    enough_fibers(grid * count);
    blocks.resize(grid);
    for (std::uint64_t b = 0; b < grid; ++b) {
        if (!blocks[b]) blocks[b].reset(new Block);
        begin(*blocks[b], b, unsigned(b) * count, count, shared);
        blocks[b]->told.assign(shared + 64, 0xff);
        blocks[b]->own.assign(bytes, 0xff);
    }
    std::uint64_t idle = 0, next = 0, left = grid;
    while (left && error.empty()) {
        block = blocks[seed ? draw(unsigned(grid)) : next++ % grid].get();
        if (block->ended) continue;
        blockIdx = block->index;
        *dynamic = start_of(block->memory);
        std::memcpy(__start_block_memory, block->own.data(), bytes);
        bool more = true, moved = false;
        while (more && error.empty()) {
            more = turn(backwards);
            more |= release();
            moved |= more;
            if (seed && draw(4) == 0) break;
        }
        std::memcpy(block->own.data(), __start_block_memory, bytes);
        if (has_ended(*block)) {
            block->ended = true;
            std::fill(block->memory.begin(), block->memory.end(), 0xff);  // it has no memory any more
            std::fill(block->told.begin(), block->told.end(), 0xff);
            --left;
        }
        now += turn_takes;
        if (release_clusters() || moved) idle = 0;
        else if (++idle == grid * turns_without_progress) now += for_ever;  // who asks may find that it takes too long
        else if (idle > 2 * grid * turns_without_progress) error = "blocks wait for each other for ever";
    }
}

// The number `at` of another block of the cluster, by its rank there.
template <typename T>
static const T* peer(const T* at, unsigned rank) {
    Block& other = *blocks[block->index.x / cluster * cluster + rank];
    const size_t offset = reinterpret_cast<const unsigned char*>(at) - start_of(block->memory);
    if (rank >= cluster || offset + 64 >= block->memory.size()) stop("no such memory of a cluster");
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
