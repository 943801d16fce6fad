// IPC handles as text.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/cuda/runtime.h"

namespace weft::kernels::cuda {

inline std::string text_of(const IpcHandle& handle) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const auto byte : handle.bytes) {
    text += kDigits[static_cast<unsigned>(byte) >> 4];
    text += kDigits[static_cast<unsigned>(byte) & 15];
  }
  return text;
}

// Of text_of(); missing digits are zeros.
inline IpcHandle handle_of(const std::string& text) {
  IpcHandle handle;
  for (std::size_t i = 0; i + 1 < text.size() && i / 2 < handle.bytes.size(); i += 2) {
    handle.bytes[i / 2] = static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16));
  }
  return handle;
}

}  // namespace weft::kernels::cuda
