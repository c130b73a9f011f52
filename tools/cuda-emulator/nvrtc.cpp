// libnvrtc.so.12: "compiles" kernels to shared objects for libcuda.so.1 of this folder, with the C++ compiler.
//
// A cubin is the shared object itself. PTX, which programs treat as text, is the same in hexadecimal.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char** environ;

namespace {

enum Result {
    SUCCESS = 0,
    OUT_OF_MEMORY = 1,
    PROGRAM_CREATION_FAILURE = 2,
    INVALID_INPUT = 3,
    INVALID_PROGRAM = 4,
    INVALID_OPTION = 5,
    COMPILATION = 6,
    BUILTIN_OPERATION_FAILURE = 7,
    INTERNAL_ERROR = 11,
};

struct Program {
    std::string source, name, log, object;
    bool real = false; // for a GPU, not for a virtual architecture: has a cubin
    std::string ptx() const {
        if (object.empty()) return "";
        std::string text = "// emulated PTX\n";
        for (unsigned char byte : object)
            for (int nibble : {byte >> 4, byte & 15}) text += "0123456789abcdef"[nibble];
        return text;
    }
};

std::mutex mutex;
std::set<Program*> programs;

bool is_program(Program* program) {
    std::lock_guard<std::mutex> lock(mutex);
    return programs.count(program);
}

std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// A directory that goes with what is in it.
struct Scratch {
    std::string path;
    Scratch() {
        const char* parent = std::getenv("TMPDIR");
        path = std::string(parent && *parent ? parent : "/tmp") + "/emulated-nvrtc.XXXXXX";
        if (!mkdtemp(path.data())) path.clear();
    }
    ~Scratch() {
        if (path.empty()) return;
        for (const char* name : {"/kernel.cu", "/kernel.so", "/log"}) unlink((path + name).c_str());
        rmdir(path.c_str());
    }
};

bool run(const std::vector<std::string>& command, const std::string& log) {
    std::vector<char*> arguments;
    for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    int status = -1;
    if (posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ) == 0) waitpid(child, &status, 0);
    posix_spawn_file_actions_destroy(&actions);
    return status == 0;
}

// Of "sm_90", "compute_90a" and the like; 0 if it is none.
int number(const std::string& architecture) {
    std::size_t at = architecture.find('_');
    return at == std::string::npos ? 0 : std::atoi(architecture.c_str() + at + 1);
}

// Compute capabilities that it takes.
constexpr int ARCHITECTURES[] = {61, 70, 75, 80, 86, 87, 89, 90, 100, 120};

#define PYTHIA_EMULATION_TEXT(abi) PYTHIA_EMULATION_TEXT_OF(abi)
#define PYTHIA_EMULATION_TEXT_OF(abi) #abi

} // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) {
    *major = 12, *minor = 9;
    return SUCCESS;
}

int nvrtcGetNumSupportedArchs(int* count) {
    *count = std::size(ARCHITECTURES);
    return SUCCESS;
}

int nvrtcGetSupportedArchs(int* architectures) {
    std::copy(std::begin(ARCHITECTURES), std::end(ARCHITECTURES), architectures);
    return SUCCESS;
}

// Which emulator it compiles for: no function of NVIDIA's. A cache of compiled kernels asks.
const char* pythiaEmulation() {
    return "emulation " PYTHIA_EMULATION_TEXT(PYTHIA_EMULATION_ABI);
}

const char* nvrtcGetErrorString(int result) {
    switch (result) {
    case SUCCESS:
        return "NVRTC_SUCCESS";
    case OUT_OF_MEMORY:
        return "NVRTC_ERROR_OUT_OF_MEMORY";
    case PROGRAM_CREATION_FAILURE:
        return "NVRTC_ERROR_PROGRAM_CREATION_FAILURE";
    case INVALID_INPUT:
        return "NVRTC_ERROR_INVALID_INPUT";
    case INVALID_PROGRAM:
        return "NVRTC_ERROR_INVALID_PROGRAM";
    case INVALID_OPTION:
        return "NVRTC_ERROR_INVALID_OPTION";
    case COMPILATION:
        return "NVRTC_ERROR_COMPILATION";
    case INTERNAL_ERROR:
        return "NVRTC_ERROR_INTERNAL_ERROR";
    default:
        return "NVRTC_ERROR unknown";
    }
}

