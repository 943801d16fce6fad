// How the one who supervises this node's ranks speaks with the job: the store's server itself on
// node 0, a connection to it elsewhere.
#pragma once

#include <functional>
#include <optional>

#include "comm/rendezvous/store.h"

namespace weft::launcher {

class JobControl {
 public:
  virtual ~JobControl() = default;
  virtual void report(const comm::Failure& failure) = 0;
  virtual std::optional<comm::Failure> failure() const = 0;
  // Called once, on another thread; at once if the verdict is there already.
  virtual void on_failure(std::function<void(const comm::Failure&)> callback) = 0;
};

class ServerControl : public JobControl {
 public:
  explicit ServerControl(comm::StoreServer& server) : server_(server) {}
  void report(const comm::Failure& failure) override { server_.report(failure); }
  std::optional<comm::Failure> failure() const override { return server_.failure(); }
  void on_failure(std::function<void(const comm::Failure&)> callback) override {
    server_.on_failure(std::move(callback));
  }

 private:
  comm::StoreServer& server_;
};

class ClientControl : public JobControl {
 public:
  explicit ClientControl(comm::StoreClient& client) : client_(client) {}
  void report(const comm::Failure& failure) override { client_.report(failure); }
  std::optional<comm::Failure> failure() const override { return client_.failure(); }
  void on_failure(std::function<void(const comm::Failure&)> callback) override {
    client_.on_failure(std::move(callback));
  }

 private:
  comm::StoreClient& client_;
};

}  // namespace weft::launcher
