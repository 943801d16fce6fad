#include "comm/transport/tcp/former.h"

#include <algorithm>
#include <asio/buffer.hpp>
#include <asio/connect.hpp>
#include <asio/read.hpp>
#include <asio/system_error.hpp>
#include <asio/write.hpp>
#include <utility>

#include "comm/transport/tcp/tune.h"
#include "kernels/base/system_error.h"

namespace weft::comm::tcp {

namespace {
using asio::ip::tcp;
constexpr std::chrono::milliseconds kRetry{20};
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kAcceptPause{50};
}  // namespace

Former::Former(asio::io_context& io, tcp::acceptor& acceptor, const FormOptions& options,
               Greeter& greeter)
    : io_(io),
      acceptor_(acceptor),
      options_(options),
      greeter_(greeter),
      deadline_(io),
      ticker_(io),
      pause_(io),
      channels_(channels_of(options.lanes, options.connections)),
      links_(static_cast<std::size_t>(options.size) * static_cast<std::size_t>(channels_ + 1)),
      troubles_(static_cast<std::size_t>(options.size)),
      wanted_(0) {
  for (int peer = 0; peer < options.size; ++peer) {
    if (is_wanted(peer)) wanted_ += static_cast<std::size_t>(channels_ + 1);
  }
}

bool Former::is_wanted(int peer) const {
  return peer != options_.rank &&
         (options_.apart.empty() || !options_.apart[static_cast<std::size_t>(peer)]);
}

std::size_t Former::slot(int peer, int channel) const {
  return static_cast<std::size_t>(peer * (channels_ + 1) + channel + 1);
}

// Handlers run inside io_.run(): what they throw ends the forming.
template <class Body>
void Former::guarded(Body&& body) {
  if (error_) return;
  try {
    body();
  } catch (...) {
    fail_with(std::current_exception());
  }
}

void Former::fail_with(std::exception_ptr error) {
  if (!error_) error_ = std::move(error);
  io_.stop();
}

std::unique_ptr<Mesh> Former::run() {
  if (wanted_ > 0) {
    deadline_.expires_after(options_.timeout);
    deadline_.async_wait([this](const asio::error_code& code) {
      if (code) return;
      guarded([&] {
        fail<Timeout>("rank {}: no connection to {} within {} ms",
                      options_.names[static_cast<std::size_t>(options_.rank)], missing(),
                      options_.timeout.count());
      });
    });
    watch();
    if (options_.rank + 1 < options_.size) accept();
    for (int peer = 0; peer < options_.rank; ++peer) {
      if (!is_wanted(peer)) continue;
      for (int channel = kPointToPointLane; channel < channels_; ++channel) dial(peer, channel);
    }
    io_.run();
  }
  if (error_) std::rethrow_exception(error_);
  Connections made{options_.rank, options_.size, options_.lanes, options_.connections, {}, {}};
  for (std::size_t r = 0; r < options_.endpoints.size(); ++r) {
    const Endpoint& endpoint = options_.endpoints[r];
    const bool v6 = endpoint.address.find(':') != std::string::npos;
    made.names.push_back(fmt::format("rank {} (tcp {}{}{}:{})", options_.names[r], v6 ? "[" : "",
                                     endpoint.address, v6 ? "]" : "", endpoint.port));
  }
  for (auto& link : links_) made.sockets.push_back(link ? link->release() : -1);
  return make_mesh(made);
}

void Former::watch() {
  ticker_.expires_after(kTick);
  ticker_.async_wait([this](const asio::error_code& code) {
    if (code) return;
    guarded([&] {
      options_.check();
      watch();
    });
  });
}

std::string Former::missing() const {
  std::string text;
  for (int peer = 0; peer < options_.size; ++peer) {
    if (!is_wanted(peer)) continue;
    bool whole = true;
    for (int channel = kPointToPointLane; channel < channels_; ++channel) {
      whole &= links_[slot(peer, channel)] != nullptr;
    }
    if (whole) continue;
    const auto index = static_cast<std::size_t>(peer);
    text += fmt::format("{}rank {} at {}", text.empty() ? "" : ", ", options_.names[index],
                        options_.endpoints[index].address);
    if (!troubles_[index].empty()) text += fmt::format(" ({})", troubles_[index]);
  }
  return text;
}

void Former::accept() {
  auto visit = std::make_shared<Visit>(io_);
  acceptor_.async_accept(visit->socket, [this, visit](const asio::error_code& code) {
    guarded([&] {
      if (code == asio::error::operation_aborted) return;
      // While greetings are under way, descriptors may come free again; else nothing changes.
      if (is_out_of_descriptors(code.value()) && visitors_.empty())
        throw asio::system_error(code, "accept");
      if (code) {  // the visitor has gone already, or we are out of descriptors: go on later
        pause_.expires_after(kAcceptPause);
        pause_.async_wait([this](const asio::error_code& again) {
          if (!again) guarded([&] { accept(); });
        });
        return;
      }
      visitors_.push_back(visit);
      drop_oldest_stranger();
      visit->greeting = greeter_.answer();
      greet(visit);
      accept();
    });
  });
}

void Former::drop_oldest_stranger() {
  const std::size_t expected = wanted_ - std::min(wanted_, standing_);
  const std::size_t limit = expected + static_cast<std::size_t>(options_.max_strangers);
  while (visitors_.size() > limit) drop(visitors_.front());
}

void Former::dial(int peer, int channel) {
  auto visit = std::make_shared<Visit>(io_);
  visit->calls = true;
  visit->peer = peer;
  visit->channel = channel;
  const Endpoint& endpoint = options_.endpoints[static_cast<std::size_t>(peer)];
  const tcp::endpoint target(asio::ip::make_address(endpoint.address), endpoint.port);
  visit->socket.open(target.protocol());
  tune(visit->socket.native_handle(), target.address());
  visit->socket.async_connect(target, [this, visit](const asio::error_code& code) {
    guarded([&] {
      if (code) return redial(visit, code.message());
      visit->greeting = greeter_.call(visit->peer, visit->channel);
      greet(visit);
    });
  });
}

void Former::redial(const VisitPtr& visit, const std::string& why) {
  if (visit->over) return;
  troubles_[static_cast<std::size_t>(visit->peer)] = why;
  drop(visit);
  visit->deadline.expires_after(kRetry);
  visit->deadline.async_wait([this, visit](const asio::error_code& code) {
    if (!code) guarded([&] { dial(visit->peer, visit->channel); });
  });
}

void Former::greet(const VisitPtr& visit) {
  visit->socket.set_option(tcp::no_delay(true));
  visit->deadline.expires_after(options_.greeting_timeout);
  visit->deadline.async_wait([this, visit](const asio::error_code& code) {
    if (code || visit->over) return;
    guarded([&] {
      if (visit->calls) {
        redial(visit, "connected, but did not greet in time");
      } else {
        drop(visit);
      }
    });
  });
  visit->outgoing = visit->greeting->start();
  answer(visit, false);
}

// Sends what is due, then reads on.
void Former::answer(const VisitPtr& visit, bool then_close) {
  const auto next = [this, visit, then_close](const asio::error_code& code) {
    if (visit->over) return;
    if (code && visit->calls) return redial(visit, code.message());
    if (code || then_close) return drop(visit);
    if (visit->greeting->bytes_wanted() == 0) return settle(visit);
    listen(visit);
  };
  if (visit->outgoing.empty()) return next({});
  asio::async_write(
      visit->socket, asio::buffer(visit->outgoing),
      [this, next](const asio::error_code& code, std::size_t) { guarded([&] { next(code); }); });
}

void Former::listen(const VisitPtr& visit) {
  visit->incoming.resize(visit->greeting->bytes_wanted());
  asio::async_read(visit->socket, asio::buffer(visit->incoming),
                   [this, visit](const asio::error_code& code, std::size_t) {
                     guarded([&] {
                       if (visit->over) return;
                       if (!code) return on_bytes(visit);
                       if (!visit->calls) return drop(visit);
                       redial(visit, code.message());
                     });
                   });
}

void Former::on_bytes(const VisitPtr& visit) {
  try {
    visit->outgoing = visit->greeting->feed(visit->incoming);
  } catch (const Error&) {
    if (visit->calls) throw;  // who answers where a rank of ours should is not to be worked with
    visit->outgoing = visit->greeting->refusal();
    return answer(visit, true);
  }
  answer(visit, false);
}

void Former::settle(const VisitPtr& visit) {
  const int peer = visit->calls ? visit->peer : visit->greeting->peer();
  const int channel = visit->calls ? visit->channel : visit->greeting->lane();
  const bool ours = peer >= 0 && peer < options_.size && is_wanted(peer) &&
                    channel >= kPointToPointLane && channel < channels_ &&
                    (visit->calls || peer > options_.rank);
  if (!ours) return drop(visit);
  auto& link = links_[slot(peer, channel)];
  if (!link) ++standing_;
  // A second connection replaces the first: its caller has given that one up.
  visit->socket.non_blocking(true);
  link = std::make_shared<tcp::socket>(std::move(visit->socket));
  drop(visit);
  if (standing_ == wanted_) io_.stop();
}

void Former::drop(const VisitPtr& visit) {
  const VisitPtr kept = visit;  // the list may hold the reference we were given
  kept->over = true;
  kept->deadline.cancel();
  asio::error_code ignored;
  kept->socket.close(ignored);
  std::erase(visitors_, kept);
}

}  // namespace weft::comm::tcp
