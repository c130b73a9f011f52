// Of the driver API: streams, copies, events, captures and graphs.

#include "driver.h"

#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulation {

Stream* Driver::stream(const void* handle) {
    if ((std::uintptr_t)handle <= 2) return &default_stream; // null, CU_STREAM_LEGACY, CU_STREAM_PER_THREAD
    auto found = streams.find(handle);
    if (found != streams.end()) return found->second.get();
    complain(INVALID_HANDLE, "%p is not a stream", handle);
    return nullptr;
}

int Driver::flush(Stream& stream) {
    if (stream.running) return failed; // it waits for work that waits for it
    stream.running = true;
    bool any = !stream.queue.empty();
    while (!stream.queue.empty()) {
        Work work = std::move(stream.queue.front());
        stream.queue.pop_front();
        if (!failed) failed = work();
    }
    if (any && !failed && !check_margins()) failed = ILLEGAL_ADDRESS;
    stream.running = false;
    return failed;
}

int Driver::flush_all() {
    flush(default_stream);
    for (auto& [handle, stream] : streams) flush(*stream);
    return failed;
}

int Driver::enqueue(Stream& stream, Work work) {
    if (stream.capture) {
        stream.capture->work.push_back(std::move(work));
        return SUCCESS;
    }
    if (&stream == &default_stream) {
        for (auto& [handle, other] : streams)
            if (other->blocking) flush(*other);
    } else if (stream.blocking) {
        flush(default_stream);
    }
    stream.queue.push_back(std::move(work));
    const char* at_once = std::getenv("CUDA_LAUNCH_BLOCKING");
    return at_once && *at_once == '1' ? flush(stream) : SUCCESS;
}

bool Driver::capture_forbids(const char* call, bool even_relaxed) {
    for (auto& [handle, stream] : streams) {
        if (!stream->capture) continue;
        Capture& capture = *stream->capture;
        bool concerned = capture.mode == 0 || (capture.mode == 1 && capture.thread == std::this_thread::get_id()) || even_relaxed;
        if (!concerned) continue;
        capture.result = STREAM_CAPTURE_UNSUPPORTED;
        complain(STREAM_CAPTURE_UNSUPPORTED, "%s while a stream is capturing", call);
        return true;
    }
    return false;
}

namespace {

// Copies of up to this size from ordinary memory are staged, as the driver does; larger ones wait.
constexpr std::size_t STAGED = 64 << 10;

int device_range(const char* call, const void* start, std::size_t bytes) {
    if (is_device(start, bytes)) return SUCCESS;
    return complain(INVALID_VALUE, "%s: %zu bytes at %p are not in one allocation of device memory", call, bytes, start);
}

// A copy between two ranges, each on the device or in host memory.
int copy(const char* call, void* to, const void* from, std::size_t bytes, bool to_device, bool from_device, void* handle, bool wait) {
    Driver& d = driver();
    Stream* stream = d.stream(handle);
    if (!stream) return INVALID_HANDLE;
    auto ranges = [=] {
        if (to_device)
            if (int result = device_range(call, to, bytes)) return result;
        return from_device ? device_range(call, from, bytes) : SUCCESS;
    };
    if (int result = ranges()) return result;
    if (wait && d.capture_forbids(call, false)) return STREAM_CAPTURE_UNSUPPORTED;
    Work work = [=] {
        if (int result = ranges()) return result;
        std::memmove(to, from, bytes);
        return int(SUCCESS);
    };
    bool pageable = (!to_device && !is_pinned(to)) || (!from_device && !is_pinned(from));
    if (stream->capture && pageable) {
        stream->capture->result = STREAM_CAPTURE_UNSUPPORTED;
        return complain(STREAM_CAPTURE_UNSUPPORTED, "%s with memory that is not page-locked, in a stream that is capturing", call);
    }
    if (pageable && to_device && bytes <= STAGED && !wait) {
        std::vector<char> staged((const char*)from, (const char*)from + bytes);
        return d.enqueue(*stream, [=, staged = std::move(staged)] {
            if (int result = device_range(call, to, bytes)) return result;
            std::memcpy(to, staged.data(), bytes);
            return int(SUCCESS);
        });
    }
    if (int result = d.enqueue(*stream, std::move(work))) return result;
    return wait || pageable ? d.flush(*stream) : SUCCESS;
}

int fill(const char* call, void* to, unsigned char value, std::size_t bytes, void* handle) {
    Stream* stream = driver().stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (int result = device_range(call, to, bytes)) return result;
    return driver().enqueue(*stream, [=] {
        if (int result = device_range(call, to, bytes)) return result;
        std::memset(to, value, bytes);
        return int(SUCCESS);
    });
}

template <typename T>
T* lookup(Handles<T>& handles, const void* handle, const char* what) {
    auto found = handles.find(handle);
    if (found != handles.end()) return found->second.get();
    complain(INVALID_HANDLE, "%p is not %s", handle, what);
    return nullptr;
}

template <typename T>
void* add(Handles<T>& handles, std::shared_ptr<T> object) {
    void* handle = object.get();
    handles[handle] = std::move(object);
    return handle;
}

int record(std::shared_ptr<Event> event, Stream& stream) {
    event->recorded = true;
    event->stream = &stream;
    event->capture = stream.capture.get();
    if (stream.capture) return SUCCESS; // in one stream, order says it all
    event->pending++;
    return driver().enqueue(stream, [event] {
        event->pending--;
        event->time = std::chrono::steady_clock::now();
        return int(SUCCESS);
    });
}

int finish(Event& event, const char* call) {
    if (event.capture) return complain(CAPTURED_EVENT, "%s of an event that is recorded in a capture", call);
    return event.pending ? driver().flush(*event.stream) : SUCCESS;
}

} // namespace

} // namespace emulation

