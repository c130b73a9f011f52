// Of the driver API: the device, its context, memory and errors.

#include "driver.h"

#include "memory.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulation {

Driver& driver() {
    static Driver* only = new Driver; // programs may call until the very end
    return *only;
}

static thread_local bool current; // whether the context is the calling thread's

int complain(int result, const char* format, ...) {
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    const char* name = result_name(result);
    std::fprintf(stderr, "emulated CUDA: %s: %s\n", name ? name : "?", message);
    return result;
}

int ready() {
    Driver& d = driver();
    if (!d.initialized) return complain(NOT_INITIALIZED, "no cuInit yet");
    if (!current || !d.retained) return complain(INVALID_CONTEXT, "no context is current");
    return d.failed;
}

static int architecture() {
    const char* text = std::getenv("PYTHIA_EMULATED_SM");
    int number = text ? std::atoi(text) : 90;
    if (number < 10 || number > 999) {
        std::fprintf(stderr, "emulated CUDA: PYTHIA_EMULATED_SM is %s, not something like 90\n", text);
        std::abort();
    }
    return number;
}

static int setting(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atoi(text) : otherwise;
}

static int devices() { return std::min(setting("PYTHIA_EMULATED_DEVICES", 1), 1); }

void Driver::reset() {
    failed = SUCCESS;
    default_stream.queue.clear();
    streams.clear(), events.clear(), modules.clear(), functions.clear(), graphs.clear(), execs.clear();
    release_all();
}

} // namespace emulation

using namespace emulation;

#define INITIALIZED                                                                                                    \
    if (!driver().initialized) return complain(NOT_INITIALIZED, "no cuInit yet")
#define DEVICE                                                                                                         \
    INITIALIZED;                                                                                                       \
    if (device != 0) return INVALID_DEVICE

extern "C" {

int cuGetErrorName(int result, const char** name) {
    *name = result_name(result);
    return *name ? SUCCESS : INVALID_VALUE;
}

int cuGetErrorString(int result, const char** text) {
    *text = result_text(result);
    return *text ? SUCCESS : INVALID_VALUE;
}

int cuInit(unsigned flags) {
    std::lock_guard<std::mutex> lock(driver().mutex);
    if (flags) return INVALID_VALUE;
    if (devices() < 1) return NO_DEVICE;
    driver().initialized = true;
    return SUCCESS;
}

int cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}

// ---- The device.

int cuDeviceGetCount(int* count) {
    INITIALIZED;
    *count = devices();
    return SUCCESS;
}

int cuDeviceGet(int* device, int ordinal) {
    INITIALIZED;
    if (ordinal < 0 || ordinal >= devices()) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

int cuDeviceGetName(char* name, int size, int device) {
    DEVICE;
    std::snprintf(name, size, "emulated GPU (sm_%d)", architecture());
    return SUCCESS;
}

int cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
    DEVICE;
    *bytes = memory_total();
    return SUCCESS;
}

int cuDeviceGetUuid_v2(char* uuid, int device) {
    DEVICE;
    std::memcpy(uuid, "emulated GPU 000", 16);
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
    DEVICE;
    switch (attribute) {
    case 1: // threads per block
    case 2: // along x
    case 3:
        *value = 1024;
        break;
    case 4:
        *value = 64;
        break;
    case 5: // grid along x
        *value = 0x7FFFFFFF;
        break;
    case 6:
    case 7:
        *value = 65535;
        break;
    case 8: // shared memory per block
        *value = 48 << 10;
        break;
    case 9: // constant memory
        *value = 64 << 10;
        break;
    case 10: // warp
        *value = 32;
        break;
    case 12: // registers per block
    case 82: // per multiprocessor
        *value = 65536;
        break;
    case 13: // clock, kHz
        *value = 1000000;
        break;
    case 16:
        *value = setting("PYTHIA_EMULATED_MULTIPROCESSORS", 4);
        break;
    case 36: // memory clock, kHz
        *value = 1000000;
        break;
    case 37: // width of the memory bus
        *value = 128;
        break;
    case 38: // L2 cache
        *value = 4 << 20;
        break;
    case 39: // threads per multiprocessor
        *value = architecture() == 75 ? 1024 : architecture() % 10 == 0 || architecture() < 75 ? 2048 : 1536;
        break;
    case 75:
        *value = architecture() / 10;
        break;
    case 76:
        *value = architecture() % 10;
        break;
    case 81: // shared memory per multiprocessor
        *value = (architecture() >= 90 ? 228 : architecture() >= 80 ? 164 : 64) << 10;
        break;
    case 97: // shared memory per block that asks for it
        *value = (architecture() >= 90 ? 227 : architecture() >= 80 ? 163 : 64) << 10;
        break;
    case 106: // blocks per multiprocessor
        *value = 16;
        break;
    case 11: // pitch
        *value = 0x7FFFFFFF;
        break;
    case 31: // several kernels at once
    case 41: // one address space
    case 115: // memory pools
        *value = 1;
        break;
    default:
        if (attribute < 1 || attribute > 200) return INVALID_VALUE;
        *value = 0;
    }
    return SUCCESS;
}

