// Tests of the emulated driver through its interface:  selftest DIR KERNELS, where DIR holds right.cu and wrong.cu, and
// KERNELS prelude.cuh.

#include "../result.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

extern "C" {
int nvrtcCreateProgram(void**, const char*, const char*, int, const char* const*, const char* const*);
int nvrtcCompileProgram(void*, int, const char* const*);
int nvrtcDestroyProgram(void**);
int nvrtcGetProgramLogSize(void*, std::size_t*);
int nvrtcGetProgramLog(void*, char*);
int nvrtcGetCUBINSize(void*, std::size_t*);
int nvrtcGetCUBIN(void*, char*);
int nvrtcGetPTXSize(void*, std::size_t*);
int nvrtcGetPTX(void*, char*);
int cuInit(unsigned);
int cuDeviceGetCount(int*);
int cuDevicePrimaryCtxRetain(void**, int);
int cuDevicePrimaryCtxReset_v2(int);
int cuCtxSetCurrent(void*);
int cuMemAlloc_v2(char**, std::size_t);
int cuMemFree_v2(char*);
int cuMemHostAlloc(void**, std::size_t, unsigned);
int cuMemGetInfo_v2(std::size_t*, std::size_t*);
int cuMemcpyHtoD_v2(char*, const void*, std::size_t);
int cuMemcpyDtoH_v2(void*, const char*, std::size_t);
int cuMemcpyHtoDAsync_v2(char*, const void*, std::size_t, void*);
int cuMemcpyDtoHAsync_v2(void*, const char*, std::size_t, void*);
int cuMemsetD8Async(char*, unsigned char, std::size_t, void*);
int cuModuleLoadData(void**, const void*);
int cuModuleUnload(void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuFuncGetAttribute(int*, int, void*);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
int cuStreamCreate(void**, unsigned);
int cuStreamDestroy_v2(void*);
int cuStreamSynchronize(void*);
int cuStreamBeginCapture_v2(void*, int);
int cuStreamEndCapture(void*, void**);
int cuStreamWaitEvent(void*, void*, unsigned);
int cuEventCreate(void**, unsigned);
int cuEventRecord(void*, void*);
int cuEventSynchronize(void*);
int cuEventElapsedTime_v2(float*, void*, void*);
int cuGraphInstantiateWithFlags(void**, void*, unsigned long long);
int cuGraphLaunch(void*, void*);
int cuGraphDestroy(void*);
int cuGraphExecDestroy(void*);
int cuCtxSynchronize();
}

using namespace emulation;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            std::printf("selftest.cpp:%d: %s\n", __LINE__, #condition);                                                \
            std::exit(1);                                                                                              \
        }                                                                                                              \
    } while (0)
#define OK(call) CHECK((call) == SUCCESS)

struct Args {
    const void* in;
    void* out;
    int n, unused;
};

static std::string folder, prelude;

static std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    CHECK(file);
    return {std::istreambuf_iterator<char>(file), {}};
}

static std::string compile(const std::string& source, const char* architecture, bool ptx) {
    void* program;
    OK(nvrtcCreateProgram(&program, source.c_str(), "selftest.cu", 0, nullptr, nullptr));
    std::string option = std::string("--gpu-architecture=") + architecture;
    const char* options[] = {option.c_str(), "--fmad=false", "--std=c++17"};
    int result = nvrtcCompileProgram(program, 3, options);
    std::size_t size;
    OK(nvrtcGetProgramLogSize(program, &size));
    std::string log(size, 0);
    OK(nvrtcGetProgramLog(program, log.data()));
    if (result) std::printf("%s\n", log.c_str());
    OK(result);
    OK(ptx ? nvrtcGetPTXSize(program, &size) : nvrtcGetCUBINSize(program, &size));
    std::string image(size, 0);
    OK(ptx ? nvrtcGetPTX(program, image.data()) : nvrtcGetCUBIN(program, image.data()));
    OK(nvrtcDestroyProgram(&program));
    return image;
}

// A file's kernels, on one emulated architecture.
struct Module {
    void* handle;
    Module(const char* file, const std::string& sm, bool ptx = false) {
        setenv("PYTHIA_EMULATED_SM", sm.c_str(), 1);
        std::string source = prelude + slurp(folder + "/" + file);
        OK(cuModuleLoadData(&handle, compile(source, ((ptx ? "compute_" : "sm_") + sm).c_str(), ptx).data()));
    }
    Module(const Module&) = delete;
    ~Module() { cuModuleUnload(handle); }
    void* operator[](const char* name) const {
        void* function;
        OK(cuModuleGetFunction(&function, handle, name));
        return function;
    }
};