using namespace emulation;

extern "C" {

// ---- Streams.

int cuStreamCreateWithPriority(void** out, unsigned flags, int) {
    ENTER;
    if (flags > 1) return INVALID_VALUE;
    auto stream = std::make_shared<Stream>();
    stream->blocking = flags == 0;
    *out = add(driver().streams, stream);
    return SUCCESS;
}

int cuStreamCreate(void** out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }

int cuStreamDestroy_v2(void* handle) {
    ENTER;
    Stream* stream = lookup(driver().streams, handle, "a stream");
    if (!stream) return INVALID_HANDLE;
    int result = driver().flush(*stream);
    for (auto& [other, event] : driver().events)
        if (event->stream == stream) event->stream = nullptr;
    driver().streams.erase(handle);
    return result;
}

int cuStreamSynchronize(void* handle) {
    ENTER;
    Stream* stream = driver().stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->result = STREAM_CAPTURE_UNSUPPORTED;
        return complain(STREAM_CAPTURE_UNSUPPORTED, "cuStreamSynchronize of a stream that is capturing");
    }
    if (stream == &driver().default_stream) {
        for (auto& [other, blocking] : driver().streams)
            if (blocking->blocking) driver().flush(*blocking);
    }
    return driver().flush(*stream);
}

int cuStreamQuery(void* handle) { return cuStreamSynchronize(handle); }

int cuStreamWaitEvent(void* handle, void* event_handle, unsigned) {
    ENTER;
    Stream* stream = driver().stream(handle);
    Event* event = lookup(driver().events, event_handle, "an event");
    if (!stream || !event) return INVALID_HANDLE;
    if (event->capture != stream->capture.get()) {
        if (event->capture) return complain(NOT_SUPPORTED, "a capture that spreads to another stream: the emulator has none");
        if (!event->recorded) return SUCCESS;
        stream->capture->result = STREAM_CAPTURE_ISOLATION;
        return complain(STREAM_CAPTURE_ISOLATION, "a capture waits for an event that is recorded outside it");
    }
    if (stream->capture || !event->pending) return SUCCESS;
    auto kept = driver().events[event_handle];
    return driver().enqueue(*stream, [kept] { return kept->pending && kept->stream ? driver().flush(*kept->stream) : int(SUCCESS); });
}

int cuLaunchHostFunc(void* handle, void (*function)(void*), void* argument) {
    ENTER;
    Stream* stream = driver().stream(handle);
    if (!stream) return INVALID_HANDLE;
    return driver().enqueue(*stream, [=] {
        function(argument);
        return int(SUCCESS);
    });
}

// ---- Copies.

int cuMemcpyHtoD_v2(void* to, const void* from, std::size_t bytes) {
    ENTER;
    return copy("cuMemcpyHtoD", to, from, bytes, true, false, nullptr, true);
}
int cuMemcpyDtoH_v2(void* to, const void* from, std::size_t bytes) {
    ENTER;
    return copy("cuMemcpyDtoH", to, from, bytes, false, true, nullptr, true);
}
int cuMemcpyDtoD_v2(void* to, const void* from, std::size_t bytes) {
    ENTER;
    return copy("cuMemcpyDtoD", to, from, bytes, true, true, nullptr, true);
}
int cuMemcpyHtoDAsync_v2(void* to, const void* from, std::size_t bytes, void* stream) {
    ENTER;
    return copy("cuMemcpyHtoDAsync", to, from, bytes, true, false, stream, false);
}
int cuMemcpyDtoHAsync_v2(void* to, const void* from, std::size_t bytes, void* stream) {
    ENTER;
    return copy("cuMemcpyDtoHAsync", to, from, bytes, false, true, stream, false);
}
int cuMemcpyDtoDAsync_v2(void* to, const void* from, std::size_t bytes, void* stream) {
    ENTER;
    return copy("cuMemcpyDtoDAsync", to, from, bytes, true, true, stream, false);
}
int cuMemsetD8Async(void* to, unsigned char value, std::size_t bytes, void* stream) {
    ENTER;
    return fill("cuMemsetD8Async", to, value, bytes, stream);
}
int cuMemsetD8_v2(void* to, unsigned char value, std::size_t bytes) {
    ENTER;
    if (driver().capture_forbids("cuMemsetD8", false)) return STREAM_CAPTURE_UNSUPPORTED;
    return fill("cuMemsetD8", to, value, bytes, nullptr);
}