// ---- The context.

int cuDevicePrimaryCtxRetain(void** context, int device) {
    std::lock_guard<std::mutex> lock(driver().mutex);
    DEVICE;
    driver().retained++;
    *context = &driver();
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    std::lock_guard<std::mutex> lock(driver().mutex);
    DEVICE;
    if (!driver().retained) return INVALID_CONTEXT;
    if (--driver().retained == 0) {
        driver().flush_all();
        driver().reset();
    }
    return SUCCESS;
}

int cuDevicePrimaryCtxReset_v2(int device) {
    std::lock_guard<std::mutex> lock(driver().mutex);
    DEVICE;
    driver().reset();
    return SUCCESS;
}

int cuCtxGetCurrent(void** context) {
    INITIALIZED;
    *context = current ? &driver() : nullptr;
    return SUCCESS;
}

int cuCtxSetCurrent(void* context) {
    INITIALIZED;
    if (context && context != &driver()) return complain(INVALID_CONTEXT, "cuCtxSetCurrent(%p)", context);
    current = context;
    return SUCCESS;
}

int cuCtxSetFlags(unsigned) {
    ENTER;
    return SUCCESS;
}

int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    ENTER;
    if (least) *least = 0;
    if (greatest) *greatest = 0;
    return SUCCESS;
}

int cuCtxSynchronize() {
    ENTER;
    if (driver().capture_forbids("cuCtxSynchronize", true)) return STREAM_CAPTURE_UNSUPPORTED;
    return driver().flush_all();
}

// ---- Memory.

static int allocate_device(const char* call, void** out, std::size_t bytes) {
    if (!out || !bytes) return complain(INVALID_VALUE, "%s of %zu bytes", call, bytes);
    *out = allocate(bytes, false);
    if (*out) return SUCCESS;
    return complain(OUT_OF_MEMORY, "%s of %zu bytes, where %zu are free", call, bytes, memory_free());
}

int cuMemAlloc_v2(void** out, std::size_t bytes) {
    ENTER;
    if (driver().capture_forbids("cuMemAlloc", false)) return STREAM_CAPTURE_UNSUPPORTED;
    return allocate_device("cuMemAlloc", out, bytes);
}

int cuMemFree_v2(void* start) {
    ENTER;
    if (!start) return SUCCESS;
    if (driver().capture_forbids("cuMemFree", false)) return STREAM_CAPTURE_UNSUPPORTED;
    if (int result = driver().flush_all()) return result;
    return release(start, false) ? SUCCESS : complain(INVALID_VALUE, "cuMemFree(%p): not the beginning of an allocation", start);
}

// Of memory pools there is one, which keeps nothing back.

int cuMemAllocAsync(void** out, std::size_t bytes, void* handle) {
    ENTER;
    Stream* stream = driver().stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->result = STREAM_CAPTURE_UNSUPPORTED;
        return complain(STREAM_CAPTURE_UNSUPPORTED, "cuMemAllocAsync in a stream that is capturing");
    }
    return allocate_device("cuMemAllocAsync", out, bytes);
}

int cuMemFreeAsync(void* start, void* handle) {
    ENTER;
    if (!start) return SUCCESS;
    Stream* stream = driver().stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->result = STREAM_CAPTURE_UNSUPPORTED;
        return complain(STREAM_CAPTURE_UNSUPPORTED, "cuMemFreeAsync in a stream that is capturing");
    }
    return driver().enqueue(*stream, [start] {
        return release(start, false) ? SUCCESS
                                     : complain(INVALID_VALUE, "cuMemFreeAsync(%p): not the beginning of an allocation", start);
    });
}

int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
    ENTER;
    *free = memory_free(), *total = memory_total();
    return SUCCESS;
}

int cuMemHostAlloc(void** out, std::size_t bytes, unsigned) {
    ENTER;
    if (driver().capture_forbids("cuMemHostAlloc", false)) return STREAM_CAPTURE_UNSUPPORTED;
    if (!out || !bytes) return INVALID_VALUE;
    *out = allocate(bytes, true);
    return *out ? SUCCESS : OUT_OF_MEMORY;
}

int cuMemFreeHost(void* start) {
    ENTER;
    if (driver().capture_forbids("cuMemFreeHost", false)) return STREAM_CAPTURE_UNSUPPORTED;
    if (int result = driver().flush_all()) return result;
    return release(start, true) ? SUCCESS : complain(INVALID_VALUE, "cuMemFreeHost(%p): not the beginning of an allocation", start);
}

} // extern "C"
