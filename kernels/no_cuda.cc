// The names of the CUDA backend where it is not built.
#include "kernels/base/error.h"
#include "kernels/cuda.h"

namespace weft::kernels::cuda {
namespace {

constexpr const char* kReason =
    "this build of weft has no CUDA backend: configure with -DWEFT_CUDA=ON and nvcc on PATH";

[[noreturn]] void refuse(const char* operation) {
  fail<Unsupported>("{}: {}.", operation, kReason);
}

}  // namespace

int device_count() { return 0; }

std::string reason_for_none() { return kReason; }

DeviceInfo device_info(int index) {
  fail<InvalidArgument>("CUDA device {}: there is none, because {}.", index, kReason);
}

void cast_from_f32(void*, DType, const float*, Elems, double, Stream) { refuse("CUDA cast"); }

void* allocate(Bytes) { refuse("CUDA allocate"); }

void release(void*) noexcept {}

void copy_to_device(void*, const void*, Bytes) { refuse("CUDA copy to device"); }

void copy_to_host(void*, const void*, Bytes) { refuse("CUDA copy to host"); }

}  // namespace weft::kernels::cuda