static void launch(void* function, unsigned grid, unsigned threads, Args args, void* stream = nullptr) {
    void* params[] = {&args};
    OK(cuLaunchKernel(function, grid, 1, 1, threads, 1, 1, 0, stream, params, nullptr));
}

template <typename T>
static char* upload(const std::vector<T>& values) {
    char* to;
    OK(cuMemAlloc_v2(&to, values.size() * sizeof(T)));
    OK(cuMemcpyHtoD_v2(to, values.data(), values.size() * sizeof(T)));
    return to;
}

template <typename T>
static std::vector<T> download(const char* from, std::size_t count) {
    std::vector<T> values(count);
    OK(cuMemcpyDtoH_v2(values.data(), from, count * sizeof(T)));
    return values;
}

static char* room(std::size_t bytes) {
    char* to;
    OK(cuMemAlloc_v2(&to, bytes));
    return to;
}

static std::uint32_t bits(float x) {
    std::uint32_t to;
    std::memcpy(&to, &x, 4);
    return to;
}

static void right(const std::string& sm, const char* order) {
    setenv("PYTHIA_EMULATED_ORDER", order, 1);
    Module module("right.cu", sm, sm == "80");
    {
        std::vector<int> in(256 * 5);
        for (int i = 0; i < 256 * 5; i++) in[i] = i * i;
        char *from = upload(in), *to = room(in.size() * 4);
        launch(module["reverse"], 5, 256, {from, to, 0, 0});
        auto out = download<int>(to, in.size());
        for (int i = 0; i < 256 * 5; i++) CHECK(out[i] == in[i / 256 * 256 + 255 - i % 256]);
    }
    {
        char* to = room(7 * 3 * 2 * 64 * 4);
        Args args = {nullptr, to, 0, 0};
        void* params[] = {&args};
        OK(cuLaunchKernel(module["places"], 7, 3, 2, 64, 1, 1, 0, nullptr, params, nullptr));
        auto out = download<std::uint32_t>(to, 7 * 3 * 2 * 64);
        for (unsigned i = 0; i < out.size(); i++)
            CHECK(out[i] == ((i / 64 % 7) << 24 | (i / 64 / 7 % 3) << 16 | (i / 64 / 21) << 8 | i % 64));
    }
    {
        std::vector<std::uint32_t> in(64);
        for (unsigned i = 0; i < 64; i++) in[i] = 1000 * i + i % 3;
        char *from = upload(in), *to = room(64 * 11 * 4);
        launch(module["operations"], 1, 64, {from, to, 0, 0});
        auto out = download<std::uint32_t>(to, 64 * 11);
        for (unsigned i = 0; i < 64; i++) {
            unsigned warp = i / 32 * 32, lane = i % 32, odd = 0;
            std::uint32_t most = 0, sum = 0;
            for (unsigned j = 0; j < 32; j++) {
                odd |= (in[warp + j] & 1) << j;
                most = std::max(most, in[warp + j]);
                sum += in[warp + j] - 20000;
            }
            const std::uint32_t* mine = &out[i * 11];
            CHECK(mine[0] == in[warp + (lane + 5) % 32]);
            CHECK(mine[1] == in[i ^ 12]);
            CHECK(mine[2] == in[lane + 3 < 32 ? i + 3 : i]);
            CHECK(mine[3] == in[lane >= 3 ? i - 3 : i]);
            CHECK(mine[4] == in[i / 8 * 8 + 1]);
            CHECK(mine[5] == odd);
            CHECK(mine[6] == 2);
            CHECK(mine[7] == in[warp + 7]);
            CHECK(mine[8] == in[i ^ 1]);
            CHECK(mine[9] == most && mine[10] == sum);
        }
    }
    if (sm != "61") { // which has no tensor cores
        std::vector<signed char> in(16 * 32 + 8 * 32);
        for (unsigned i = 0; i < in.size(); i++) in[i] = (signed char)(i * 37 + i * i / 7);
        char *from = upload(in), *to = room(16 * 8 * 4);
        launch(module["product"], 1, 32, {from, to, 0, 0});
        auto out = download<int>(to, 16 * 8);
        for (int row = 0; row < 16; row++)
            for (int column = 0; column < 8; column++) {
                int sum = 1000;
                for (int k = 0; k < 48; k++) sum += in[row * 32 + k % 32] * in[512 + column * 32 + k % 32];
                CHECK(out[row * 8 + column] == sum);
            }
    }
    for (int n : {1, 2, 3, 8}) {
        std::vector<int> in(n * 128);
        for (int i = 0; i < n * 128; i++) in[i] = i * 3;
        char *from = upload(in), *to = room(n * 512);
        launch(module["pipeline"], 1, 32, {from, to, n, 0});
        CHECK(download<int>(to, in.size()) == in);
    }
    {
        std::vector<float> in;
        for (float x : {0.0f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 0x1.8p-24f, 1.0f, 1.0f + 0x1p-11f, 1.0f + 0x1.8p-10f, 65504.0f, 65519.9f, 65520.0f,
                        1e9f, 0x1p-14f, 0x1.ffep-15f, 0x1.fffp-15f, 0x1.ffcp-16f, INFINITY})
            in.push_back(x), in.push_back(-x);
        std::vector<unsigned> expected = {0, 1, 0, 1, 2, 0x3C00, 0x3C00, 0x3C02, 0x7BFF, 0x7BFF, 0x7C00, 0x7C00, 0x400, 0x400, 0x400, 0x1FF + 0x1, 0x7C00};
        char *from = upload(in), *to = room((131072 + in.size()) * 4);
        launch(module["halves"], 256, 256, {from, to, (int)in.size(), 0});
        auto out = download<std::uint32_t>(to, 131072 + in.size());
        for (unsigned h = 0; h < 65536; h++) {
            unsigned exponent = h >> 10 & 31, fraction = h & 1023;
            float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                          : exponent == 0 ? std::ldexp((float)fraction, -24)
                                          : std::ldexp(1.0f + fraction / 1024.0f, (int)exponent - 15);
            if (value != value) {
                CHECK((out[h] & 0x7FFFFFFF) > 0x7F800000 && (out[65536 + h] & 0x7FFF) > 0x7C00);
                continue;
            }
            CHECK(out[h] == (bits(value) | (h & 0x8000) << 16));
            CHECK(out[65536 + h] == h);
        }
        for (unsigned i = 0; i < expected.size(); i++) {
            CHECK(out[131072 + 2 * i] == expected[i]);
            CHECK(out[131072 + 2 * i + 1] == (expected[i] | 0x8000));
        }
    }
    {
        float e = 1.0f + 0x1p-20f, third = 3.0f;
        char *from = upload(std::vector<float>{e, third, NAN, 1e20f, 0.0f, 0x1p-126f}), *to = room(64);
        launch(module["numbers"], 1, 32, {from, to, 0, 0});
        volatile float product = e * e, inverse = 1.0f / third;
        std::vector<std::uint32_t> expected = {
            bits(std::fma(e, e, -1.0f)), bits(product - 1.0f), bits(inverse), bits(std::sqrt(third)), 2, 0, 0x7FFFFFFF,
            (std::uint32_t)(-128 * 127 - 1 * 2 - 1 + 127 * -128 + 10), 0x77553311, 0x56789ABC, bits(3.0f), 0, bits(0x1p-127f), 15 << 8 | 8 << 4 | 4,
            bits(-2.0f), 16 << 16 | 16 << 8 | 8};
        CHECK(download<std::uint32_t>(to, 16) == expected);
    }
    {
        char* to = upload(std::vector<int>{0});
        launch(module["count"], 1000, 128, {nullptr, to, 0, 0});
        CHECK(download<int>(to, 1)[0] == 128000);
    }
}

