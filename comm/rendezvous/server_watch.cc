// The server's watch over its peers: time-outs, heartbeats, and the verdict on a failure.
#include <spdlog/spdlog.h>

#include "comm/rendezvous/rank_names.h"
#include "comm/rendezvous/server_impl.h"

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
// How long the last words may take to reach everybody.
constexpr milliseconds kPartingTime{500};

}  // namespace

void StoreServer::Impl::tick() {
  const auto now = Clock::now();
  const auto late = now - next_tick;
  if (late > std::max<Clock::duration>(options.heartbeat_timeout / 4, 4 * tick_period)) {
    // We were stopped or starved ourselves: what was sent meanwhile waits in the sockets.
    for (auto& [id, session] : sessions) {
      if (session.stream) session.stream->mark_heard();
    }
  }
  watch(now);
  next_tick = now + tick_period;
  tick_timer.expires_at(next_tick);
  tick_timer.async_wait([this](const asio::error_code& error) {
    if (!error) tick();
  });
}

void StoreServer::Impl::watch(Clock::time_point now) {
  while (!pending.empty()) {  // deadlines ascend with ids, but for refused ones, soon gone
    const auto [id, deadline] = *pending.begin();
    if (deadline > now) break;
    spdlog::debug("store: dropped a connection that did not join in time");
    end(id);
  }
  if (options.heartbeat_timeout.count() <= 0) return;
  for (auto& [id, session] : sessions) {
    if (!session.joined || session.goodbye || session.lost) continue;
    const auto silent =
        std::chrono::duration_cast<milliseconds>(now - session.stream->last_heard());
    if (silent <= options.heartbeat_timeout) continue;
    lose(session,
         fmt::format("silent for {} ms (stopped, or its machine is unreachable)", silent.count()));
  }
}

void StoreServer::Impl::arm_deadline() {
  const auto next = table.next_deadline();
  if (!next || stopping) return;
  if (deadline_timer.expiry() == *next) return;
  deadline_timer.expires_at(*next);
  deadline_timer.async_wait([this](const asio::error_code& error) {
    if (error) return;
    table.expire(Clock::now());
    arm_deadline();
  });
}

void StoreServer::Impl::fill_in(Failure& told) const {
  // -1 is nobody in particular, and the agent of node 0: that is meant where it is gone or speaks.
  const bool by_rank = told.source == Failure::Source::peer || told.source == Failure::Source::self;
  if (told.rank == -1 && by_rank) return;
  const auto member = members.find(told.rank);
  if (member == members.end()) return;
  if (told.host.empty()) told.host = member->second.host;
  if (told.pid == 0) told.pid = member->second.pid;
}

void StoreServer::Impl::hear(Failure told) {
  if (failure) return;
  fill_in(told);
  const bool first = !jury.has_heard();
  if (jury.hear(told)) return announce();
  if (!first) return;
  verdict_timer.expires_after(options.verdict_window);
  verdict_timer.async_wait([this](const asio::error_code& error) {
    if (!error && !failure) announce();
  });
}

void StoreServer::Impl::announce() {
  verdict_timer.cancel();
  {
    const std::lock_guard lock(mutex);
    failure = jury.best();
  }
  spdlog::debug("store: the job has failed: {}", describe(*failure));
  const Frame news = make_frame(FrameType::news, encode(*failure));
  for (auto& [id, session] : sessions) {
    if (session.joined) session.stream->send(news);
  }
  table.drop_waiting();
  const auto told = std::move(callbacks);
  callbacks.clear();
  for (const auto& callback : told) call_safely(callback, *failure);
}

void StoreServer::Impl::stop() {
  if (jury.has_heard() && !failure) announce();
  stopping = true;
  for (auto& acceptor : acceptors) acceptor.close();
  for (auto& pause : pauses) pause.cancel();
  tick_timer.cancel();
  while (!pending.empty()) end(pending.begin()->first);
  if (sessions.empty()) return io.stop();
  for (auto& [id, session] : sessions) session.stream->finish_sending();
  deadline_timer.expires_after(kPartingTime);
  deadline_timer.async_wait([this](const asio::error_code& error) {
    if (!error) io.stop();
  });
}

}  // namespace weft::comm
