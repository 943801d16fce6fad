// What the operating system refuses, as this library's own errors, with what helps against it.
#pragma once

#include <string>
#include <system_error>
#include <utility>

#include "kernels/base/error.h"

namespace weft {

// Whether a process, or the machine, has no file descriptors left.
bool is_out_of_descriptors(int error);

// "Too many open files (raise ulimit -n)": what the system says, and what to do where we know.
std::string text_of_system_error(int error);
std::string text_of_system_error(const std::error_code& code);

// Runs `body`; what other libraries throw for want of descriptors, threads and the like
// (std::system_error) becomes an IoError: "WHERE: WHAT: Too many open files (raise ulimit -n)".
template <class Body>
decltype(auto) with_typed_errors(const std::string& where, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::system_error& error) {
    std::string what = error.what();  // "eventfd_select_interrupter: Too many open files"
    const std::string plain = error.code().message();
    if (what.ends_with(plain)) what.erase(what.size() - plain.size());
    fail<IoError>("{}: {}{}", where, what, text_of_system_error(error.code()));
  }
}

}  // namespace weft