// Streams, events, captures: what is queued is done in order, and what must not be done is refused.
static void queues() {
    Module module("right.cu", "90");
    void *stream, *other, *event, *later, *graph, *exec;
    OK(cuStreamCreate(&stream, 1));
    OK(cuStreamCreate(&other, 1));
    OK(cuEventCreate(&event, 0));
    OK(cuEventCreate(&later, 0));
    char* numbers = room(128);
    void* pinned;
    OK(cuMemHostAlloc(&pinned, 128, 0));
    auto word = [&] { return ((volatile int*)pinned)[31]; };
    auto step = [&] { launch(module["add_one"], 1, 32, {nullptr, numbers, 0, 0}, stream); };

    // Nothing has happened before somebody waits.
    ((volatile int*)pinned)[31] = 77;
    OK(cuMemsetD8Async(numbers, 0, 128, stream));
    OK(cuEventRecord(event, stream));
    step();
    OK(cuMemcpyDtoHAsync_v2(pinned, numbers, 128, stream));
    OK(cuEventRecord(later, stream));
    CHECK(word() == 77);
    OK(cuStreamSynchronize(stream));
    CHECK(word() == 1);
    float milliseconds = -1;
    OK(cuEventElapsedTime_v2(&milliseconds, event, later));
    CHECK(milliseconds >= 0);

    // One stream waits for the other.
    step();
    OK(cuEventRecord(event, stream));
    OK(cuStreamWaitEvent(other, event, 0));
    OK(cuMemcpyDtoHAsync_v2(pinned, numbers, 128, other));
    OK(cuStreamSynchronize(other));
    CHECK(word() == 2);

    // A graph, three times.
    OK(cuStreamBeginCapture_v2(stream, 1));
    step();
    OK(cuMemcpyDtoHAsync_v2(pinned, numbers, 128, stream));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cuGraphDestroy(graph));
    for (int i = 0; i < 3; i++) OK(cuGraphLaunch(exec, stream));
    CHECK(word() == 2);
    OK(cuStreamSynchronize(stream));
    CHECK(word() == 5);
    OK(cuGraphExecDestroy(exec));
    CHECK(cuGraphLaunch(exec, stream) == INVALID_HANDLE);

    // What a capture does not survive.
    char* more;
    int on_stack[32];
    for (auto forbidden : {std::function<int()>([&] { return cuStreamSynchronize(stream); }), {[&] { return cuMemAlloc_v2(&more, 16); }},
                           {[&] { return cuCtxSynchronize(); }}, {[&] { return cuMemcpyHtoDAsync_v2(numbers, on_stack, 128, stream); }}}) {
        OK(cuStreamBeginCapture_v2(stream, 1));
        CHECK(forbidden() == STREAM_CAPTURE_UNSUPPORTED);
        CHECK(cuStreamEndCapture(stream, &graph) == STREAM_CAPTURE_INVALIDATED && !graph);
    }
    OK(cuStreamBeginCapture_v2(stream, 1));
    CHECK(cuStreamWaitEvent(stream, event, 0) == STREAM_CAPTURE_ISOLATION);
    CHECK(cuStreamEndCapture(stream, &graph) == STREAM_CAPTURE_INVALIDATED);
    CHECK(cuStreamBeginCapture_v2(nullptr, 1) == STREAM_CAPTURE_UNSUPPORTED);

    // What is refused at once.
    Args args = {nullptr, numbers, 0, 0};
    void* params[] = {&args};
    void* function = module["add_one"];
    auto shape = [&](unsigned x, unsigned y, unsigned z, unsigned threads) {
        return cuLaunchKernel(function, x, y, z, threads, 1, 1, 0, stream, params, nullptr);
    };
    CHECK(shape(1, 65536, 1, 32) == INVALID_VALUE);
    CHECK(shape(1, 1, 65536, 32) == INVALID_VALUE);
    CHECK(shape(0, 1, 1, 32) == INVALID_VALUE);
    CHECK(shape(1, 1, 1, 64) == INVALID_VALUE);
    CHECK(cuLaunchKernel(numbers, 1, 1, 1, 32, 1, 1, 0, stream, params, nullptr) == INVALID_HANDLE);
    CHECK(cuStreamSynchronize(numbers) == INVALID_HANDLE);
    CHECK(cuMemcpyHtoD_v2(numbers + 4, on_stack, 128) == INVALID_VALUE);
    CHECK(cuMemcpyHtoD_v2((char*)on_stack, on_stack, 4) == INVALID_VALUE);
    CHECK(cuMemFree_v2(numbers + 4) == INVALID_VALUE);
    void* none;
    CHECK(cuModuleGetFunction(&none, module.handle, "nothing") == NOT_FOUND);
    int value;
    OK(cuFuncGetAttribute(&value, 0, module["reverse"]));
    CHECK(value == 256);
    setenv("PYTHIA_EMULATED_MEMORY", "100000", 1);
    CHECK(cuMemAlloc_v2(&more, 100000) == OUT_OF_MEMORY);
    std::size_t free, total;
    OK(cuMemGetInfo_v2(&free, &total));
    CHECK(total == 100000 && free < total);
    unsetenv("PYTHIA_EMULATED_MEMORY");
    OK(cuMemFree_v2(numbers));
    CHECK(cuMemFree_v2(numbers) == INVALID_VALUE);
    CHECK(cuMemcpyHtoD_v2(numbers, on_stack, 4) == INVALID_VALUE);
}

