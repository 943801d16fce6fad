#include "comm/rendezvous/client_impl.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <asio/post.hpp>
#include <exception>

#include "comm/rendezvous/dial.h"
#include "comm/rendezvous/listen.h"
#include "comm/rendezvous/quiet_thread.h"
#include "comm/rendezvous/rank_names.h"
#include "kernels/base/error.h"

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
// The store keeps the time of get() and exchange(); beyond it, it has this long to say so.
constexpr milliseconds kAnswerGrace{5000};
constexpr milliseconds kPartingTime{1000};
constexpr milliseconds kHandOverTime{200};

// A store whose machine is gone acknowledges nothing: the kernel notices for us. (A store that is
// merely stopped does, and may go on later.)
void notice_unreachable(asio::ip::tcp::socket& socket, milliseconds timeout) {
  if (timeout.count() <= 0) return;
  const unsigned int ms =
      static_cast<unsigned int>(std::clamp<std::int64_t>(timeout.count(), 1000, 24 * 3600 * 1000));
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

}  // namespace

StoreClient::Impl::Impl(const StoreClientOptions& given)
    : options(given), exceptions_at_birth(std::uncaught_exceptions()) {
  if (options.port == 0) fail<InvalidArgument>("{}: the store's port is 0", name());
  Dialled dialled = dial(io, options);
  notice_unreachable(dialled.socket, dialled.welcome.heartbeat_timeout);
  asio::error_code error;
  local_address = dialled.socket.local_endpoint(error).address().to_string();
  heartbeat = std::max(options.heartbeat, milliseconds(1));
  if (dialled.welcome.heartbeat_timeout.count() > 0) {
    heartbeat =
        std::min(heartbeat, std::max(milliseconds(1), dialled.welcome.heartbeat_timeout / 4));
  }
  failure = dialled.welcome.failure;
  stream = std::make_shared<FrameStream>(std::move(dialled.socket), kBodyBytesMax);
  stream->start([this](const FrameHeader& header, Blob body) { on_frame(header, std::move(body)); },
                [this](const std::string& what) { on_closed(what); });
  beat();
  io.restart();
  thread = quiet_thread([this] { io.run(); });
}

StoreClient::Impl::~Impl() {
  leave();
  io.stop();
  thread.join();
  stream->close();
}

std::string StoreClient::Impl::name() const { return name_of_rank(options.self.rank); }

std::string StoreClient::Impl::store() const {
  return "the store at " + host_and_port(options.host, options.port);
}

void StoreClient::Impl::beat() {
  stream->send(make_frame(FrameType::heartbeat));
  heartbeat_timer.expires_after(heartbeat);
  heartbeat_timer.async_wait([this](const asio::error_code& error) {
    if (!error) beat();
  });
}

void StoreClient::Impl::on_frame(const FrameHeader& header, Blob body) {
  switch (header.type) {
    case FrameType::reply: {
      const std::lock_guard lock(mutex);
      const auto found = pending.find(header.id);
      if (found == pending.end()) return;  // its caller has given up
      found->second = {true, header.code, std::move(body)};
      break;
    }
    case FrameType::news:
      return settle(decode_failure(body));
    case FrameType::farewell: {
      const std::lock_guard lock(mutex);
      closed = true;
      break;
    }
    default:
      fail<Corrupt>("a frame of type {}, which clients do not take", static_cast<int>(header.type));
  }
  changed.notify_all();
}

void StoreClient::Impl::on_closed(const std::string& what) {
  heartbeat_timer.cancel();
  bool leaves = false;
  {
    const std::lock_guard lock(mutex);
    closed = true;
    leaves = leaving;
  }
  changed.notify_all();
  if (leaves) return;
  Failure gone;
  gone.source = Failure::Source::connection;
  gone.what = fmt::format(
      "{} is gone ({}): its process (the launcher of node 0, or rank 0) has ended, or its machine "
      "is unreachable",
      store(), what);
  settle(gone);
}

