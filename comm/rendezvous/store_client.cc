#include <fmt/format.h>

#include <algorithm>
#include <asio/post.hpp>

#include "comm/rendezvous/client_impl.h"
#include "comm/rendezvous/listen.h"
#include "comm/rendezvous/rank_names.h"
#include "kernels/base/system_error.h"

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
// For calls that wait for nobody but the store.
constexpr milliseconds kPlainCall{60'000};

void check_value(const std::string& name, std::span<const std::uint8_t> value) {
  if (value.size() <= kValueBytesMax) return;
  fail<InvalidArgument>(
      "{}: {} bytes, the store takes at most {}: bulk data belongs into collectives", name,
      value.size(), kValueBytesMax);
}

}  // namespace

StoreClient::StoreClient(const StoreClientOptions& options)
    : impl_(with_typed_errors(
          fmt::format("{} cannot join the store at {}", name_of_rank(options.self.rank),
                      host_and_port(options.host, options.port)),
          [&] { return std::make_unique<Impl>(options); })) {}

StoreClient::~StoreClient() = default;

void StoreClient::set(std::string_view key, std::span<const std::uint8_t> value) {
  impl_->check_key(key, "set");
  const std::string name = fmt::format("set('{}')", key);
  check_value(name, value);
  impl_->call(FrameType::set, encode_call(key, 0, value), kPlainCall, name);
}

Blob StoreClient::get(std::string_view key, milliseconds timeout) {
  impl_->check_key(key, "get");
  return impl_->call(FrameType::get, encode_call(key, timeout.count(), {}), timeout,
                     fmt::format("get('{}')", key));
}

std::int64_t StoreClient::add(std::string_view key, std::int64_t delta) {
  impl_->check_key(key, "add");
  return decode_number(impl_->call(FrameType::add, encode_call(key, delta, {}), kPlainCall,
                                   fmt::format("add('{}')", key)));
}

void StoreClient::erase(std::string_view key) {
  impl_->check_key(key, "erase");
  impl_->call(FrameType::erase, encode_call(key, 0, {}), kPlainCall,
              fmt::format("erase('{}')", key));
}

std::vector<Blob> StoreClient::exchange(std::string_view key,
                                        std::span<const std::int32_t> participants,
                                        std::span<const std::uint8_t> mine, milliseconds timeout) {
  impl_->check_key(key, "exchange");
  const std::string name = fmt::format("exchange('{}')", key);
  check_value(name, mine);
  const std::int32_t self = impl_->options.self.rank;
  if (std::find(participants.begin(), participants.end(), self) == participants.end()) {
    fail<InvalidArgument>("{}: {} is not among its participants ({})", impl_->name(), name,
                          participants.empty() ? "none" : name_of_ranks(participants));
  }
  return decode_exchanged(impl_->call(
      FrameType::exchange, encode_exchange(key, timeout, participants, mine), timeout, name));
}

void StoreClient::report(const Failure& failure) {
  impl_->send_now(make_frame(FrameType::report, encode(failure)));
}

std::optional<Failure> StoreClient::failure() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->failure;
}

std::optional<Failure> StoreClient::wait_failure(milliseconds timeout) {
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait_for(lock, std::clamp(timeout, milliseconds(0), kTimeoutMax),
                          [&] { return impl_->failure.has_value(); });
  return impl_->failure;
}

void StoreClient::on_failure(std::function<void(const Failure&)> callback) {
  std::optional<Failure> known;
  {
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->failure) {
      impl_->callbacks.push_back(std::move(callback));
      return;
    }
    known = impl_->failure;
  }
  asio::post(impl_->io, [callback = std::move(callback), known] { callback(*known); });
}

std::string StoreClient::local_address() const { return impl_->local_address; }

}  // namespace weft::comm
