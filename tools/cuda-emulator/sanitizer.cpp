// What the compiler's checks call (-fsanitize=alignment,bounds,...). x86 allows most of what they find; a GPU faults, or goes wrong in silence.

#include "execute.h"
#include "result.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

using emulation::fail;

namespace {

// The layouts of libubsan's data, as far as they are used here.
struct Location {
    const char* file;
    std::uint32_t line, column;
};
struct Type {
    std::uint16_t kind, info;
    char name[1];
};
struct Mismatch {
    Location location;
    const Type* type;
    unsigned char log_alignment, access;
};

[[noreturn]] void found(int result, const Location& location, const char* what) {
    emulation::Quote text = emulation::quote((int)location.line);
    fail(result, "%s, line %u: %.*s", what, location.line, text.length, text.text);
}

} // namespace

#define CHECK(name, what)                                                                                              \
    extern "C" void __ubsan_handle_##name##_abort(const Location* location) {                                          \
        found(emulation::LAUNCH_FAILED, *location, what);                                                              \
    }

extern "C" void __ubsan_handle_type_mismatch_v1_abort(const Mismatch* data, std::uintptr_t address) {
    char what[160];
    std::uintptr_t alignment = std::uintptr_t(1) << data->log_alignment;
    if (!address) {
        found(emulation::ILLEGAL_ADDRESS, data->location, "null pointer");
    } else if (address % alignment) {
        std::snprintf(what, sizeof what, "%s at address %p, not a multiple of %zu", data->type->name, (void*)address, (std::size_t)alignment);
        found(emulation::MISALIGNED_ADDRESS, data->location, what);
    }
    std::snprintf(what, sizeof what, "no room for %s at %p", data->type->name, (void*)address);
    found(emulation::ILLEGAL_ADDRESS, data->location, what);
}

extern "C" void __ubsan_handle_out_of_bounds_abort(const Location* location, std::uintptr_t index) {
    char what[80];
    std::snprintf(what, sizeof what, "index %lld is outside the array", (long long)index);
    found(emulation::ILLEGAL_ADDRESS, *location, what);
}

CHECK(shift_out_of_bounds, "shift by as many bits as there are, or more")
CHECK(divrem_overflow, "division by zero, or with a result out of range")
CHECK(add_overflow, "signed overflow of a sum")
CHECK(sub_overflow, "signed overflow of a difference")
CHECK(mul_overflow, "signed overflow of a product")
CHECK(negate_overflow, "signed overflow of a negation")
CHECK(float_cast_overflow, "float out of range of the integer it is cast to")
CHECK(builtin_unreachable, "a path that must not be taken")
CHECK(missing_return, "the end of a function that returns a value")
CHECK(load_invalid_value, "a bool that is neither")
CHECK(pointer_overflow, "a pointer that wraps")
