// Of the driver API: modules, functions and launches.

#include "driver.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

namespace emulation {

Module::~Module() {
    if (library) dlclose(library);
}

namespace {

constexpr char PTX[] = "// emulated PTX\n";

// The object file in an image that may be a cubin or PTX; empty if it is neither.
std::string object_of(const char* image) {
    if (!std::strncmp(image, ELFMAG, SELFMAG)) {
        Elf64_Ehdr header;
        std::memcpy(&header, image, sizeof header);
        return {image, header.e_shoff + (std::size_t)header.e_shnum * header.e_shentsize}; // the table is what ends it
    }
    std::string object;
    if (std::strncmp(image, PTX, sizeof PTX - 1)) return object;
    auto nibble = [](char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; };
    for (image += sizeof PTX - 1; image[0] && image[1]; image += 2) object += (char)(nibble(image[0]) << 4 | nibble(image[1]));
    return object;
}

int load(const std::string& object, bool ptx, std::shared_ptr<Module>& module) {
    int file = memfd_create("emulated-module", 0);
    if (file < 0 || write(file, object.data(), object.size()) != (ssize_t)object.size()) return UNKNOWN;
    // dlopen takes a path it has seen for a library it has: each of these gets one of its own.
    static unsigned number;
    std::string path = "/tmp/emulated-module-" + std::to_string(getpid()) + "-" + std::to_string(number++);
    module = std::make_shared<Module>();
    std::string link = "/proc/self/fd/" + std::to_string(file);
    if (symlink(link.c_str(), path.c_str()) == 0) module->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    unlink(path.c_str());
    close(file);
    if (!module->library) return complain(ptx ? INVALID_PTX : INVALID_IMAGE, "%s", dlerror());
    auto source = (const char*)dlsym(module->library, "emulation_source");
    if (source && (source = std::strchr(source, '\n'))) module->source = source + 1; // behind the line that names it
    return SUCCESS;
}

} // namespace

} // namespace emulation

using namespace emulation;

