// The device's memory. Each allocation is a mapping of its own between pages that fault.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

std::size_t memory_total(); // PYTHIA_EMULATED_MEMORY
std::size_t memory_free();

// Aligned to 256 and otherwise as close to the page behind it as can be; filled with 0xFF, or with nothing for the host. Null if there is no more.
void* allocate(std::size_t bytes, bool host);
// Makes every later access fault. False if nothing that is allocated begins there.
bool release(void* start, bool host);
void release_all();

// Whether all of it lies in one live allocation of device memory.
bool is_device(const void* start, std::size_t bytes);
// Whether it lies in memory of `allocate` for the host.
bool is_pinned(const void* start);

// Looks at the bytes around allocations that belong to nobody. False, and a line on stderr, if somebody wrote there.
bool check_margins();

// What there is at an address, in words. Only while nothing is allocated or freed.
void describe_address(const void* address, char* text, std::size_t size);

} // namespace emulation
