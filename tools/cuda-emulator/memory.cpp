#include "memory.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <sys/mman.h>

namespace emulation {

namespace {

constexpr std::size_t PAGE = 4096 * 4, ALIGN = 256;
constexpr unsigned char FRESH = 0xFF, MARGIN = 0xA5;
constexpr std::size_t QUARANTINE = 4096; // freed allocations whose addresses are not used again

struct Allocation {
    std::uintptr_t start;
    std::size_t bytes;
    char* map;
    std::size_t map_bytes;
    bool host;

    std::uintptr_t end() const { return start + bytes; }
    // What the program may touch: all between the first page and the last.
    char* open() const { return map + PAGE; }
    char* close() const { return map + map_bytes - PAGE; }
};

std::map<std::uintptr_t, Allocation> live; // by start
std::deque<Allocation> freed;
std::size_t used; // by the device

const Allocation* find(const void* address) {
    auto after = live.upper_bound((std::uintptr_t)address);
    return after == live.begin() ? nullptr : &std::prev(after)->second;
}

bool intact(const Allocation& allocation) {
    auto same = [](const char* from, const char* to) {
        return std::all_of(from, to, [](char byte) { return (unsigned char)byte == MARGIN; });
    };
    if (same(std::max(allocation.open(), (char*)allocation.start - ALIGN), (char*)allocation.start) &&
        same((char*)allocation.end(), allocation.close()))
        return true;
    std::fprintf(stderr, "emulated CUDA: something wrote before or behind the allocation of %zu bytes at %p\n", allocation.bytes,
                 (void*)allocation.start);
    return false;
}

void retire(const Allocation& allocation) {
    // The addresses stay taken: whoever still has one gets a fault, not somebody else's memory.
    mmap(allocation.map, allocation.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (!allocation.host) used -= allocation.bytes;
    freed.push_back(allocation);
    if (freed.size() > QUARANTINE) {
        munmap(freed.front().map, freed.front().map_bytes);
        freed.pop_front();
    }
}

} // namespace

std::size_t memory_total() {
    const char* text = std::getenv("PYTHIA_EMULATED_MEMORY");
    return text ? std::strtoull(text, nullptr, 10) : std::size_t(8) << 30;
}

std::size_t memory_free() { return memory_total() - std::min(used, memory_total()); }

void* allocate(std::size_t bytes, bool host) {
    if (!host && bytes > memory_free()) return nullptr;
    std::size_t inner = (bytes + ALIGN + PAGE - 1) / PAGE * PAGE, all = inner + 2 * PAGE;
    if (inner < bytes) return nullptr;
    void* map = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return nullptr;
    char* open = (char*)map + PAGE;
    mprotect(open, inner, PROT_READ | PROT_WRITE);
    Allocation allocation{((std::uintptr_t)open + inner - bytes) / ALIGN * ALIGN, bytes, (char*)map, all, host};
    std::memset(open, MARGIN, (char*)allocation.start - open);
    std::memset((char*)allocation.start, FRESH, bytes);
    std::memset((char*)allocation.end(), MARGIN, allocation.close() - (char*)allocation.end());
    live[allocation.start] = allocation;
    if (!host) used += bytes;
    return (void*)allocation.start;
}

bool release(void* start, bool host) {
    auto found = live.find((std::uintptr_t)start);
    if (found == live.end() || found->second.host != host) return false;
    intact(found->second);
    retire(found->second);
    live.erase(found);
    return true;
}

void release_all() {
    for (auto& [start, allocation] : live) retire(allocation);
    live.clear();
}

bool is_device(const void* start, std::size_t bytes) {
    const Allocation* allocation = find(start);
    if (!allocation || allocation->host) return false;
    std::size_t offset = (std::uintptr_t)start - allocation->start;
    return offset <= allocation->bytes && bytes <= allocation->bytes - offset;
}

bool is_pinned(const void* start) {
    const Allocation* allocation = find(start);
    return allocation && allocation->host && (std::uintptr_t)start < allocation->end();
}

bool check_margins() {
    bool all = true;
    for (const auto& [start, allocation] : live) all &= intact(allocation);
    return all;
}

void describe_address(const void* address, char* text, std::size_t size) {
    auto at = (std::uintptr_t)address;
    if (at < 1 << 20) {
        std::snprintf(text, size, "a null pointer, or near one");
        return;
    }
    for (auto& [start, allocation] : live) {
        if (at - (std::uintptr_t)allocation.map >= allocation.map_bytes) continue;
        if (at >= allocation.end()) {
            std::snprintf(text, size, "%zu bytes behind an allocation of %zu", (std::size_t)(at - allocation.end()), allocation.bytes);
        } else if (at < start) {
            std::snprintf(text, size, "%zu bytes before an allocation of %zu", (std::size_t)(start - at), allocation.bytes);
        } else {
            std::snprintf(text, size, "inside an allocation of %zu bytes", allocation.bytes);
        }
        return;
    }
    for (auto allocation = freed.rbegin(); allocation != freed.rend(); ++allocation) {
        if (at - (std::uintptr_t)allocation->map >= allocation->map_bytes) continue;
        std::snprintf(text, size, "at %lld in an allocation of %zu bytes that has been freed", (long long)(at - allocation->start),
                      allocation->bytes);
        return;
    }
    std::snprintf(text, size, "not the device's memory");
}

} // namespace emulation
