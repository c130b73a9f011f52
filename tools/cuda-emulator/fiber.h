// Fibers: stacks that one OS thread switches between.
#pragma once

#include <cstddef>

namespace emulation {

// Where a fiber stopped: its stack pointer, for what it needs is on its stack, or a ucontext_t on other machines.
using Context = void*;

// Memory for the stacks of a block's threads, with a page that faults below each.
class Stacks {
  public:
    static constexpr std::size_t BYTES = 128 << 10;

    Stacks() = default;
    Stacks(const Stacks&) = delete;
    Stacks& operator=(const Stacks&) = delete;
    ~Stacks();

    void grow(unsigned count);
    // A fiber that has yet to begin with `entry`, which must never return.
    Context prepare(unsigned index, void (*entry)());
    // Whether an address is in a page below a stack, so that one has overflowed.
    bool is_guard(const void* address) const;

  private:
    char* memory_ = nullptr;
    unsigned count_ = 0;
};

// Stops here, to go on when somebody switches to `from`, and goes on with `to`.
void switch_to(Context& from, Context to);

} // namespace emulation
