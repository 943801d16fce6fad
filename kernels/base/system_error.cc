#include "kernels/base/system_error.h"

#include <cerrno>
#include <string_view>

namespace weft {

bool is_out_of_descriptors(int error) { return error == EMFILE || error == ENFILE; }

std::string text_of_system_error(int error) {
  return text_of_system_error(std::error_code(error, std::generic_category()));
}

std::string text_of_system_error(const std::error_code& code) {
  std::string text = code.message();
  const std::string_view category = code.category().name();  // Asio has one of its own
  const bool by_errno = category == "generic" || category.ends_with("system");
  if (by_errno && code.value() == EMFILE) text += " (raise ulimit -n)";
  if (by_errno && code.value() == ENFILE) text += " (raise the machine's limit, fs.file-max)";
  return text;
}

}  // namespace weft
