#include "execute.h"

#include "fiber.h"
#include "memory.h"
#include "result.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "worker.h"

EMULATION_TLS __thread const emulation::Place* emulation_place;

namespace emulation {

EMULATION_TLS __thread Worker* worker;

// The order in which threads that could all go on are chosen, PYTHIA_EMULATED_ORDER. What is right with all of them
// does not depend on a barrier that is not there.
struct Order {
    enum { FORWARD, BACKWARD, RANDOM } kind = FORWARD;
    std::uint64_t seed = 0;

    static Order of_environment() {
        const char* text = std::getenv("PYTHIA_EMULATED_ORDER");
        Order order;
        if (!text || !*text || !std::strcmp(text, "forward")) return order;
        if (!std::strcmp(text, "backward")) {
            order.kind = BACKWARD;
        } else if (!std::strncmp(text, "random:", 7)) {
            order.kind = RANDOM;
            order.seed = std::strtoull(text + 7, nullptr, 10);
        } else {
            std::fprintf(stderr, "emulated CUDA: PYTHIA_EMULATED_ORDER is %s, not forward, backward or random:SEED\n", text);
            std::abort();
        }
        return order;
    }
};

struct Run {
    const Launch& launch;
    Order order;
    std::uint64_t blocks;
    std::atomic<std::uint64_t> next{0};
    std::atomic<int> result{0};
};

// Visits 0..n - 1, each once.
class Visit {
  public:
    Visit(const Order& order, std::uint64_t n, std::uint64_t& random) : n_(n) {
        if (order.kind == Order::BACKWARD) start_ = n - 1, step_ = n - 1;
        if (order.kind == Order::RANDOM) {
            start_ = draw(random) % n;
            do step_ = draw(random) % n;
            while (std::__gcd(step_, n) != 1);
        }
    }
    std::uint64_t operator[](std::uint64_t i) const { return (start_ + (unsigned __int128)i * step_) % n_; }

    static std::uint64_t draw(std::uint64_t& state) { // splitmix64
        std::uint64_t z = state += 0x9E3779B97F4A7C15;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    }

  private:
    std::uint64_t n_, start_ = 0, step_ = 1;
};

namespace {

void thread_main() {
    Thread* me = worker->running;
    const Launch& launch = worker->run->launch;
    launch.kernel->run(launch.args.data());
    me->state = Thread::DONE;
    worker->leave();
    __builtin_unreachable();
}

// Where this OS thread has the shared memory of the object that `inside` is an address in.
struct SharedSearch {
    std::uintptr_t inside;
    void* start = nullptr;
    std::size_t bytes = 0;
};
int find_shared(dl_phdr_info* info, std::size_t, void* data) {
    auto& search = *(SharedSearch*)data;
    const ElfW(Phdr)* tls = nullptr;
    bool found = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const auto& header = info->dlpi_phdr[i];
        if (header.p_type == PT_TLS) tls = &header;
        if (header.p_type == PT_LOAD) found |= search.inside - (info->dlpi_addr + header.p_vaddr) < header.p_memsz;
    }
    if (!found) return 0;
    if (tls) search.start = info->dlpi_tls_data, search.bytes = tls->p_memsz;
    return 1;
}
SharedSearch shared_of(const Kernel& kernel) {
    kernel.shared(); // or it might not exist yet
    SharedSearch search{(std::uintptr_t)&kernel};
    dl_iterate_phdr(find_shared, &search);
    return search;
}

} // namespace

std::size_t shared_bytes(const Kernel& kernel) {
    return shared_of(kernel).bytes - 1; // `emulation_shared` has one of its own
}

// ---- One block.

void Worker::leave() { switch_to(running->context, scheduler); }

void Worker::report(int result, const char* message) {
    int none = 0;
    if (!run->result.compare_exchange_strong(none, result)) return; // the first to fail is heard
    const Place* place = running ? &running->place : &threads[0].place;
    char who[32] = "";
    if (running) std::snprintf(who, sizeof who, ", thread %u", place->thread.x);
    std::fprintf(stderr, "emulated CUDA: %s in kernel %s, block (%u, %u, %u)%s: %s\n", result_name(result), run->launch.name,
                 place->block.x, place->block.y, place->block.z, who, message);
}

void fail(int result, const char* format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (!worker || !worker->running) {
        std::fprintf(stderr, "emulated CUDA: outside a kernel: %s\n", message);
        std::abort();
    }
    worker->report(result, message);
    worker->leave(); // for ever: nobody goes on with a launch that has failed
    __builtin_unreachable();
}

