#include "tensor/parallel/ddp.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "comm/cuda_communicator.h"
#include "kernels/base/check.h"
#include "tensor/autograd/node.h"
#include "tensor/parallel/agreement.h"
#include "tensor/parallel/bucket.h"
#include "tensor/parallel/device_hook.h"
#include "tensor/parallel/staged_hook.h"

namespace weft::parallel {
namespace {

using Clock = std::chrono::steady_clock;

// The one device that all trained parameters lie on.
Device device_of(std::span<const NamedTensor> parameters, int rank) {
  const NamedTensor* first = nullptr;
  for (const auto& entry : parameters) {
    if (!entry.tensor.requires_grad()) continue;
    if (first == nullptr) first = &entry;
    if (entry.tensor.device() == first->tensor.device()) continue;
    fail<InvalidArgument>(
        "rank {}: DDP needs all parameters on one device, but '{}' is on {} and '{}' on {}. Move "
        "the module with to() first.",
        rank, first->name, tensor::to_string(first->tensor.device()), entry.name,
        tensor::to_string(entry.tensor.device()));
  }
  return first == nullptr ? Device{} : first->tensor.device();
}

std::vector<GradBucket> describe(const std::vector<Bucket>& buckets,
                                 const std::vector<Tensor>& parameters) {
  std::vector<GradBucket> described;
  for (const auto& bucket : buckets) {
    auto& entry = described.emplace_back();
    entry.index = static_cast<std::int32_t>(described.size()) - 1;
    entry.buffer = bucket.buffer;
    for (std::size_t i = 0; i < bucket.parameters.size(); ++i) {
      const auto parameter = bucket.parameters[i];
      entry.parts.push_back({parameter, bucket.begins[i],
                             Elems(parameters[static_cast<std::size_t>(parameter)].numel())});
    }
  }
  return described;
}

std::shared_ptr<CommHook> chosen_hook(const DdpOptions& options, int rank) {
  if (!options.hook) return make_comm_hook(options.compression);
  if (options.compression != Compression::none) {
    fail<InvalidArgument>(
        "rank {}: DdpOptions has a hook and compression {}: the hook decides what travels. Leave "
        "one of them out.",
        rank, name_of(options.compression));
  }
  return options.hook;
}

// Compressed forms are made on the host, and the user's hooks are given host memory.
bool averages_on_device(const DdpOptions& options, Device device) {
  return device.type == DeviceType::cuda && !options.hook &&
         options.compression == Compression::none;
}

std::shared_ptr<CommHook> hook_of(const DdpOptions& options, Device device, int rank) {
  auto hook = chosen_hook(options, rank);
  if (device.type == DeviceType::cpu) return hook;
  if (averages_on_device(options, device)) return std::make_shared<DeviceHook>(device);
  return std::make_shared<StagedHook>(std::move(hook), device);
}

}  // namespace

struct Ddp::Impl {
  Impl(std::vector<NamedTensor> parameters, std::vector<NamedTensor> buffers,
       Communicator& communicator, DdpOptions options);
  ~Impl();

  bool alone() const { return communicator_.size() == 1; }
  void adopt(std::vector<Bucket> buckets);
  void on_ready(std::int32_t index);
  void mark_ready(std::int32_t index);
  std::vector<std::int32_t> absent() const;
  void complete_absent(const std::vector<std::int32_t>& absent);
  [[noreturn]] void refuse_absent(const std::vector<std::int32_t>& absent);
  void wait_all();
  void keep_used(const std::vector<std::int32_t>& absent);
  void rebuild_in_ready_order();
  std::vector<Bucket> packed(std::span<const std::int32_t> order);

  std::vector<NamedTensor> held_;  // trained, frozen, and buffers
  std::vector<std::string> names_;
  std::vector<Tensor> parameters_;
  std::vector<Tensor> buffers_;
  Communicator& communicator_;
  DdpOptions options_;
  Device device_;  // of all trained parameters
  std::vector<std::int64_t> hooks_;

