// The event loop behind Listener::form().
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>
#include <cstddef>
#include <exception>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "comm/transport/tcp/form.h"
#include "comm/transport/tcp/mesh.h"

namespace weft::comm::tcp {

// One connection whose greeting is under way, in either role. Kept alive by its handlers.
struct Visit {
  explicit Visit(asio::io_context& io) : socket(io), deadline(io) {}
  asio::ip::tcp::socket socket;
  asio::steady_timer deadline;
  std::unique_ptr<Greeting> greeting;
  std::vector<std::uint8_t> incoming;
  std::vector<std::uint8_t> outgoing;
  int peer = -1;  // of outgoing ones; who it is turns out later for the others
  int channel = 0;
  bool calls = false;
  bool over = false;
};

class Former {
 public:
  Former(asio::io_context& io, asio::ip::tcp::acceptor& acceptor, const FormOptions& options,
         Greeter& greeter);
  std::unique_ptr<Mesh> run();

 private:
  using VisitPtr = std::shared_ptr<Visit>;

  void accept();
  void dial(int peer, int channel);
  void redial(const VisitPtr& visit, const std::string& why);
  void greet(const VisitPtr& visit);
  void listen(const VisitPtr& visit);
  void on_bytes(const VisitPtr& visit);
  void answer(const VisitPtr& visit, bool then_close);
  void settle(const VisitPtr& visit);
  void drop(const VisitPtr& visit);
  void drop_oldest_stranger();
  void fail_with(std::exception_ptr error);
  void watch();
  std::size_t slot(int peer, int channel) const;
  bool is_wanted(int peer) const;
  std::string missing() const;
  template <class Body>
  void guarded(Body&& body);

  asio::io_context& io_;
  asio::ip::tcp::acceptor& acceptor_;
  const FormOptions& options_;
  Greeter& greeter_;
  asio::steady_timer deadline_;
  asio::steady_timer ticker_;
  asio::steady_timer pause_;  // after accept() failed, for want of descriptors say
  int channels_;              // of a pair of ranks, beside the point-to-point one
  std::vector<std::shared_ptr<asio::ip::tcp::socket>> links_;
  std::vector<std::string> troubles_;  // last one per peer
  std::list<VisitPtr> visitors_;       // accepted, greeting unfinished, oldest first
  std::size_t standing_ = 0;
  std::size_t wanted_ = 0;
  std::exception_ptr error_;
};

}  // namespace weft::comm::tcp
