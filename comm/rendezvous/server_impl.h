// The inside of the store's server. All but the parts marked shared lives on its one thread.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "comm/rendezvous/frame_stream.h"
#include "comm/rendezvous/jury.h"
#include "comm/rendezvous/key_table.h"
#include "comm/rendezvous/knock.h"
#include "comm/rendezvous/store.h"

namespace weft::comm {

// A peer that has this many calls under way at once is not one of ours.
inline constexpr int kCallsMax = 4096;

void call_safely(const std::function<void(const Failure&)>& callback, const Failure& failure);

struct StoreServer::Impl {
  using Clock = std::chrono::steady_clock;

  explicit Impl(const StoreServerOptions& options);
  void run();
  void stop();  // says the last words, closes in an orderly way, ends run()
  void hear(Failure failure);

  // A connection, from accept() on.
  struct Session {
    std::uint64_t id = 0;
    std::shared_ptr<Knock> knock;         // until it is authenticated
    std::shared_ptr<FrameStream> stream;  // from then on
    PeerIdentity peer;
    std::string address;
    bool joined = false;
    bool goodbye = false;
    bool lost = false;
    int calls = 0;
  };
  // A rank or agent that has ever joined.
  struct Member {
    std::string host;
    std::int64_t pid = 0;
    std::string address;
    std::uint64_t session = 0;  // 0: not connected now
    bool goodbye = false;
    bool lost = false;
  };

  void listen_again(std::size_t index);
  void accept_waiting(std::size_t index);
  void admit(asio::ip::tcp::socket socket);
  void drop_oldest_pending();
  void on_peer(std::uint64_t id, asio::ip::tcp::socket socket, PeerIdentity peer);
  void on_frame(std::uint64_t id, const FrameHeader& header, const Blob& body);
  void on_join(Session& session, const Blob& body);
  void on_call(Session& session, const FrameHeader& header, const Blob& body);
  void on_goodbye(Session& session);
  void on_closed(std::uint64_t id, const std::string& what);
  void end(std::uint64_t id);
  void lose(Session& session, const std::string& what);
  void reply(const KeyTable::Caller& caller, std::uint8_t code, SharedBlob body);
  std::string excuse(std::span<const std::int32_t> missing) const;

  void tick();
  void watch(Clock::time_point now);
  void arm_deadline();
  void fill_in(Failure& failure) const;
  void announce();

  const StoreServerOptions options;
  asio::io_context io{1};
  std::vector<asio::ip::tcp::acceptor> acceptors;
  std::vector<asio::steady_timer> pauses;  // of acceptors, where descriptors have run out
  std::uint16_t port = 0;
  asio::steady_timer tick_timer{io};
  asio::steady_timer deadline_timer{io};
  asio::steady_timer verdict_timer{io};
  Clock::duration tick_period;
  Clock::time_point next_tick;
  bool stopping = false;

  std::map<std::uint64_t, Session> sessions;
  std::map<std::uint64_t, Clock::time_point> pending;  // not joined yet; id order is age order
  std::uint64_t sessions_made = 0;
  KeyTable table;
  FailureJury jury;
  std::vector<std::function<void(const Failure&)>> callbacks;
  std::thread thread;

  // Shared: written on the server's thread under the mutex, read there without.
  mutable std::mutex mutex;
  std::condition_variable left;
  std::optional<Failure> failure;
  std::map<std::int32_t, Member> members;
};

}  // namespace weft::comm
