// Fabric's collectives on tensors, and the scopes.
#include <array>
#include <cstdlib>
#include <exception>

#include "launcher/fabric.h"
#include "tensor/autograd/node.h"
#include "tensor/random.h"

namespace weft {
namespace {

ReduceOp parse_op(const std::string& name) {
  if (name == "mean") return ReduceOp::avg;
  const auto op = parse_reduce_op(name);
  if (!op) {
    fail<InvalidArgument>(
        "Fabric::all_reduce(): there is no reduce_op '{}'; choose mean, avg, sum, prod, min or "
        "max.",
        name);
  }
  return *op;
}

comm::View view_of(const Tensor& tensor) {
  return {tensor.data(), Elems(tensor.numel()), tensor.dtype()};
}

// On the host, where the collectives of this file run.
Tensor private_copy(const Tensor& tensor, const char* method) {
  if (!tensor.defined()) fail<InvalidArgument>("Fabric::{}(): the tensor is undefined.", method);
  const NoGrad no_grad;
  const auto contiguous = tensor.detach().contiguous();
  return tensor.device().type == DeviceType::cpu ? contiguous.clone() : contiguous.to(Device{});
}

}  // namespace

Tensor Fabric::all_reduce(const Tensor& tensor, const std::string& reduce_op) {
  const auto op = parse_op(reduce_op);
  auto result = private_copy(tensor, "all_reduce");
  communicator().all_reduce(view_of(result), op);
  return result.to(tensor.device());
}

double Fabric::all_reduce(double value, const std::string& reduce_op) {
  std::array<double, 1> buffer{value};
  communicator().all_reduce(std::span(buffer), parse_op(reduce_op));
  return buffer[0];
}

Tensor Fabric::all_gather(const Tensor& tensor) {
  const auto mine = private_copy(tensor, "all_gather");
  Shape shape = mine.shape();
  shape.insert(shape.begin(), world_size());
  auto result = Tensor::empty(shape, {mine.dtype()});
  communicator().all_gather(view_of(mine), view_of(result));
  return result.to(tensor.device());
}

Tensor Fabric::broadcast(const Tensor& tensor, int src) {
  auto result = private_copy(tensor, "broadcast");
  communicator().broadcast(view_of(result), src);
  return result.to(tensor.device());
}

void Fabric::barrier(const std::string& /*name*/) { communicator().barrier(); }

Fabric::RankZeroFirst::RankZeroFirst(Fabric& fabric, bool first)
    : fabric_(fabric), first_(first), exceptions_(std::uncaught_exceptions()) {
  if (!first_) fabric_.barrier();
}

Fabric::RankZeroFirst::~RankZeroFirst() noexcept(false) {
  // A rank that leaves by an exception does not wait: its death is what the others hear of.
  if (std::uncaught_exceptions() > exceptions_) return;
  if (first_) fabric_.barrier();
  fabric_.barrier();
}

Fabric::RankZeroFirst Fabric::rank_zero_first(bool local) {
  return RankZeroFirst(*this, local ? local_rank() == 0 : is_global_zero());
}

std::uint64_t Fabric::seed_everything(std::optional<std::uint64_t> seed, bool per_rank) {
  std::uint64_t chosen = 0;
  if (seed) {
    chosen = *seed;
  } else if (const char* text = std::getenv("WEFT_SEED"); text != nullptr && *text != '\0') {
    char* end = nullptr;
    chosen = std::strtoull(text, &end, 10);
    if (*end != '\0' || *text == '-')
      fail<InvalidArgument>("WEFT_SEED='{}': expected a whole number.", text);
  }
  const auto stream = per_rank ? static_cast<std::uint64_t>(global_rank()) : 0;
  tensor::default_generator() = tensor::Generator(chosen, stream);
  return chosen;
}

}  // namespace weft
