#include "tensor/tensor.h"

#include "kernels/cast.h"
#include "tensor/tensor_impl.h"
#include "tensor/transfer.h"

namespace weft::tensor {
namespace {

Bytes checked_bytes(const Shape& shape, DType dtype) {
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(numel(shape), size_of(dtype).value, &bytes)) {
    fail<InvalidArgument>("a tensor of shape {} and {} would have more than 2^63 bytes",
                          to_string(shape), name_of(dtype));
  }
  return Bytes(bytes);
}

constexpr std::size_t kLargestElement = 8;

void require_present(const TensorImpl& impl) {
  if (impl.storage->data() != nullptr || impl.numel == 0) return;
  if (impl.leaf && !impl.leaf->fills.empty()) {
    fail<InvalidArgument>(
        "the elements of this tensor of shape {} are not here: its module was made under "
        "nn::DeferredInit. Call nn::materialize(module), or set it up for training, first",
        to_string(impl.shape));
  }
  fail<InvalidArgument>(
      "the elements of this tensor of shape {} are not here: it is a parameter that the ranks hold "
      "in parts (ZeRO stage 3). Use it inside its module's forward(), or where all of them are "
      "gathered (parallel::Zero::Gathered)",
      to_string(impl.shape));
}

// Where the host can read the elements of a contiguous tensor: in place, or in `buffer`.
const void* on_host(const TensorImpl& impl, void* buffer) {
  const auto size = size_of(impl.dtype);
  const auto begin = impl.offset * size.value;
  if (impl.storage->device().type == DeviceType::cpu) {
    require_present(impl);
    return impl.storage->data() + begin;
  }
  read_from_device(buffer, {*impl.storage, begin}, size * impl.numel);
  return buffer;
}

}  // namespace

Tensor Tensor::empty(Shape shape, TensorOptions options) {
  auto storage = Storage::allocate(checked_bytes(shape, options.dtype), options.device);
  auto strides = contiguous_strides(shape);
  return make_tensor(std::move(storage), std::move(shape), std::move(strides), 0, options.dtype);
}

Tensor Tensor::zeros(Shape shape, TensorOptions options) {
  return full(std::move(shape), 0.0, options);
}

Tensor Tensor::full(Shape shape, double value, TensorOptions options) {
  auto result = empty(std::move(shape), options);
  result.fill_(value);
  return result;
}

Tensor Tensor::arange(std::int64_t end, TensorOptions options) {
  if (end < 0) fail<InvalidArgument>("arange: the end is {}; expected >= 0", end);
  const auto counts = empty({end}, {DType::i64});
  auto* values = static_cast<std::int64_t*>(counts.data());
  for (std::int64_t i = 0; i < end; ++i) values[i] = i;
  return counts.to(options.dtype).to(options.device);
}

template <class T>
Tensor Tensor::from(std::span<const T> values, Shape shape) {
  const auto count = static_cast<std::int64_t>(values.size());
  if (tensor::numel(shape) != count) {
    fail<InvalidArgument>("from: {} values for shape {}, which has {} elements", count,
                          to_string(shape), tensor::numel(shape));
  }
  auto result = empty(std::move(shape), {dtype_of<T>, {}});
  std::copy(values.begin(), values.end(), static_cast<T*>(result.data()));
  return result;
}

Tensor Tensor::wrap(std::shared_ptr<Storage> storage, Shape shape, DType dtype,
                    std::int64_t offset) {
  if (!storage) fail<InvalidArgument>("wrap: there is no storage");
  std::int64_t end = 0;
  if (offset < 0 || __builtin_add_overflow(tensor::numel(shape), offset, &end) ||
      end > storage->bytes().value / size_of(dtype).value) {
    fail<InvalidArgument>("wrap: shape {} of {} at element {} does not fit a storage of {} bytes",
                          to_string(shape), name_of(dtype), offset, storage->bytes().value);
  }
  const auto address = reinterpret_cast<std::uintptr_t>(storage->data());
  if (address % size_of(dtype).size() != 0) {
    fail<InvalidArgument>("wrap: memory at {} is not aligned to elements of {}; copy it instead",
                          static_cast<const void*>(storage->data()), name_of(dtype));
  }
  auto strides = contiguous_strides(shape);
  return make_tensor(std::move(storage), std::move(shape), std::move(strides), offset, dtype);
}

const Shape& Tensor::shape() const { return require_defined(*this, "shape").shape; }
const Strides& Tensor::strides() const { return require_defined(*this, "strides").strides; }
std::int64_t Tensor::dim() const { return static_cast<std::int64_t>(shape().size()); }

std::int64_t Tensor::size(std::int64_t d) const {
  return shape()[static_cast<std::size_t>(wrap_dim(d, dim(), "size"))];
}

std::int64_t Tensor::numel() const { return require_defined(*this, "numel").numel; }
DType Tensor::dtype() const { return require_defined(*this, "dtype").dtype; }
Device Tensor::device() const { return require_defined(*this, "device").storage->device(); }
bool Tensor::is_contiguous() const { return require_defined(*this, "is_contiguous").contiguous; }
std::int64_t Tensor::offset() const { return require_defined(*this, "offset").offset; }

const std::shared_ptr<Storage>& Tensor::storage() const {
  return require_defined(*this, "storage").storage;
}

void* Tensor::data() const {
  const auto& impl = require_defined(*this, "data");
  require_present(impl);
  if (impl.storage->data() == nullptr) return nullptr;
  return impl.storage->data() + impl.offset * size_of(impl.dtype).value;
}

template <class T>
T* Tensor::data() const {
  if (dtype() != dtype_of<T>) {
    fail<InvalidArgument>("data<{}>: the tensor of shape {} holds {}", name_of(dtype_of<T>),
                          to_string(shape()), name_of(dtype()));
  }
  return static_cast<T*>(data());
}

double Tensor::item() const {
  if (numel() != 1) {
    fail<InvalidArgument>("item: shape {} has {} elements; expected one", to_string(shape()),
                          numel());
  }
  double value = 0.0;
  std::byte bits[kLargestElement];
  kernels::cast(&value, DType::f64, on_host(*impl_, bits), dtype(), Elems(1));
  return value;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const NoGrad no_grad;
  const auto flat = contiguous();
  std::vector<T> values(static_cast<std::size_t>(numel()));
  if (device().type == DeviceType::cuda && dtype() == dtype_of<T>) {
    on_host(*flat.impl(), values.data());
    return values;
  }
  const auto here = flat.to(Device{});
  kernels::cast(values.data(), dtype_of<T>, here.data(), dtype(), Elems(numel()));
  return values;
}

template Tensor Tensor::from(std::span<const double>, Shape);
template Tensor Tensor::from(std::span<const float>, Shape);
template Tensor Tensor::from(std::span<const Half>, Shape);
template Tensor Tensor::from(std::span<const BFloat16>, Shape);
template Tensor Tensor::from(std::span<const std::int64_t>, Shape);
template Tensor Tensor::from(std::span<const std::int32_t>, Shape);
template Tensor Tensor::from(std::span<const std::uint8_t>, Shape);
template double* Tensor::data() const;
template float* Tensor::data() const;
template Half* Tensor::data() const;
template BFloat16* Tensor::data() const;
template std::int64_t* Tensor::data() const;
template std::int32_t* Tensor::data() const;
template std::uint8_t* Tensor::data() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<float> Tensor::to_vector() const;
template std::vector<Half> Tensor::to_vector() const;
template std::vector<BFloat16> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;
template std::vector<std::int32_t> Tensor::to_vector() const;
template std::vector<std::uint8_t> Tensor::to_vector() const;

}  // namespace weft::tensor