// Another GPU's binary, or no binary.
static void images() {
    std::string source = prelude + slurp(folder + "/right.cu");
    setenv("PYTHIA_EMULATED_SM", "75", 1);
    void* module;
    CHECK(cuModuleLoadData(&module, compile(source, "sm_90", false).data()) == NO_BINARY_FOR_GPU);
    CHECK(cuModuleLoadData(&module, "#include <stdio.h>") == INVALID_IMAGE);
    void* program;
    OK(nvrtcCreateProgram(&program, "KERNEL(broken", "broken.cu", 0, nullptr, nullptr));
    CHECK(nvrtcCompileProgram(program, 0, nullptr) == 6);
    std::size_t size;
    OK(nvrtcGetProgramLogSize(program, &size));
    std::string log(size, 0);
    OK(nvrtcGetProgramLog(program, log.data()));
    CHECK(log.find("broken.cu:1") != std::string::npos);
    OK(nvrtcDestroyProgram(&program));
}

// Runs a wrong kernel, with an input of 128 ints and an output of 128.
static void wrong(const char* name, unsigned threads, int n, int expected) {
    {
        Module module("wrong.cu", "90");
        char *in = upload(std::vector<float>(128, 1e30f)), *out = room(512);
        launch(module[name], 1, threads, {in, out, n, 0});
        int result = cuCtxSynchronize();
        if (result != expected) std::printf("%s(%d): %d instead of %d\n", name, n, result, expected);
        CHECK(result == expected);
        CHECK(expected == SUCCESS || cuCtxSynchronize() == expected); // stays
    }
    OK(cuDevicePrimaryCtxReset_v2(0));
}

