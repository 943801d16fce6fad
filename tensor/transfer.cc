#include "tensor/transfer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/base/error.h"
#include "kernels/cuda/faults.h"
#include "kernels/cuda/runtime.h"
#include "tensor/cuda_allocator.h"
#include "tensor/stream.h"

namespace weft::tensor {
namespace {

// Large enough to come near the rate of one large copy over PCIe, small enough to begin soon.
constexpr std::int64_t kPiece = std::int64_t{4} << 20;

void require_no_capture(const Stream& stream, Device to, Device from) {
  if (!stream.is_capturing()) return;
  fail<InvalidArgument>(
      "copying from {} to {} while a graph is captured: a graph repeats device work only. Give "
      "host data as a static input (copied before each replay), and read results after replay()",
      to_string(from), to_string(to));
}

void queue_copy(void* to, const void* from, std::int64_t bytes, const Stream& stream) {
  kernels::cuda::copy_async(to, from, Bytes(bytes), stream.handle());
}

// A pinned buffer that other streams may be working with when it is given up.
class Piece {
 public:
  explicit Piece(std::int64_t bytes) : data_(allocate_pinned_memory(Bytes(bytes))) {}
  ~Piece() { free_pinned_memory(data_); }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;
  std::byte* data() const { return data_; }
  void record(const Stream& stream) const { record_pinned_stream(data_, stream); }

 private:
  std::byte* data_;
};

void upload_by_pieces(std::byte* to, const std::byte* from, std::int64_t bytes,
                      const Stream& stream) {
  for (std::int64_t at = 0; at < bytes; at += kPiece) {
    const auto here = std::min(kPiece, bytes - at);
    const Piece piece(here);
    std::memcpy(piece.data(), from + at, static_cast<std::size_t>(here));
    queue_copy(to + at, piece.data(), here, stream);
    piece.record(stream);
  }
}

// Two buffers: one is filled while the other is emptied.
void download_by_pieces(std::byte* to, const std::byte* from, std::int64_t bytes,
                        const Stream& stream) {
  const auto size = std::min(kPiece, bytes);
  const std::array<Piece, 2> pieces{Piece(size), Piece(size)};
  std::array<Event, 2> filled;
  const auto count = (bytes + kPiece - 1) / kPiece;
  const auto length = [&](std::int64_t i) { return std::min(kPiece, bytes - i * kPiece); };
  for (std::int64_t i = 0; i <= count; ++i) {
    const auto slot = static_cast<std::size_t>(i % 2);
    if (i < count) {
      queue_copy(pieces[slot].data(), from + i * kPiece, length(i), stream);
      pieces[slot].record(stream);
      filled[slot].record(stream);
    }
    if (i > 0) {
      const auto before = 1 - slot;
      filled[before].synchronize();
      std::memcpy(to + (i - 1) * kPiece, pieces[before].data(),
                  static_cast<std::size_t>(length(i - 1)));
    }
  }
  kernels::cuda::check_faults();  // of kernels that came before, which are done
}

void between_devices(Run to, Run from, std::int64_t bytes) {
  const auto source = Stream::current(from.storage.device());
  if (to.storage.device() == from.storage.device()) {
    const DeviceGuard guard(to.storage.device());
    queue_copy(to.data(), from.data(), bytes, source);
    return;
  }
  const auto target = Stream::current(to.storage.device());
  require_no_capture(source, to.storage.device(), from.storage.device());
  require_no_capture(target, to.storage.device(), from.storage.device());
  source.wait(target);  // until what used the target before is done
  {
    const DeviceGuard guard(from.storage.device());
    queue_copy(to.data(), from.data(), bytes, source);
  }
  target.wait(source);
  from.storage.record_stream(source);
  to.storage.record_stream(source);
}

void with_host(Run to, Run from, std::int64_t bytes, Blocking blocking) {
  const bool up = from.storage.device().type == DeviceType::cpu;
  const Run& host = up ? from : to;
  const Device device = (up ? to : from).storage.device();
  const auto stream = Stream::current(device);
  require_no_capture(stream, to.storage.device(), from.storage.device());
  const DeviceGuard guard(device);
  if (host.storage.is_pinned()) {
    queue_copy(to.data(), from.data(), bytes, stream);
    host.storage.record_stream(stream);
    if (blocking == Blocking::yes) stream.synchronize();
  } else if (up) {
    upload_by_pieces(to.data(), from.data(), bytes, stream);
  } else {
    download_by_pieces(to.data(), from.data(), bytes, stream);
  }
}

}  // namespace

void transfer(Run to, Run from, Bytes bytes, Blocking blocking) {
  if (bytes == Bytes(0)) return;
  const bool devices_only = to.storage.device().type == DeviceType::cuda &&
                            from.storage.device().type == DeviceType::cuda;
  if (devices_only) {
    between_devices(to, from, bytes.value);
  } else {
    with_host(to, from, bytes.value, blocking);
  }
}

void read_from_device(void* to, Run from, Bytes bytes) {
  if (bytes == Bytes(0)) return;
  const auto device = from.storage.device();
  const auto stream = Stream::current(device);
  require_no_capture(stream, {}, device);
  const DeviceGuard guard(device);
  download_by_pieces(static_cast<std::byte*>(to), from.data(), bytes.value, stream);
}

}  // namespace weft::tensor