  std::vector<Bucket> buckets_;
  std::vector<std::int32_t> bucket_of_;  // by parameter
  std::shared_ptr<CommHook> hook_;
  std::vector<GradBucket> grads_;  // the buckets as the hook sees them
  std::vector<int> pending_;       // by bucket: gradients still to come in the current backward
  std::size_t next_bucket_ = 0;    // the first that was not launched
  std::vector<char> ready_;        // by parameter, in the current backward
  std::vector<std::int32_t> ready_order_;
  bool in_backward_ = false;
  bool synchronises_ = true;
  bool rebuilt_ = false;
  bool broken_ = false;  // a backward ended with buckets on their way: what they hold is unknown
  DdpTimes times_;
};

Ddp::Impl::Impl(std::vector<NamedTensor> parameters, std::vector<NamedTensor> buffers,
                Communicator& communicator, DdpOptions options)
    : communicator_(communicator),
      options_(std::move(options)),
      device_(device_of(parameters, communicator.rank())),
      hook_(hook_of(options_, device_, communicator.rank())) {
  std::vector<NamedTensor> all = parameters;
  all.insert(all.end(), buffers.begin(), buffers.end());
  for (const auto& [name, tensor] : all) {
    if (!tensor.is_contiguous()) {
      fail<InvalidArgument>(
          "rank {}: DDP needs contiguous parameters, but '{}' {} is a strided view. Train a "
          "clone().",
          communicator.rank(), name, tensor::to_string(tensor.shape()));
    }
  }
  verify_same_tensors(all, communicator);
  held_ = all;
  for (auto& [name, tensor] : parameters) {
    if (!tensor.requires_grad()) continue;  // frozen: broadcast below, never reduced
    names_.push_back(name);
    parameters_.push_back(tensor);
  }
  for (auto& [name, tensor] : buffers) buffers_.push_back(tensor);
  if (alone()) return;
  for (const auto& entry : all) broadcast_values(entry.tensor, 0, communicator_);

  bucket_of_.resize(parameters_.size());
  ready_.resize(parameters_.size());
  std::vector<std::int32_t> order(parameters_.size());
  std::iota(order.rbegin(), order.rend(), 0);  // last registered first: backward reaches it first
  adopt(packed(order));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto index = static_cast<std::int32_t>(i);
    hooks_.push_back(
        parameters_[i].on_grad_ready([this, index](const Tensor&) { on_ready(index); }));
  }
}

Ddp::Impl::~Impl() {
  for (std::size_t i = 0; i < hooks_.size(); ++i) {
    parameters_[i].remove_hook(hooks_[i]);
    parameters_[i].set_grad_buffer({});
  }
}

// Makes these the buckets; gradients that exist move along.
void Ddp::Impl::adopt(std::vector<Bucket> buckets) {
  buckets_ = std::move(buckets);
  pending_.assign(buckets_.size(), 0);
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    for (std::size_t i = 0; i < buckets_[b].parameters.size(); ++i) {
      const auto index = static_cast<std::size_t>(buckets_[b].parameters[i]);
      bucket_of_[index] = static_cast<std::int32_t>(b);
      parameters_[index].set_grad_buffer(buckets_[b].views[i]);
    }
  }
  grads_ = describe(buckets_, parameters_);
  hook_->regroup(grads_);
}

void Ddp::Impl::on_ready(std::int32_t index) {
  if (!synchronises_) return;
  if (!in_backward_) {
    fail<InvalidArgument>(
        "rank {}: the gradient of '{}' became ready outside Ddp::backward(), so it would not be "
        "averaged over the {} "
        "ranks. Call backward() of the Ddp (or of Fabric) instead of the loss's own, or hold a "
        "NoSync.",
        communicator_.rank(), names_[static_cast<std::size_t>(index)], communicator_.size());
  }
  if (!rebuilt_) ready_order_.push_back(index);
  mark_ready(index);
}

void Ddp::Impl::mark_ready(std::int32_t index) {
  ready_[static_cast<std::size_t>(index)] = 1;
  --pending_[static_cast<std::size_t>(bucket_of_[static_cast<std::size_t>(index)])];
  while (next_bucket_ < buckets_.size() && pending_[next_bucket_] == 0)
    hook_->launch(grads_[next_bucket_++], communicator_);
}

std::vector<std::int32_t> Ddp::Impl::absent() const {
  std::vector<std::int32_t> indices;
  for (std::size_t i = 0; i < ready_.size(); ++i) {
    if (!ready_[i]) indices.push_back(static_cast<std::int32_t>(i));
  }
  return indices;
}