extern "C" {

int cuDeviceGetAttribute(int* value, int attribute, int device);

int cuModuleLoadData(void** out, const void* image) {
    ENTER;
    if (!out || !image) return INVALID_VALUE;
    if (driver().capture_forbids("cuModuleLoadData", false)) return STREAM_CAPTURE_UNSUPPORTED;
    bool ptx = std::memcmp(image, ELFMAG, SELFMAG) != 0;
    std::string object = object_of((const char*)image);
    if (object.empty()) return complain(INVALID_IMAGE, "cuModuleLoadData of something that the emulated NVRTC did not make");
    std::shared_ptr<Module> module;
    if (int result = load(object, ptx, module)) return result;
    auto stamp = (const unsigned*)dlsym(module->library, "emulation_stamp");
    if (!stamp || stamp[0] != PYTHIA_EMULATION_ABI)
        return complain(NO_BINARY_FOR_GPU, "a module that another version of the emulator compiled");
    int major, minor;
    cuDeviceGetAttribute(&major, 75, 0), cuDeviceGetAttribute(&minor, 76, 0);
    unsigned device = major * 10 + minor;
    if (ptx ? stamp[1] > device : stamp[1] / 10 != device / 10 || stamp[1] > device)
        return complain(NO_BINARY_FOR_GPU, "a module for sm_%u on a device of sm_%u", stamp[1], device);
    *out = module.get();
    driver().modules[module.get()] = module;
    return SUCCESS;
}

int cuModuleUnload(void* handle) {
    ENTER;
    auto found = driver().modules.find(handle);
    if (found == driver().modules.end()) return complain(INVALID_HANDLE, "%p is not a module", handle);
    int result = driver().flush_all();
    for (auto& [name, function] : found->second->functions) driver().functions.erase(function.get());
    found->second->functions.clear(); // they hold the module
    driver().modules.erase(found);
    return result;
}

int cuModuleGetFunction(void** out, void* handle, const char* name) {
    ENTER;
    auto found = driver().modules.find(handle);
    if (found == driver().modules.end()) return complain(INVALID_HANDLE, "%p is not a module", handle);
    auto& module = found->second;
    auto& function = module->functions[name];
    if (!function) {
        auto kernel = (const Kernel*)dlsym(module->library, name);
        if (!kernel) {
            module->functions.erase(name);
            return complain(NOT_FOUND, "no kernel is called %s", name);
        }
        function = std::make_shared<Function>(Function{module, kernel, name});
        driver().functions[function.get()] = function;
    }
    *out = function.get();
    return SUCCESS;
}

int cuFuncGetAttribute(int* value, int attribute, void* handle) {
    ENTER;
    auto found = driver().functions.find(handle);
    if (found == driver().functions.end()) return complain(INVALID_HANDLE, "%p is not a function", handle);
    const Kernel& kernel = *found->second->kernel;
    switch (attribute) {
    case 0: // threads per block
        *value = (int)kernel.threads;
        break;
    case 1: // shared memory: of all kernels of the module, there is no telling them apart
        *value = (int)shared_bytes(kernel);
        break;
    case 4: // registers: as many as fit
        *value = 32;
        break;
    case 5: // PTX
    case 6: // binary
        *value = (int)((const unsigned*)dlsym(found->second->module->library, "emulation_stamp"))[1];
        break;
    default:
        if (attribute < 0 || attribute > 15) return INVALID_VALUE;
        *value = 0;
    }
    return SUCCESS;
}

int cuFuncSetAttribute(void* handle, int, int) {
    ENTER;
    return driver().functions.count(handle) ? NOT_SUPPORTED : INVALID_HANDLE;
}

int cuFuncSetCacheConfig(void* handle, int) {
    ENTER;
    return driver().functions.count(handle) ? SUCCESS : INVALID_HANDLE;
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int threads, std::size_t dynamic) {
    ENTER;
    auto found = driver().functions.find(handle);
    if (found == driver().functions.end()) return INVALID_HANDLE;
    if (threads < 1 || dynamic) return INVALID_VALUE;
    int most, shared;
    cuDeviceGetAttribute(&most, 39, 0), cuDeviceGetAttribute(&shared, 81, 0);
    std::size_t each = shared_bytes(*found->second->kernel) + 1024;
    *blocks = std::min<int>({most / threads, (int)(shared / each), 16});
    return SUCCESS;
}

int cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned dynamic, void* stream_handle, void** params, void** extra) {
    ENTER;
    auto found = driver().functions.find(handle);
    if (found == driver().functions.end()) return complain(INVALID_HANDLE, "%p is not a function", handle);
    auto function = found->second;
    const Kernel& kernel = *function->kernel;
    const char* name = function->name.c_str();
    Stream* stream = driver().stream(stream_handle);
    if (!stream) return INVALID_HANDLE;
    if (!grid_x || !grid_y || !grid_z || grid_x > 0x7FFFFFFF || grid_y > 65535 || grid_z > 65535)
        return complain(INVALID_VALUE, "launch of %s over a grid of %u x %u x %u", name, grid_x, grid_y, grid_z);
    if (block_y != 1 || block_z != 1 || block_x != kernel.threads)
        return complain(INVALID_VALUE, "launch of %s in blocks of %u x %u x %u, declared for %u", name, block_x, block_y, block_z,
                        kernel.threads);
    if (dynamic) return complain(INVALID_VALUE, "launch of %s with %u bytes of dynamic shared memory", name, dynamic);
    if (!params || !params[0] || extra) return complain(INVALID_VALUE, "launch of %s without its parameter", name);

    auto args = (const unsigned char*)params[0];
    auto launch = std::make_shared<Launch>(
        Launch{&kernel, name, function->module->source, {grid_x, grid_y, grid_z}, {block_x, 1, 1}, {args, args + kernel.args_bytes}});
    return driver().enqueue(*stream, [function, launch] { return execute(*launch); });
}

} // extern "C"