Quote quote(int line) {
    const char* text = worker ? worker->run->launch.source : nullptr;
    if (!text || line < 1) return {"", 0};
    while (--line > 0) {
        text = std::strchr(text, '\n');
        if (!text++) return {"", 0};
    }
    text += std::strspn(text, " \t");
    return {text, std::min<int>(100, (int)std::strcspn(text, "\n"))};
}

namespace {

// "0-15, 18": the threads in question.
std::string ranges(const std::vector<Thread>& threads, unsigned from, unsigned to, const Thread& like) {
    auto same = [&](unsigned i) {
        const Thread& thread = threads[i];
        return thread.state == like.state && thread.line == like.line &&
               (like.state != Thread::MEETING || thread.op == like.op);
    };
    std::string text;
    for (unsigned i = from; i < to; i++) {
        if (!same(i)) continue;
        unsigned first = i;
        while (i + 1 < to && same(i + 1)) i++;
        text += (text.empty() ? "" : ", ") + std::to_string(first) + (i > first ? "-" + std::to_string(i) : "");
    }
    return text;
}

} // namespace

// What each of these threads waits for, said once for those that wait for the same.
std::string Worker::describe(unsigned from, unsigned to) {
    std::string text;
    for (unsigned i = from; i < to; i++) {
        const Thread& thread = threads[i];
        bool told = false;
        for (unsigned j = from; j < i; j++)
            told |= threads[j].state == thread.state && threads[j].line == thread.line &&
                    (thread.state != Thread::MEETING || threads[j].op == thread.op);
        if (told) continue;
        text += (text.empty() ? "threads " : "; threads ") + ranges(threads, from, to, thread);
        if (thread.state == Thread::DONE) {
            text += " have returned";
            continue;
        }
        Quote line = quote(thread.line);
        text += std::string(" are at ") + (thread.state == Thread::MEETING ? thread.op : "__syncthreads") + ", line " +
                std::to_string(thread.line) + (line.length ? ": " + std::string(line.text, line.length) : "");
    }
    return text;
}

// Runs the threads of a warp until each waits for another warp or has returned.
void Worker::run_warp(unsigned index, std::uint64_t& random) {
    unsigned from = index * WARP, to = std::min<unsigned>(from + WARP, threads.size());
    Warp& warp = warps[index];
    while (warp.ready) {
        Visit lanes(run->order, to - from, random);
        for (unsigned i = 0; i < to - from; i++) {
            Thread& thread = threads[from + lanes[i]];
            if (thread.state != Thread::READY) continue;
            warp.ready--;
            running = &thread;
            emulation_place = &thread.place;
            switch_to(scheduler, thread.context);
            running = nullptr;
            if (run->result) return;
        }
    }
    if (warp.met) report(LAUNCH_FAILED, ("a warp's lanes have parted: " + describe(from, to)).c_str());
}

void Worker::run_block(std::uint64_t number) {
    const Launch& launch = run->launch;
    unsigned count = launch.block.x;
    SharedSearch found = shared_of(*launch.kernel);
    shared = (char*)found.start, shared_size = found.bytes;
    std::memset(shared, 0xCB, shared_size); // what was there before is not to be relied on

    std::uint64_t random = run->order.seed ^ number * 0x9E3779B97F4A7C15;
    Dim block = {(unsigned)(number % launch.grid.x), (unsigned)(number / launch.grid.x % launch.grid.y),
                 (unsigned)(number / launch.grid.x / launch.grid.y)};
    stacks.grow(count);
    threads.resize(count);
    warps.assign((count + WARP - 1) / WARP, Warp{});
    for (unsigned i = 0; i < count; i++) {
        Thread& thread = threads[i];
        thread.place = {{i, 0, 0}, block, launch.block, launch.grid};
        thread.context = stacks.prepare(i, thread_main);
        thread.state = Thread::READY;
        thread.copies.clear();
        thread.group = 0;
        warps[i / WARP].ready++;
    }

    while (!run->result) {
        Visit order(run->order, warps.size(), random);
        for (unsigned i = 0; i < warps.size() && !run->result; i++) run_warp(order[i], random);
        if (run->result) return;
        // All wait at a barrier or have returned.
        unsigned done = 0;
        bool together = true;
        for (const Thread& thread : threads) {
            done += thread.state == Thread::DONE;
            together &= thread.state == Thread::DONE || thread.line == threads[0].line;
        }
        if (done == count) return;
        if (done || !together) {
            report(LAUNCH_FAILED, ("not all threads reach the same barrier: " + describe(0, count)).c_str());
            return;
        }
        for (Thread& thread : threads) thread.state = Thread::READY;
        for (unsigned i = 0; i < count; i++) warps[i / WARP].ready++;
    }
}