// ---- Events.

int cuEventCreate(void** out, unsigned flags) {
    ENTER;
    auto event = std::make_shared<Event>();
    event->timed = !(flags & 2);
    *out = add(driver().events, event);
    return SUCCESS;
}

int cuEventDestroy_v2(void* handle) {
    ENTER;
    return driver().events.erase(handle) ? SUCCESS : complain(INVALID_HANDLE, "%p is not an event", handle);
}

int cuEventRecord(void* handle, void* stream_handle) {
    ENTER;
    Event* event = lookup(driver().events, handle, "an event");
    Stream* stream = driver().stream(stream_handle);
    if (!stream || !event) return INVALID_HANDLE;
    return record(driver().events[handle], *stream);
}

int cuEventSynchronize(void* handle) {
    ENTER;
    Event* event = lookup(driver().events, handle, "an event");
    return event ? finish(*event, "cuEventSynchronize") : INVALID_HANDLE;
}

int cuEventQuery(void* handle) {
    ENTER;
    Event* event = lookup(driver().events, handle, "an event");
    return event ? finish(*event, "cuEventQuery") : INVALID_HANDLE;
}

int cuEventElapsedTime_v2(float* milliseconds, void* from_handle, void* to_handle) {
    ENTER;
    Event *from = lookup(driver().events, from_handle, "an event"), *to = lookup(driver().events, to_handle, "an event");
    if (!from || !to) return INVALID_HANDLE;
    if (!from->timed || !to->timed || !from->recorded || !to->recorded)
        return complain(INVALID_HANDLE, "cuEventElapsedTime of events that are not recorded, or keep no time");
    if (from->pending || to->pending) return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
    return SUCCESS;
}
int cuEventElapsedTime(float* milliseconds, void* from, void* to) { return cuEventElapsedTime_v2(milliseconds, from, to); }

// ---- Captures and graphs.

int cuStreamBeginCapture_v2(void* handle, int mode) {
    ENTER;
    Stream* stream = driver().stream(handle);
    if (!stream || mode < 0 || mode > 2) return stream ? INVALID_VALUE : INVALID_HANDLE;
    if (stream == &driver().default_stream) return complain(STREAM_CAPTURE_UNSUPPORTED, "capture of the default stream");
    if (stream->capture) return complain(INVALID_VALUE, "the stream is capturing already");
    stream->capture.reset(new Capture{mode, std::this_thread::get_id(), SUCCESS, {}});
    return SUCCESS;
}

int cuStreamEndCapture(void* handle, void** graph) {
    ENTER;
    Stream* stream = driver().stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (!stream->capture) return complain(INVALID_VALUE, "the stream is not capturing");
    auto capture = std::move(stream->capture);
    for (auto& [other, event] : driver().events)
        if (event->capture == capture.get()) event->capture = nullptr, event->recorded = false;
    *graph = nullptr;
    if (capture->result) return complain(STREAM_CAPTURE_INVALIDATED, "because of an earlier call");
    *graph = add(driver().graphs, std::make_shared<Graph>(Graph{std::move(capture->work)}));
    return SUCCESS;
}

int cuStreamIsCapturing(void* handle, int* status) {
    ENTER;
    Stream* stream = driver().stream(handle);
    if (!stream) return INVALID_HANDLE;
    *status = !stream->capture ? 0 : stream->capture->result ? 2 : 1;
    return SUCCESS;
}

int cuGraphInstantiateWithFlags(void** exec, void* handle, unsigned long long flags) {
    ENTER;
    Graph* graph = lookup(driver().graphs, handle, "a graph");
    if (!graph) return INVALID_HANDLE;
    if (flags & ~0xFull || (flags & 5) == 5) return INVALID_VALUE;
    *exec = add(driver().execs, std::make_shared<Graph>(*graph));
    return SUCCESS;
}

int cuGraphLaunch(void* handle, void* stream_handle) {
    ENTER;
    Graph* exec = lookup(driver().execs, handle, "an executable graph");
    Stream* stream = driver().stream(stream_handle);
    if (!exec || !stream) return INVALID_HANDLE;
    auto kept = driver().execs[handle];
    return driver().enqueue(*stream, [kept] {
        for (const Work& work : kept->work)
            if (int result = work()) return result;
        return int(SUCCESS);
    });
}

int cuGraphUpload(void* handle, void* stream) {
    ENTER;
    return lookup(driver().execs, handle, "an executable graph") && driver().stream(stream) ? SUCCESS : INVALID_HANDLE;
}

int cuGraphDestroy(void* handle) {
    ENTER;
    return driver().graphs.erase(handle) ? SUCCESS : complain(INVALID_HANDLE, "%p is not a graph", handle);
}

int cuGraphExecDestroy(void* handle) {
    ENTER;
    return driver().execs.erase(handle) ? SUCCESS : complain(INVALID_HANDLE, "%p is not an executable graph", handle);
}

} // extern "C"
