// The inside of the store's client: one thread that reads, writes and beats; callers that wait.
#pragma once

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "comm/rendezvous/frame_stream.h"
#include "comm/rendezvous/store.h"

namespace weft::comm {

struct StoreClient::Impl {
  using Clock = std::chrono::steady_clock;

  explicit Impl(const StoreClientOptions& options);
  ~Impl();

  // The reply's body, or the typed error it stands for. `call` is for messages: "get('x')".
  Blob call(FrameType type, Blob body, std::chrono::milliseconds timeout, const std::string& name);
  void check_key(std::string_view key, const char* operation) const;
  void send(Frame frame);  // from any thread
  // Sends and waits a moment until the bytes are the kernel's: they outlive this process then.
  void send_now(Frame frame);
  void leave();  // says goodbye and waits a moment for the farewell
  void settle(const Failure& verdict);
  std::string name() const;   // "rank 3"
  std::string store() const;  // "the store at 10.0.0.1:29400"
  bool on_own_thread() const { return std::this_thread::get_id() == thread.get_id(); }

  // On the client's thread.
  void on_frame(const FrameHeader& header, Blob body);
  void on_closed(const std::string& what);
  void beat();

  const StoreClientOptions options;
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::steady_timer heartbeat_timer{io};
  std::chrono::milliseconds heartbeat{};
  std::shared_ptr<FrameStream> stream;
  std::string local_address;
  std::thread thread;
  int exceptions_at_birth = 0;

  struct Pending {
    bool done = false;
    std::uint8_t code = 0;
    Blob body;
  };
  mutable std::mutex mutex;  // what follows
  std::condition_variable changed;
  std::map<std::uint64_t, Pending> pending;
  std::uint64_t calls_made = 0;
  std::optional<Failure> failure;
  std::vector<std::function<void(const Failure&)>> callbacks;
  bool leaving = false;
  bool closed = false;
};

}  // namespace weft::comm