// ---- Where threads meet.

void Worker::meet(const char* op, unsigned mask, int line, void* operand, void (*all)(Thread* lanes)) {
    Thread& me = *running;
    if (mask != 0xFFFFFFFF) fail(LAUNCH_FAILED, "%s, line %d: mask %08x, not all lanes", op, line, mask);
    unsigned index = me.place.thread.x / WARP;
    Warp& warp = warps[index];
    me.state = Thread::MEETING;
    me.op = op, me.line = line, me.operand = operand;
    if (++warp.met == WARP) {
        Thread* lanes = &threads[index * WARP];
        for (unsigned i = 0; i < WARP; i++)
            if (std::strcmp(lanes[i].op, op) || lanes[i].line != line)
                fail(LAUNCH_FAILED, "a warp's lanes have parted: %s", describe(index * WARP, index * WARP + WARP).c_str());
        if (all) all(lanes);
        for (unsigned i = 0; i < WARP; i++) lanes[i].state = Thread::READY;
        warp.met = 0, warp.ready = WARP;
    }
    leave();
}

void Worker::barrier(int line) {
    running->state = Thread::BARRIER;
    running->line = line;
    leave();
}

// ---- All blocks.

namespace {

class Pool {
  public:
    Pool() {
        const char* text = std::getenv("PYTHIA_EMULATED_THREADS");
        size_ = text ? std::max(1, std::atoi(text)) : std::max(1u, std::thread::hardware_concurrency());
        for (unsigned i = 0; i < size_; i++) std::thread([this, i] { work(i); }).detach();
    }

    void execute(Run& run) {
        std::unique_lock<std::mutex> lock(mutex_);
        run_ = &run;
        wanted_ = (unsigned)std::min<std::uint64_t>(size_, run.blocks);
        generation_++;
        busy_ = wanted_;
        start_.notify_all();
        end_.wait(lock, [&] { return busy_ == 0; });
    }

  private:
    void work(unsigned index) {
        Worker me;
        worker = &me;
        // A handler must not run on the stack that has just overflowed.
        static constexpr std::size_t BYTES = 64 << 10;
        auto memory = std::make_unique<char[]>(BYTES);
        stack_t stack{};
        stack.ss_sp = memory.get(), stack.ss_size = BYTES;
        sigaltstack(&stack, nullptr);

        unsigned seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            start_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            if (index >= wanted_) continue;
            Run& run = *run_;
            lock.unlock();
            std::uint64_t random = run.order.seed;
            Visit blocks(run.order, run.blocks, random);
            me.run = &run;
            for (std::uint64_t i; !run.result && (i = run.next++) < run.blocks;) me.run_block(blocks[i]);
            lock.lock();
            if (--busy_ == 0) end_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable start_, end_;
    Run* run_ = nullptr;
    unsigned size_, wanted_ = 0, busy_ = 0, generation_ = 0;
};

struct sigaction previous[NSIG];

// A fault of a kernel ends its launch; any other is somebody else's.
void on_fault(int signal, siginfo_t* info, void* context) {
    if (!worker || !worker->running) {
        if (previous[signal].sa_flags & SA_SIGINFO) return previous[signal].sa_sigaction(signal, info, context);
        if (previous[signal].sa_handler != SIG_DFL && previous[signal].sa_handler != SIG_IGN)
            return previous[signal].sa_handler(signal);
        sigaction(signal, &previous[signal], nullptr); // happens again, and is then the default's
        return;
    }
    switch (signal) {
    case SIGFPE:
        fail(LAUNCH_FAILED, "integer division by zero, or with a result out of range");
    case SIGILL:
        fail(ILLEGAL_INSTRUCTION, "a path that must not be taken");
    default:
        if (worker->stacks.is_guard(info->si_addr)) fail(LAUNCH_FAILED, "stack overflow");
        char where[256];
        describe_address(info->si_addr, where, sizeof where);
        fail(ILLEGAL_ADDRESS, "address %p: %s", info->si_addr, where);
    }
}

} // namespace

int execute(const Launch& launch) {
    static Pool* pool = [] {
        struct sigaction action {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; // it leaves by a switch of stacks, and may be needed again
        for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigaction(signal, &action, &previous[signal]);
        return new Pool; // never ends: its threads must outlive everything that may launch
    }();
    Run run{launch, Order::of_environment(), (std::uint64_t)launch.grid.x * launch.grid.y * launch.grid.z};
    pool->execute(run);
    return run.result;
}

} // namespace emulation
