#include "comm/rendezvous/server_impl.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "comm/rendezvous/listen.h"
#include "comm/rendezvous/rank_names.h"
#include "kernels/base/error.h"

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
constexpr int kAcceptsInARow = 64;
constexpr milliseconds kPauseWithoutDescriptors{50};
constexpr milliseconds kTickMax{250};

Blob bytes_of(std::string_view text) { return Blob(text.begin(), text.end()); }

}  // namespace

StoreServer::Impl::Impl(const StoreServerOptions& given)
    : options(given),
      acceptors(listen_on(io, given.listen_addresses, given.port)),
      port(acceptors.front().local_endpoint().port()),
      tick_period(given.heartbeat_timeout.count() > 0
                      ? std::clamp(given.heartbeat_timeout / 8, milliseconds(5), kTickMax)
                      : kTickMax),
      table([this](const auto& caller, std::uint8_t code,
                   SharedBlob body) { reply(caller, code, std::move(body)); },
            [this](auto missing) { return excuse(missing); }) {
  Knock(asio::ip::tcp::socket(io), given.job, given.world_size);  // checks the job's id
  for (std::size_t i = 0; i < acceptors.size(); ++i) pauses.emplace_back(io);
  for (std::size_t i = 0; i < acceptors.size(); ++i) listen_again(i);
  next_tick = Clock::now() + tick_period;
  tick_timer.expires_at(next_tick);
  tick_timer.async_wait([this](const asio::error_code& error) {
    if (!error) tick();
  });
}

void StoreServer::Impl::run() { io.run(); }

void StoreServer::Impl::listen_again(std::size_t index) {
  acceptors[index].async_wait(asio::ip::tcp::acceptor::wait_read,
                              [this, index](const asio::error_code& error) {
                                if (!error && !stopping) accept_waiting(index);
                              });
}

void StoreServer::Impl::accept_waiting(std::size_t index) {
  for (int i = 0; i < kAcceptsInARow; ++i) {
    asio::error_code error;
    auto socket = accept_from(acceptors[index], error);
    if (!error) {
      admit(std::move(socket));
      continue;
    }
    if (error == asio::error::would_block) break;
    const int code = error.value();
    if (code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM) {
      // Listening on would spin: the connection stays in the queue. Make room, come back.
      drop_oldest_pending();
      asio::steady_timer& pause = pauses[index];
      pause.expires_after(kPauseWithoutDescriptors);
      pause.async_wait([this, index](const asio::error_code& ended) {
        if (!ended && !stopping) listen_again(index);
      });
      return;
    }  // else that one connection is gone already
  }
  listen_again(index);
}

void StoreServer::Impl::drop_oldest_pending() {
  if (pending.empty()) return;
  const std::uint64_t oldest = pending.begin()->first;
  spdlog::debug("store: dropped a connection that had not joined, for newer ones");
  end(oldest);
}

void StoreServer::Impl::admit(asio::ip::tcp::socket socket) {
  if (pending.size() >= static_cast<std::size_t>(options.max_pending_handshakes)) {
    drop_oldest_pending();
  }
  const std::uint64_t id = ++sessions_made;
  Session& session = sessions[id];
  session.id = id;
  asio::error_code error;
  session.address = socket.remote_endpoint(error).address().to_string();
  session.knock = std::make_shared<Knock>(std::move(socket), options.job, options.world_size);
  pending[id] = Clock::now() + options.handshake_timeout;
  session.knock->start([this, id](asio::ip::tcp::socket authentic,
                                  PeerIdentity peer) { on_peer(id, std::move(authentic), peer); },
                       [this, id](const std::string& why) {
                         spdlog::debug("store: a connection from {} came to nothing: {}",
                                       sessions[id].address, why);
                         end(id);
                       });
}

void StoreServer::Impl::on_peer(std::uint64_t id, asio::ip::tcp::socket socket, PeerIdentity peer) {
  Session& session = sessions.at(id);
  session.knock = nullptr;
  session.peer = peer;
  session.stream = std::make_shared<FrameStream>(std::move(socket), kJoinBytesMax);
  session.stream->start(
      [this, id](const FrameHeader& header, const Blob& body) { on_frame(id, header, body); },
      [this, id](const std::string& what) { on_closed(id, what); });
}

void StoreServer::Impl::on_frame(std::uint64_t id, const FrameHeader& header, const Blob& body) {
  Session& session = sessions.at(id);
  if (!session.joined) {
    if (header.type != FrameType::join) fail<Corrupt>("the first frame is no join");
    return on_join(session, body);
  }
  switch (header.type) {
    case FrameType::heartbeat:
      return;
    case FrameType::goodbye:
      return on_goodbye(session);
    case FrameType::report: {
      Failure failure_told = decode_failure(body);
      const std::int32_t by = session.peer.rank;
      using Source = Failure::Source;
      // Only an agent speaks as an agent, and only a rank itself about itself.
      if (by >= 0 && failure_told.source != Source::peer) {
        if (failure_told.rank != by) {
          failure_told.source = Source::peer;
        } else if (failure_told.source == Source::agent) {
          failure_told.source = Source::self;
        }
      }
      return hear(std::move(failure_told));
    }
    default:
      return on_call(session, header, body);
  }
}

