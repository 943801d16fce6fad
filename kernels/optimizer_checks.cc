#include "kernels/optimizer_checks.h"

#include "kernels/base/error.h"

namespace weft::kernels {
namespace {

void check_pointer(const char* operation, std::size_t index, const char* what, const void* data,
                   Elems count) {
  if (count.value < 0 || (data == nullptr && count.value > 0)) {
    fail<InvalidArgument>("{}: tensor {}: {} is null or the count of {} is negative.", operation,
                          index, what, count.value);
  }
}

template <class Tensor>
void check_types(const char* operation, std::size_t index, const Tensor& tensor) {
  const bool parameter_ok =
      tensor.parameter_type == DType::f32 || tensor.parameter_type == DType::f64;
  if (!parameter_ok || !is_floating(tensor.gradient_type)) {
    fail<InvalidArgument>(
        "{}: tensor {}: parameter of {}, gradient of {}: expected a parameter of f32 or f64 (keep "
        "half parameters as low_precision_copy) and a floating gradient.",
        operation, index, name_of(tensor.parameter_type), name_of(tensor.gradient_type));
  }
  if (tensor.low_precision_copy != nullptr && !is_half(tensor.copy_type)) {
    fail<InvalidArgument>("{}: tensor {}: a low_precision_copy of {}: expected f16 or bf16.",
                          operation, index, name_of(tensor.copy_type));
  }
}

}  // namespace

void check_adam(std::span<const AdamTensor> tensors, const AdamParams& params) {
  if (params.step < 1) {
    fail<InvalidArgument>("adam: step {}: expected 1 on the first call.", params.step);
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const AdamTensor& tensor = tensors[i];
    check_types("adam", i, tensor);
    check_pointer("adam", i, "parameter", tensor.parameter, tensor.count);
    check_pointer("adam", i, "gradient", tensor.gradient, tensor.count);
    check_pointer("adam", i, "exp_avg", tensor.exp_avg, tensor.count);
    check_pointer("adam", i, "exp_avg_sq", tensor.exp_avg_sq, tensor.count);
  }
}

void check_sgd(std::span<const SgdTensor> tensors, const SgdParams& params) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const SgdTensor& tensor = tensors[i];
    check_types("sgd", i, tensor);
    check_pointer("sgd", i, "parameter", tensor.parameter, tensor.count);
    check_pointer("sgd", i, "gradient", tensor.gradient, tensor.count);
    if (params.momentum != 0.0) {
      check_pointer("sgd", i, "momentum", tensor.momentum, tensor.count);
    }
  }
}

void check_flat(const char* operation, std::span<const FlatTensor> tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check_pointer(operation, i, "data", tensors[i].data, tensors[i].count);
    if (!is_floating(tensors[i].dtype)) {
      fail<InvalidArgument>("{}: tensor {} is of {}: expected a floating type.", operation, i,
                            name_of(tensors[i].dtype));
    }
  }
}

void check_unscale(double scale) {
  if (!(scale > 0.0)) {
    fail<InvalidArgument>("unscale_and_check: scale {}: expected more than 0.", scale);
  }
}

void check_max_norm(const char* operation, double max_norm) {
  if (!(max_norm >= 0.0)) {
    fail<InvalidArgument>("{}: max_norm {}: expected at least 0.", operation, max_norm);
  }
}

}  // namespace weft::kernels