void StoreClient::Impl::settle(const Failure& verdict) {
  std::vector<std::function<void(const Failure&)>> told;
  {
    const std::lock_guard lock(mutex);
    if (failure) return;
    failure = verdict;
    told.swap(callbacks);
  }
  changed.notify_all();
  for (const auto& callback : told) {
    try {
      callback(verdict);
    } catch (const std::exception& error) {
      spdlog::error("{}: a failure callback threw: {}", name(), error.what());
    }
  }
}

void StoreClient::Impl::send(Frame frame) {
  asio::post(io, [this, frame = std::move(frame)]() mutable { stream->send(std::move(frame)); });
}

void StoreClient::Impl::send_now(Frame frame) {
  if (on_own_thread()) return stream->send(std::move(frame));
  auto sent = std::make_shared<bool>(false);
  asio::post(io, [this, sent, frame = std::move(frame)]() mutable {
    const auto tell = [this, sent] {
      {
        const std::lock_guard lock(mutex);
        *sent = true;
      }
      changed.notify_all();
    };
    stream->on_all_sent(tell);
    stream->send(std::move(frame));
    if (stream->all_sent()) tell();
  });
  std::unique_lock lock(mutex);
  changed.wait_for(lock, kHandOverTime, [&] { return *sent || closed; });
}

void StoreClient::Impl::leave() {
  if (std::uncaught_exceptions() > exceptions_at_birth) {
    // Whoever saw the exception knows more; their report outweighs this one.
    Failure torn;
    torn.source = Failure::Source::connection;
    torn.rank = options.self.rank;
    torn.what = "left while an exception was being thrown";
    return send_now(make_frame(FrameType::report, encode(torn)));
  }
  {
    const std::lock_guard lock(mutex);
    leaving = true;
  }
  changed.notify_all();
  send(make_frame(FrameType::goodbye));
  std::unique_lock lock(mutex);
  changed.wait_for(lock, kPartingTime, [&] { return closed; });
}

void StoreClient::Impl::check_key(std::string_view key, const char* operation) const {
  if (key.empty() || key.size() > kKeyBytesMax) {
    fail<InvalidArgument>("{}: {}: a key has 1 to {} bytes, not {}", name(), operation,
                          kKeyBytesMax, key.size());
  }
}

Blob StoreClient::Impl::call(FrameType type, Blob body, milliseconds timeout,
                             const std::string& what) {
  std::unique_lock lock(mutex);
  const auto throw_failure = [&] {
    const Failure verdict = *failure;
    lock.unlock();
    throw_error(verdict.code, describe(verdict));
  };
  if (failure) throw_failure();
  const std::uint64_t id = ++calls_made;
  pending[id];
  lock.unlock();
  send(make_frame(type, std::move(body), id));
  lock.lock();
  const auto limit = std::clamp(timeout, milliseconds(0), kTimeoutMax) + kAnswerGrace;
  const bool answered = changed.wait_for(
      lock, limit, [&] { return pending[id].done || failure.has_value() || leaving; });
  Pending reply = std::move(pending[id]);
  pending.erase(id);
  // Rather than a refusal that came with it; an answer stands: all others have it as well.
  if (failure && !(reply.done && reply.code == 0)) throw_failure();
  lock.unlock();
  if (reply.done && reply.code == 0) return std::move(reply.body);
  if (reply.done) {
    throw_error(static_cast<ErrorCode>(reply.code - 1),
                fmt::format("{}: {}: {} (asked of {})", name(), what,
                            std::string_view(reinterpret_cast<const char*>(reply.body.data()),
                                             reply.body.size()),
                            store()));
  }
  if (answered) fail<Aborted>("{}: {}: the store's client is being closed", name(), what);
  fail<Timeout>(
      "{}: {}: {} has not answered within {} ms: it is stopped, overloaded or unreachable", name(),
      what, store(), limit.count());
}

}  // namespace weft::comm
