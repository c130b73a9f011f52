// The driver's state: one device, one context, and what has been made in it.
#pragma once

#include "execute.h"
#include "result.h"

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace emulation {

// Work in a stream; 0 or what went wrong. Nothing runs before somebody waits for it: what a program does between a
// launch and the next wait then comes too early, as it may on a GPU.
using Work = std::function<int()>;

struct Capture {
    int mode;
    std::thread::id thread;
    int result = SUCCESS; // what made it invalid
    std::vector<Work> work;
};

struct Stream {
    bool blocking = true; // waits for the default stream, and is waited for
    bool running = false;
    std::deque<Work> queue;
    std::unique_ptr<Capture> capture;
};

struct Event {
    bool timed = true;
    unsigned pending = 0; // times it is in the queue of `stream`
    Stream* stream = nullptr;
    Capture* capture = nullptr; // that it was last recorded in
    bool recorded = false;
    std::chrono::steady_clock::time_point time;
};

struct Graph {
    std::vector<Work> work;
};

struct Module;

struct Function {
    std::shared_ptr<Module> module;
    const Kernel* kernel;
    std::string name;
};

struct Module {
    void* library = nullptr;
    const char* source = nullptr;
    std::unordered_map<std::string, std::shared_ptr<Function>> functions;
    ~Module();
};

// Handles are addresses that are in a table as long as they are good.
template <typename T>
using Handles = std::unordered_map<const void*, std::shared_ptr<T>>;

struct Driver {
    std::mutex mutex; // held by every call from beginning to end
    bool initialized = false;
    unsigned retained = 0; // of the primary context
    int failed = SUCCESS;  // what a kernel did to the context: told by every call from then on
    Stream default_stream;
    Handles<Stream> streams;
    Handles<Event> events;
    Handles<Module> modules;
    Handles<Function> functions;
    Handles<Graph> graphs, execs;

    Stream* stream(const void* handle);
    // Runs all that is queued.
    int flush(Stream& stream);
    int flush_all();
    // To be done in the stream, or recorded if it is capturing.
    int enqueue(Stream& stream, Work work);
    // For calls that wait for all or allocate: whether a capture forbids them, which it does not survive.
    bool capture_forbids(const char* call, bool even_relaxed);
    // The context goes, with everything in it.
    void reset();
};

Driver& driver();

// Whether a call that needs a context can go on; what it must return if not.
int ready();

// A line on stderr, and the result: what the real driver only gives a number for.
[[gnu::format(printf, 2, 3)]] int complain(int result, const char* format, ...);

#define ENTER                                                                                                          \
    std::lock_guard<std::mutex> lock(driver().mutex);                                                                  \
    if (int result = ready()) return result

} // namespace emulation