void StoreServer::Impl::on_join(Session& session, const Blob& body) {
  const JoinBody join = decode_join(body);
  pending.erase(session.id);
  const std::int32_t rank = session.peer.rank;
  const auto known = members.find(rank);
  if (known != members.end() && known->second.session != 0) {
    const Member& other = known->second;
    const std::string text = fmt::format(
        "{} is connected already, from {} ({}, pid {}): two processes were given the same rank "
        "(this one: {}, pid {})",
        name_of_rank(rank), other.address, other.host, other.pid, join.host, join.pid);
    spdlog::warn("store: refused a connection: {}", text);
    session.stream->send(
        make_frame(FrameType::refused, bytes_of(text), 0, code_byte(ErrorCode::mismatch)));
    session.stream->finish_sending();
    pending[session.id] = Clock::now() + options.handshake_timeout;
    return;
  }
  session.joined = true;
  session.stream->allow_bodies(kBodyBytesMax);
  {
    const std::lock_guard lock(mutex);
    members[rank] = {join.host, join.pid, session.address, session.id, false, false};
  }
  session.stream->send(
      make_frame(FrameType::welcome, encode(WelcomeBody{options.heartbeat_timeout, failure})));
}

void StoreServer::Impl::on_call(Session& session, const FrameHeader& header, const Blob& body) {
  const KeyTable::Caller caller{session.id, header.id, session.peer.rank};
  ++session.calls;
  if (failure) {
    const auto text = std::make_shared<const Blob>(bytes_of(describe(*failure)));
    return reply(caller, code_byte(failure->code), text);
  }
  if (session.calls > kCallsMax) fail<Corrupt>("more than {} calls at once", kCallsMax);
  const auto now = Clock::now();
  switch (header.type) {
    case FrameType::set:
      table.set(caller, decode_call(body));
      break;
    case FrameType::get:
      table.get(caller, decode_call(body), now);
      break;
    case FrameType::add:
      table.add(caller, decode_call(body));
      break;
    case FrameType::erase:
      table.erase(caller, decode_call(body));
      break;
    case FrameType::exchange:
      table.exchange(caller, decode_exchange(body), now);
      break;
    default:
      fail<Corrupt>("a frame of type {}, which servers do not take", static_cast<int>(header.type));
  }
  arm_deadline();
}

void StoreServer::Impl::reply(const KeyTable::Caller& caller, std::uint8_t code, SharedBlob body) {
  const auto found = sessions.find(caller.connection);
  if (found == sessions.end() || !found->second.stream) return;
  --found->second.calls;
  Frame frame = make_frame(FrameType::reply, {}, caller.request, code);
  frame.header.body_bytes = body ? static_cast<std::uint32_t>(body->size()) : 0;
  frame.body = std::move(body);
  found->second.stream->send(std::move(frame));
}

std::string StoreServer::Impl::excuse(std::span<const std::int32_t> missing) const {
  std::vector<std::int32_t> never;
  std::vector<std::int32_t> gone;
  for (const std::int32_t rank : missing) {
    const auto member = members.find(rank);
    if (member == members.end()) {
      never.push_back(rank);
    } else if (member->second.session == 0) {
      gone.push_back(rank);
    }
  }
  std::string text;
  if (!never.empty()) text = "never connected: " + name_of_ranks(never);
  if (!gone.empty()) {
    text += fmt::format("{}left: {}", text.empty() ? "" : "; ", name_of_ranks(gone));
  }
  return text;
}

void StoreServer::Impl::on_goodbye(Session& session) {
  session.goodbye = true;
  {
    const std::lock_guard lock(mutex);
    Member& member = members[session.peer.rank];
    member.goodbye = true;
    member.session = 0;
  }
  left.notify_all();
  table.forget(session.id);
  session.stream->send(make_frame(FrameType::farewell));
  session.stream->finish_sending();
}

void StoreServer::Impl::on_closed(std::uint64_t id, const std::string& what) {
  Session& session = sessions.at(id);
  if (session.joined && !session.goodbye) {
    lose(session, fmt::format("lost connection ({})", what));
  }
  end(id);
}

void StoreServer::Impl::lose(Session& session, const std::string& what) {
  if (session.lost || stopping) return;
  session.lost = true;
  {
    const std::lock_guard lock(mutex);
    members[session.peer.rank].lost = true;
  }
  left.notify_all();
  Failure lost_rank;
  lost_rank.source = Failure::Source::connection;
  lost_rank.rank = session.peer.rank;
  lost_rank.what = what;
  hear(std::move(lost_rank));
}

void StoreServer::Impl::end(std::uint64_t id) {
  const auto found = sessions.find(id);
  if (found == sessions.end()) return;
  Session& session = found->second;
  if (session.knock) session.knock->close();
  if (session.stream) session.stream->close();
  table.forget(id);
  pending.erase(id);
  if (session.joined) {
    const std::lock_guard lock(mutex);
    Member& member = members[session.peer.rank];
    if (member.session == id) member.session = 0;
  }
  left.notify_all();
  sessions.erase(found);
  if (stopping && sessions.empty()) io.stop();
}

}  // namespace weft::comm
