// Whether a sanitizer that has its own allocator and signal handlers is in this program.
#pragma once

namespace weft::tests {

// These end the process where memory is out (under a limit of the address space, too, of which they
// reserve much themselves), and turn crashes into exits.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace weft::tests