void Ddp::Impl::refuse_absent(const std::vector<std::int32_t>& absent) {
  broken_ = next_bucket_ > 0;
  constexpr std::size_t kNamesShown = 8;
  std::string list;
  for (std::size_t i = 0; i < std::min(absent.size(), kNamesShown); ++i) {
    list += (i ? ", " : "") + names_[static_cast<std::size_t>(absent[i])];
  }
  if (absent.size() > kNamesShown) list += fmt::format(" and {} more", absent.size() - kNamesShown);
  fail<InvalidArgument>(
      "rank {} of {}: {} of {} parameters got no gradient in this backward: {}. If the model does "
      "not always use them, "
      "choose find_unused_parameters (strategy ddp_find_unused_parameters_true); otherwise freeze "
      "or remove them.",
      communicator_.rank(), communicator_.size(), absent.size(), parameters_.size(), list);
}

// A parameter that took no part contributes zero here (or what no_sync accumulated before); others
// may have used it.
void Ddp::Impl::complete_absent(const std::vector<std::int32_t>& absent) {
  for (const auto index : absent) {
    const auto i = static_cast<std::size_t>(index);
    if (!parameters_[i].grad().defined()) {
      auto& bucket = buckets_[static_cast<std::size_t>(bucket_of_[i])];
      const auto at = std::find(bucket.parameters.begin(), bucket.parameters.end(), index) -
                      bucket.parameters.begin();
      bucket.views[static_cast<std::size_t>(at)].zero_();
    }
    mark_ready(index);
  }
}

// A parameter somebody used gets the average as its gradient everywhere; one that nobody used stays
// without.
void Ddp::Impl::keep_used(const std::vector<std::int32_t>& absent) {
  std::vector<std::uint8_t> used(parameters_.size(), 1);
  for (const auto index : absent) {
    used[static_cast<std::size_t>(index)] =
        parameters_[static_cast<std::size_t>(index)].grad().defined();
  }
  communicator_.all_reduce(std::span(used), ReduceOp::max);
  for (const auto index : absent) {
    const auto i = static_cast<std::size_t>(index);
    if (!used[i]) continue;
    const auto& bucket = buckets_[static_cast<std::size_t>(bucket_of_[i])];
    const auto at = std::find(bucket.parameters.begin(), bucket.parameters.end(), index) -
                    bucket.parameters.begin();
    parameters_[i].set_grad(bucket.views[static_cast<std::size_t>(at)]);
  }
}

void Ddp::Impl::wait_all() {
  const auto start = Clock::now();
  times_ = {};
  for (const auto& bucket : grads_) hook_->proceed(bucket, communicator_);
  for (const auto& bucket : grads_) times_.communication += hook_->finish(bucket, communicator_);
  times_.exposed = Clock::now() - start;
}

// In memory that the other ranks of the host address directly, where there is such: buckets are
// then reduced where they are. All ranks pack the same, and so allocate the same, in the same
// order.
std::vector<Bucket> Ddp::Impl::packed(std::span<const std::int32_t> order) {
  const BucketSizes sizes{options_.first_bucket_bytes, options_.bucket_bytes};
  if (averages_on_device(options_, device_)) {
    auto& collectives = communicator_.cuda(device_.index);
    const BucketMemory shared = [&](Bytes bytes) {
      auto memory = std::make_shared<comm::SymmetricMemory>(collectives.allocate_symmetric(bytes));
      return tensor::Storage::borrow(memory->data(), bytes, memory, device_);
    };
    return make_buckets(parameters_, order, sizes, shared);
  }
  if (device_.type == DeviceType::cuda) {
    const BucketMemory on_device = [&](Bytes bytes) {
      auto memory = tensor::Storage::allocate(bytes, device_);
      const NoGrad no_grad;
      Tensor::wrap(memory, {bytes.value}, DType::u8).zero_();
      return memory;
    };
    return make_buckets(parameters_, order, sizes, on_device);
  }
  const BucketMemory symmetric = [&](Bytes bytes) {
    auto memory = std::make_shared<comm::SymmetricMemory>(communicator_.allocate_symmetric(bytes));
    return tensor::Storage::borrow(memory->data(), bytes, memory);
  };
  return make_buckets(parameters_, order, sizes, symmetric);
}

