#include "comm/rendezvous/dial.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <asio/connect.hpp>
#include <asio/read.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>
#include <future>

#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/listen.h"
#include "comm/rendezvous/quiet_thread.h"
#include "comm/rendezvous/rank_names.h"
#include "kernels/base/system_error.h"

namespace weft::comm {
namespace {

using Tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLongestPause{1000};
constexpr milliseconds kConnectAttempt{5000};      // a dropped SYN must not use up all the time
constexpr milliseconds kHandshakeAttempt{10'000};  // nor a listener that says nothing

// Something that may pass: worth another attempt.
struct TryAgain {
  std::string why;
};

// Runs one asynchronous operation to its end, or until the deadline: then `cancel` must end it.
template <class Start, class Cancel>
asio::error_code finish(asio::io_context& io, Clock::time_point deadline, Start start,
                        Cancel cancel) {
  asio::error_code result;
  bool done = false;
  start([&](const asio::error_code& error) {
    result = error;
    done = true;
  });
  io.restart();
  while (!done) {
    if (io.run_one_until(deadline) > 0) continue;
    if (done) break;
    cancel();
    io.restart();
    while (!done) io.run_one();
    return asio::error::timed_out;
  }
  return result;
}

// getaddrinfo cannot be interrupted: the thread that waits for it is left behind when it is late.
std::vector<Tcp::endpoint> resolve(const std::string& host, std::uint16_t port,
                                   Clock::time_point deadline) {
  asio::error_code error;
  const auto literal = asio::ip::make_address(host, error);
  if (!error) return {Tcp::endpoint(literal, port)};
  struct Answer {
    asio::error_code error;
    std::vector<Tcp::endpoint> found;
  };
  std::packaged_task<Answer()> look_up([host, port] {
    asio::io_context io;
    Tcp::resolver resolver(io);
    Answer answer;
    for (const auto& entry : resolver.resolve(host, std::to_string(port), answer.error)) {
      answer.found.push_back(entry.endpoint());
    }
    return answer;
  });
  auto future = look_up.get_future();
  quiet_thread(std::move(look_up)).detach();
  if (future.wait_until(deadline) != std::future_status::ready) {
    throw TryAgain{fmt::format("looking up '{}' takes too long", host)};
  }
  auto answer = future.get();
  if (answer.error) {
    throw TryAgain{fmt::format("'{}' has no address: {}", host, answer.error.message())};
  }
  return std::move(answer.found);
}

class Attempt {
 public:
  Attempt(asio::io_context& io, const StoreClientOptions& options, Clock::time_point deadline)
      : io_(io), options_(options), deadline_(deadline), socket_(io) {}

  Dialled run() {
    connect();
    authenticate();
    return join();
  }

 private:
  void connect() {
    const auto endpoints = resolve(options_.host, options_.port, deadline_);
    std::string why = "no address";
    for (const Tcp::endpoint& endpoint : endpoints) {
      why = connect_to(endpoint);
      if (why.empty()) return;
    }
    throw TryAgain{why};
  }

  std::string connect_to(const Tcp::endpoint& endpoint) {
    asio::error_code error;
    socket_.close(error);
    const int fd = ::socket(endpoint.protocol().family(),
                            SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    if (fd < 0 && is_out_of_descriptors(errno)) {  // no waiting helps
      fail<IoError>("no socket: {}", text_of_system_error(errno));
    }
    if (fd < 0) return fmt::format("no socket: {}", text_of_system_error(errno));
    socket_.assign(endpoint.protocol(), fd);
    const auto until = std::min(deadline_, Clock::now() + kConnectAttempt);
    error = finish(
        io_, until, [&](auto done) { socket_.async_connect(endpoint, done); }, [&] { close(); });
    if (error) return error.message();
    // Two ends that are one: Linux lets a connect to a free local port meet itself.
    if (socket_.local_endpoint(error) == socket_.remote_endpoint(error)) {
      close();
      return "Connection refused";
    }
    tune(socket_);
    return {};
  }

  void close() {
    asio::error_code ignored;
    socket_.close(ignored);
  }

  void check(const asio::error_code& error, const char* when) {
    if (error) throw TryAgain{fmt::format("{} {}", error.message(), when)};
  }

  void write(const Blob& bytes, Clock::time_point until, const char* when) {
    check(finish(
              io_, until,
              [&](auto done) {
                asio::async_write(socket_, asio::buffer(bytes),
                                  [done](const asio::error_code& e, std::size_t) { done(e); });
              },
              [&] { close(); }),
          when);
  }

  Blob read(std::size_t count, Clock::time_point until, const char* when) {
    Blob bytes(count);
    check(finish(
              io_, until,
              [&](auto done) {
                asio::async_read(socket_, asio::buffer(bytes),
                                 [done](const asio::error_code& e, std::size_t) { done(e); });
              },
              [&] { close(); }),
          when);
    return bytes;
  }

  void authenticate() {
    const auto until = std::min(deadline_, Clock::now() + kHandshakeAttempt);
    constexpr const char* kWhen = "during the handshake";
    ClientHandshake handshake(options_.job, options_.self, kStoreRank, Channel{});
    write(handshake.start(), until, kWhen);
    while (!handshake.finished()) {
      const Blob answer = handshake.feed(read(handshake.bytes_wanted(), until, kWhen));
      if (!answer.empty()) write(answer, until, kWhen);
    }
  }

  // From here on the store may count us as connected, so only the whole time bounds the wait.
  Dialled join() {
    constexpr const char* kWhen = "while joining";
    const Blob bytes =
        to_bytes(make_frame(FrameType::join, encode(JoinBody{::getpid(), this_host()})));
    write(bytes, deadline_, kWhen);
    const FrameHeader header =
        decode_header(read(FrameHeader::kBytes, deadline_, kWhen), 4 * kFailureTextBytesMax);
    const Blob body = read(header.body_bytes, deadline_, kWhen);
    if (header.type == FrameType::refused && header.code != 0) {
      throw_error(static_cast<ErrorCode>(header.code - 1), std::string(body.begin(), body.end()));
    }
    if (header.type != FrameType::welcome) fail<Corrupt>("an unexpected frame after the handshake");
    return {std::move(socket_), decode_welcome(body)};
  }

  asio::io_context& io_;
  const StoreClientOptions& options_;
  Clock::time_point deadline_;
  Tcp::socket socket_;
};

}  // namespace

Dialled dial(asio::io_context& io, const StoreClientOptions& options) {
  const auto begin = Clock::now();
  const auto deadline =
      begin + std::clamp(options.connect_timeout, milliseconds(0), milliseconds(kTimeoutMax));
  const std::string where = host_and_port(options.host, options.port);
  milliseconds pause = kFirstPause;
  std::string why;
  for (int attempts = 1;; ++attempts) {
    try {
      return Attempt(io, options, deadline).run();
    } catch (const TryAgain& again) {
      // The last attempt is cut short by the time; those before it say what is wrong.
      if (why.empty() || Clock::now() < deadline) why = again.why;
    } catch (const Error& error) {
      throw_error(error.code(), fmt::format("{} cannot join the store at {}: {}",
                                            name_of_rank(options.self.rank), where, error.what()));
    }
    // Ranks that started together need not knock together.
    const auto spread = pause * (std::max(0, options.self.rank) % 16) / 32;
    const auto next = Clock::now() + pause + spread;
    if (next >= deadline) {
      fail<Timeout>(
          "{} found no store at {} within {} ms ({} attempts, last: {}): check that the launcher "
          "of node 0 (or rank 0) runs, that address and port are those it shows, and that no "
          "firewall is between",
          name_of_rank(options.self.rank), where, options.connect_timeout.count(), attempts, why);
    }
    std::this_thread::sleep_until(next);
    pause = std::min(pause * 3 / 2, kLongestPause);
  }
}

}  // namespace weft::comm
