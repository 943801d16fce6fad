#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <exception>

#include "comm/rendezvous/quiet_thread.h"
#include "comm/rendezvous/server_impl.h"
#include "kernels/base/system_error.h"

namespace weft::comm {
namespace {

void check(const StoreServerOptions& options) {
  if (options.world_size < 1) {
    fail<InvalidArgument>("the store needs a world size of at least 1, not {}", options.world_size);
  }
  if (options.max_pending_handshakes < 1) {
    fail<InvalidArgument>("max_pending_handshakes is {}, at least 1 is needed",
                          options.max_pending_handshakes);
  }
  if (options.handshake_timeout.count() < 1) {
    fail<InvalidArgument>("handshake_timeout is {} ms, at least 1 is needed",
                          options.handshake_timeout.count());
  }
}

}  // namespace

StoreServer::StoreServer(const StoreServerOptions& options) {
  check(options);
  with_typed_errors("the store cannot start", [&] {
    impl_ = std::make_unique<Impl>(options);
    impl_->thread = quiet_thread([impl = impl_.get()] { impl->run(); });
  });
}

StoreServer::~StoreServer() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->stop(); });
  impl_->thread.join();
}

std::uint16_t StoreServer::port() const { return impl_->port; }

void StoreServer::report(const Failure& failure) {
  asio::post(impl_->io, [impl = impl_.get(), failure] { impl->hear(failure); });
}

std::optional<Failure> StoreServer::failure() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->failure;
}

void StoreServer::on_failure(std::function<void(const Failure&)> callback) {
  asio::post(impl_->io, [impl = impl_.get(), callback = std::move(callback)]() mutable {
    if (impl->failure) {
      call_safely(callback, *impl->failure);
    } else {
      impl->callbacks.push_back(std::move(callback));
    }
  });
}

std::vector<std::int32_t> StoreServer::connected_ranks() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<std::int32_t> ranks;
  for (const auto& [rank, member] : impl_->members) {
    if (rank >= 0) ranks.push_back(rank);
  }
  return ranks;
}

bool StoreServer::wait_all_left(std::chrono::milliseconds timeout) {
  std::unique_lock lock(impl_->mutex);
  return impl_->left.wait_for(lock, std::min(timeout, kTimeoutMax), [&] {
    for (const auto& [rank, member] : impl_->members) {
      if (member.session != 0 && !member.lost) return false;
    }
    return true;
  });
}

void call_safely(const std::function<void(const Failure&)>& callback, const Failure& failure) {
  try {
    callback(failure);
  } catch (const std::exception& error) {
    spdlog::error("a failure callback threw: {}", error.what());
  }
}

}  // namespace weft::comm
