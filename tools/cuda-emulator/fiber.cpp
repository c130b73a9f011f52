#include "fiber.h"

#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>

#if defined(__x86_64__) && !defined(PYTHIA_EMULATION_UCONTEXT)
#define EMULATION_OWN_SWITCH
#else
#include <ucontext.h>
#endif

namespace emulation {

constexpr std::size_t PAGE = 4096 * 4; // of any machine this may run on

Stacks::~Stacks() {
    if (memory_) munmap(memory_, count_ * BYTES);
}

void Stacks::grow(unsigned count) {
    if (count <= count_) return;
    if (memory_) munmap(memory_, count_ * BYTES);
    void* memory = mmap(nullptr, count * BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    memory_ = (char*)memory;
    for (unsigned i = 0; i < count; i++) mprotect(memory_ + i * BYTES, PAGE, PROT_NONE);
    count_ = count;
}

bool Stacks::is_guard(const void* address) const {
    auto offset = (std::uintptr_t)address - (std::uintptr_t)memory_;
    return memory_ && offset < count_ * BYTES && offset % BYTES < PAGE;
}

#ifdef EMULATION_OWN_SWITCH

// The registers that a called function must preserve go onto the old stack and come from the new one.
asm(R"(
.text
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulation_switch, .-emulation_switch
)");
extern "C" void emulation_switch(Context* from, Context to);

void switch_to(Context& from, Context to) { emulation_switch(&from, to); }

Context Stacks::prepare(unsigned index, void (*entry)()) {
    auto top = (std::uint64_t*)(memory_ + (index + 1) * BYTES);
    *--top = 0;                     // the return address of `entry`, which has none: keeps the stack aligned as after a call
    *--top = (std::uint64_t)entry;  // where `emulation_switch` returns to
    for (int i = 0; i < 6; i++) *--top = 0;
    return top;
}

#else

void switch_to(Context& from, Context to) {
    ucontext_t here;
    from = &here;
    swapcontext(&here, (ucontext_t*)to);
}

Context Stacks::prepare(unsigned index, void (*entry)()) {
    // Lives at the low end of its own stack, above the page that faults.
    auto context = (ucontext_t*)(memory_ + index * BYTES + PAGE);
    getcontext(context);
    context->uc_stack.ss_sp = (char*)(context + 1);
    context->uc_stack.ss_size = BYTES - PAGE - sizeof *context;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return context;
}

#endif

} // namespace emulation
