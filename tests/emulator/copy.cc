#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "tests/emulator/capture.h"
#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/stream.h"

namespace weft::emulated {
namespace {

bool on_device(const void* pointer) { return attributes_of(pointer).type == cudaMemoryTypeDevice; }

bool pageable(const void* pointer) {
  return attributes_of(pointer).type == cudaMemoryTypeUnregistered;
}

// Whether the pointers are what the direction says; cudaMemcpyDefault goes by the pointers.
cudaError_t check_direction(const void* to, const void* from, std::size_t bytes,
                            cudaMemcpyKind kind) {
  if (to == nullptr || from == nullptr) return cudaErrorInvalidValue;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault) {
    // Pinned memory is both, as it is under unified addressing.
    const auto fits = [](const void* pointer, bool device) {
      const auto type = attributes_of(pointer).type;
      return type == cudaMemoryTypeHost || (type == cudaMemoryTypeDevice) == device;
    };
    if (!fits(to, to_device) || !fits(from, from_device)) {
      remember_failure(
          fmt::format("a copy whose direction does not fit its pointers: to {} from {}",
                      describe(to), describe(from)));
      return cudaErrorInvalidValue;
    }
  }
  for (const void* const end : {to, from}) {
    if (on_device(end) && !device_memory_holds(end, bytes)) {
      remember_failure(
          fmt::format("a copy of {} bytes leaves the memory at {}", bytes, describe(end)));
      return cudaErrorInvalidValue;
    }
  }
  return cudaSuccess;
}

}  // namespace
}  // namespace weft::emulated

using namespace weft::emulated;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (bytes == 0) return cudaSuccess;
  if (const auto error = check_direction(to, from, bytes, kind); error != cudaSuccess) {
    return say(error);
  }
  const auto target = stream_of(stream);
  if (!target) return say(cudaErrorInvalidResourceHandle);
  const Work plain{WorkKind::copy, [=] { std::memmove(to, from, bytes); }};
  if (is_captured(*target)) return enqueue(stream, plain);
  // From host memory that is not pinned the driver takes the bytes before the call returns; to it,
  // the call waits.
  if (pageable(from) && !pageable(to)) {
    const auto* const begin = static_cast<const std::byte*>(from);
    return enqueue(stream,
                   {WorkKind::copy, [to, kept = std::vector<std::byte>(begin, begin + bytes)] {
                      std::memcpy(to, kept.data(), kept.size());
                    }});
  }
  const auto error = enqueue(stream, plain);
  if (error != cudaSuccess || !pageable(to)) return error;
  drain(*target);
  return say(usable());
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (const auto error = refuse_while_capturing(); error != cudaSuccess) return say(error);
  const auto error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error != cudaSuccess ? error : cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (width == 0 || height == 0) return cudaSuccess;
  if (width > to_pitch || width > from_pitch) return say(cudaErrorInvalidValue);
  auto error = check_direction(to, from, width, kind);
  const auto last = [&](const void* p, size_t pitch) {
    return static_cast<const std::byte*>(p) + (height - 1) * pitch;
  };
  if (error == cudaSuccess) {
    error = check_direction(const_cast<std::byte*>(last(to, to_pitch)), last(from, from_pitch),
                            width, kind);
  }
  if (error != cudaSuccess) return say(error);
  const auto target = stream_of(stream);
  if (!target) return say(cudaErrorInvalidResourceHandle);
  const auto queued = enqueue(
      stream, {WorkKind::copy, [=] {
                 for (size_t row = 0; row < height; ++row) {
                   std::memmove(static_cast<std::byte*>(to) + row * to_pitch,
                                static_cast<const std::byte*>(from) + row * from_pitch, width);
                 }
               }});
  const bool waits = (pageable(to) || pageable(from)) && !is_captured(*target);
  if (queued != cudaSuccess || !waits) return queued;
  drain(*target);
  return say(usable());
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  if (const auto error = usable(); error != cudaSuccess) return say(error);
  if (bytes == 0) return cudaSuccess;
  if (!device_memory_holds(pointer, bytes)) {
    remember_failure(fmt::format("a fill of {} bytes at {}", bytes, describe(pointer)));
    return say(cudaErrorInvalidValue);
  }
  return enqueue(stream, {WorkKind::fill, [=] { std::memset(pointer, value, bytes); }});
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return cudaMemsetAsync(pointer, value, bytes, nullptr);
}

}  // extern "C"