static void orders() {
    std::vector<int> in(256);
    for (int i = 0; i < 256; i++) in[i] = i;
    int found = 0;
    for (const char* order : {"forward", "backward", "random:1", "random:2"}) {
        setenv("PYTHIA_EMULATED_ORDER", order, 1);
        Module module("wrong.cu", "90");
        char *from = upload(in), *to = room(1024);
        launch(module["no_barrier"], 1, 256, {from, to, 0, 0});
        auto out = download<int>(to, 256);
        int good = 0;
        for (int i = 0; i < 256; i++) good += out[i] == 255 - i;
        CHECK(good >= 128 && good < 256);
        found += good != 128 || out[0] != 255;
        launch(module["no_wait"], 1, 32, {from, to, 0, 0});
        for (int word : download<int>(to, 128)) CHECK(word == (int)0xCBCBCBCB);
    }
    CHECK(found >= 3); // forward and the others go wrong at different places
    unsetenv("PYTHIA_EMULATED_ORDER");
}

int main(int, char** arguments) {
    folder = arguments[1];
    prelude = slurp(std::string(arguments[2]) + "/prelude.cuh");
    int count;
    CHECK(cuDeviceGetCount(&count) == NOT_INITIALIZED);
    OK(cuInit(0));
    void* context;
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    CHECK(cuCtxSynchronize() == INVALID_CONTEXT);
    OK(cuCtxSetCurrent(context));

    for (const char* sm : {"61", "75", "80", "90"})
        for (const char* order : {"forward", "backward", "random:7"}) right(sm, order);
    queues();
    images();
    orders();
    wrong("barrier_for_some", 64, 0, LAUNCH_FAILED);
    wrong("two_barriers", 64, 0, LAUNCH_FAILED);
    wrong("lanes_part", 32, 0, LAUNCH_FAILED);
    wrong("lanes_missing", 32, 0, LAUNCH_FAILED);
    wrong("some_lanes", 32, 0, LAUNCH_FAILED);
    wrong("misaligned_16", 32, 0, MISALIGNED_ADDRESS);
    wrong("misaligned_4", 32, 0, MISALIGNED_ADDRESS);
    wrong("misaligned_store", 32, 0, MISALIGNED_ADDRESS);
    wrong("misaligned_copy", 32, 0, MISALIGNED_ADDRESS);
    wrong("read", 32, 127, SUCCESS);
    wrong("read", 32, 128 + 64, ILLEGAL_ADDRESS);
    wrong("read", 32, 1 << 28, ILLEGAL_ADDRESS);
    wrong("write", 32, 128, ILLEGAL_ADDRESS); // not a fault, but seen afterwards
    wrong("write", 32, -1, ILLEGAL_ADDRESS);
    wrong("write", 32, 128 + 64, ILLEGAL_ADDRESS);
    wrong("index", 32, 0, SUCCESS);
    wrong("index", 32, 1, ILLEGAL_ADDRESS);
    wrong("shift", 32, 32, LAUNCH_FAILED);
    wrong("overflow", 32, 1, LAUNCH_FAILED);
    wrong("divide", 32, 0, LAUNCH_FAILED);
    wrong("cast", 32, 0, LAUNCH_FAILED);
    wrong("trap", 32, 0, LAUNCH_FAILED);
    wrong("recursion", 32, 10, SUCCESS);
    wrong("recursion", 32, 1000, LAUNCH_FAILED);
    std::printf("emulator: all of its own tests pass\n");
}
