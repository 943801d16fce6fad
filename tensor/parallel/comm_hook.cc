#include "tensor/parallel/comm_hook.h"

#include <array>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cast.h"
#include "tensor/parallel/int8_hook.h"

namespace weft::parallel {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"none", "fp16", "bf16", "int8"};

comm::View view_of(const Tensor& tensor) {
  return {tensor.data(), Elems(tensor.numel()), tensor.dtype()};
}

// The memory outlives the operation even when the Ddp is torn down by an exception.
Work keep_alive(Work work, const Tensor& buffer) {
  work.then([keep = buffer](std::exception_ptr) {});
  return work;
}

Work average(const GradBucket& bucket, Communicator& communicator) {
  return communicator.all_reduce_async(view_of(bucket.buffer), ReduceOp::avg);
}

Work average_as_bf16(const GradBucket& bucket, Communicator& communicator) {
  if (bucket.buffer.dtype() != DType::f32) return average(bucket, communicator);
  return communicator.all_reduce_async(view_of(bucket.buffer), ReduceOp::avg,
                                       {.wire = DType::bf16});
}

Work average_as_fp16(const GradBucket& bucket, Communicator& communicator) {
  const Tensor& buffer = bucket.buffer;
  if (buffer.dtype() != DType::f32) return average(bucket, communicator);
  kernels::cast(buffer.data(), DType::f32, buffer.data(), DType::f32, Elems(buffer.numel()),
                1.0 / communicator.size());
  return communicator.all_reduce_async(view_of(buffer), ReduceOp::sum, {.wire = DType::f16});
}

// One collective a bucket.
class FunctionHook : public CommHook {
 public:
  explicit FunctionHook(AverageFunction start) : start_(std::move(start)) {}

  void regroup(std::span<const GradBucket> buckets) override {
    works_.assign(buckets.size(), Work());
  }
  void launch(const GradBucket& bucket, Communicator& communicator) override {
    at(bucket) = keep_alive(start_(bucket, communicator), bucket.buffer);
  }
  std::chrono::nanoseconds finish(const GradBucket& bucket, Communicator&) override {
    const Work work = std::exchange(at(bucket), Work());
    work.wait();
    return work.duration();
  }

 private:
  Work& at(const GradBucket& bucket) { return works_.at(static_cast<std::size_t>(bucket.index)); }
  AverageFunction start_;
  std::vector<Work> works_;
};

}  // namespace

void CommHook::proceed(const GradBucket&, Communicator&) {}

std::string_view name_of(Compression compression) {
  return kNames.at(static_cast<std::size_t>(compression));
}

std::optional<Compression> parse_compression(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Compression>(i);
  }
  return std::nullopt;
}

std::shared_ptr<CommHook> make_comm_hook(AverageFunction average) {
  if (!average) fail<InvalidArgument>("make_comm_hook: the function is empty; pass a callable.");
  return std::make_shared<FunctionHook>(std::move(average));
}

std::shared_ptr<CommHook> make_comm_hook(Compression compression) {
  switch (compression) {
    case Compression::none:
      return make_comm_hook(average);
    case Compression::fp16:
      return make_comm_hook(average_as_fp16);
    case Compression::bf16:
      return make_comm_hook(average_as_bf16);
    case Compression::int8:
      return std::make_shared<Int8Hook>();
  }
  fail<InvalidArgument>("make_comm_hook: {} is no Compression; expected none, fp16, bf16 or int8.",
                        static_cast<int>(compression));
}

}  // namespace weft::parallel