int nvrtcCreateProgram(Program** program, const char* source, const char* name, int headers, const char* const*, const char* const*) {
    if (!program || !source) return INVALID_INPUT;
    if (headers) return PROGRAM_CREATION_FAILURE; // nothing includes anything
    *program = new Program{source, name && *name ? name : "default_program", {}, {}};
    std::lock_guard<std::mutex> lock(mutex);
    programs.insert(*program);
    return SUCCESS;
}

int nvrtcDestroyProgram(Program** program) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!program || !programs.erase(*program)) return INVALID_PROGRAM;
    delete *program;
    *program = nullptr;
    return SUCCESS;
}

int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    if (!is_program(program)) return INVALID_PROGRAM;
    std::string architecture = "compute_75";
    std::vector<std::string> defines;
    for (int i = 0; i < count; i++) {
        std::string option = options[i];
        for (const char* prefix : {"--gpu-architecture=", "-arch="})
            if (option.rfind(prefix, 0) == 0) architecture = option.substr(std::strlen(prefix));
        if (option.rfind("-D", 0) == 0) defines.push_back(option);
        if (option.rfind("--define-macro=", 0) == 0) defines.push_back("-D" + option.substr(15));
    }
    if (!number(architecture)) {
        program->log = "nvrtc: error: invalid value for --gpu-architecture: " + architecture;
        return INVALID_OPTION;
    }
    program->real = architecture.rfind("sm_", 0) == 0;
    program->object.clear();

    Scratch scratch;
    if (scratch.path.empty()) return INTERNAL_ERROR;
    std::string source = scratch.path + "/kernel.cu", object = scratch.path + "/kernel.so", log = scratch.path + "/log";
    std::ofstream(source) << "#line 1 \"" << program->name << "\"\n" << program->source
                          // What the emulator quotes from.
                          << "\nasm(\".pushsection .rodata\\n.globl emulation_source\\nemulation_source: .incbin \\\"" << source
                          << "\\\"\\n.byte 0\\n.popsection\");\n";
    const char* compiler = std::getenv("PYTHIA_EMULATED_CXX");
    std::vector<std::string> command = {
        compiler && *compiler ? compiler : "g++", "-x", "c++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-nostdlib",
        "-fvisibility=hidden", "-fno-gnu-unique", "-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables",
        // IEEE arithmetic as written, and wrong memory accesses told rather than assumed away.
        "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing", "-fno-delete-null-pointer-checks",
        "-fsanitize=alignment,bounds,shift-exponent,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow",
        "-fno-sanitize-recover=all",
        "-DPYTHIA_EMULATED", "-D__CUDA_ARCH__=" + std::to_string(number(architecture)) + "0",
        "-DPYTHIA_EMULATION_ABI=" + std::to_string(PYTHIA_EMULATION_ABI), "-I" PYTHIA_EMULATION_SOURCES};
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) command.insert(command.end(), {"-mavx2", "-mfma"});
#endif
    command.insert(command.end(), defines.begin(), defines.end());
    command.insert(command.end(), {"-o", object, source, "-x", "none", PYTHIA_EMULATION_LIBRARIES "/libcuda.so.1", "-lgcc"});
    bool good = run(command, log);
    program->log = slurp(log);
    if (!good) return COMPILATION;
    program->object = slurp(object);
    return SUCCESS;
}

int nvrtcGetProgramLogSize(Program* program, std::size_t* size) {
    if (!is_program(program)) return INVALID_PROGRAM;
    *size = program->log.size() + 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(Program* program, char* log) {
    if (!is_program(program)) return INVALID_PROGRAM;
    std::memcpy(log, program->log.c_str(), program->log.size() + 1);
    return SUCCESS;
}

int nvrtcGetPTXSize(Program* program, std::size_t* size) {
    if (!is_program(program) || program->object.empty()) return INVALID_PROGRAM;
    *size = program->ptx().size() + 1;
    return SUCCESS;
}

int nvrtcGetPTX(Program* program, char* ptx) {
    if (!is_program(program) || program->object.empty()) return INVALID_PROGRAM;
    std::string text = program->ptx();
    std::memcpy(ptx, text.c_str(), text.size() + 1);
    return SUCCESS;
}

int nvrtcGetCUBINSize(Program* program, std::size_t* size) {
    if (!is_program(program)) return INVALID_PROGRAM;
    *size = program->real ? program->object.size() : 0;
    return SUCCESS;
}

int nvrtcGetCUBIN(Program* program, char* cubin) {
    if (!is_program(program) || !program->real) return INVALID_PROGRAM;
    std::memcpy(cubin, program->object.data(), program->object.size());
    return SUCCESS;
}

} // extern "C"