void Ddp::Impl::rebuild_in_ready_order() {
  auto order = ready_order_;
  communicator_.broadcast(std::span(order), 0);
  adopt(packed(order));
  // The first buckets are nobody's now, but only an allocation gives their pages back.
  if (device_.type == DeviceType::cpu) {
    communicator_.allocate_symmetric(Bytes(0));
  } else if (averages_on_device(options_, device_)) {
    tensor::synchronize(device_);  // nothing that is queued uses them any more
    communicator_.cuda(device_.index).allocate_symmetric(Bytes(0));
  }
  rebuilt_ = true;
}

Ddp::Ddp(std::vector<NamedTensor> parameters, std::vector<NamedTensor> buffers,
         Communicator& communicator, DdpOptions options)
    : impl_(std::make_unique<Impl>(std::move(parameters), std::move(buffers), communicator,
                                   std::move(options))) {}
Ddp::~Ddp() = default;

void Ddp::require_gradients() {
  auto& d = *impl_;
  const bool untouched = !d.alone() && d.synchronises_ && d.absent().size() == d.parameters_.size();
  if (!untouched || d.options_.find_unused_parameters) return;
  d.in_backward_ = false;
  d.refuse_absent(d.absent());
}

void Ddp::begin_backward() {
  auto& d = *impl_;
  if (d.in_backward_) {
    fail<InvalidArgument>(
        "rank {}: backward() of a Ddp inside its own backward(): finish or cancel the first one.",
        d.communicator_.rank());
  }
  if (d.broken_) {
    fail<Aborted>(
        "rank {}: an earlier backward() of this Ddp failed while gradients were being averaged; "
        "the ranks may differ now. "
        "End the job, or make a new Ddp on every rank.",
        d.communicator_.rank());
  }
  d.in_backward_ = true;
  d.next_bucket_ = 0;
  d.ready_order_.clear();
  std::fill(d.ready_.begin(), d.ready_.end(), 0);
  for (std::size_t b = 0; b < d.buckets_.size(); ++b) {
    d.pending_[b] = static_cast<int>(d.buckets_[b].parameters.size());
  }
}

void Ddp::cancel_backward() {
  impl_->in_backward_ = false;
  impl_->broken_ = impl_->next_bucket_ > 0;
}

void Ddp::finish_backward() {
  auto& d = *impl_;
  d.in_backward_ = false;
  if (d.alone() || !d.synchronises_) return;
  const auto absent = d.absent();
  if (!d.options_.find_unused_parameters) {
    if (absent.size() == d.parameters_.size()) return;  // a loss that does not reach this model
    if (!absent.empty()) d.refuse_absent(absent);
  }
  d.complete_absent(absent);
  WEFT_ASSERT(d.next_bucket_ == d.buckets_.size(),
              "every bucket is launched once all gradients are ready");
  d.wait_all();
  if (d.options_.find_unused_parameters) {
    d.keep_used(absent);
  } else if (!d.rebuilt_) {
    d.rebuild_in_ready_order();
  }
}

bool Ddp::synchronises() const { return impl_->synchronises_; }
void Ddp::set_synchronises(bool on) { impl_->synchronises_ = on; }

void Ddp::broadcast_buffers() {
  for (const auto& buffer : impl_->buffers_) broadcast_values(buffer, 0, impl_->communicator_);
}

DdpTimes Ddp::last_times() const { return impl_->times_; }

checkpoint::ShardList Ddp::parameter_shards() const {
  checkpoint::ShardList shards;
  for (const auto& [name, tensor] : impl_->held_) {
    shards.push_back({name, tensor.shape(), Elems(0), tensor.detach()});
  }
  return shards;
}

void Ddp::parameters_changed() {
  for (const auto& entry : impl_->held_) entry.tensor.storage()->mark_written();
}

int Ddp::bucket_count() const { return static_cast<int>(impl_->buckets_.size()); }

std::vector<std::vector<std::string>> Ddp::bucket_layout() const {
  std::vector<std::vector<std::string>> layout;
  for (const auto& bucket : impl_->buckets_) {
    auto& names = layout.emplace_back();
    for (const auto index : bucket.parameters)
      names.push_back(impl_->names_[static_cast<std::size_t>(index)]);
  }
  return layout;
}

}  // namespace weft::parallel
