// A store on loopback and clients of it, for tests.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/store.h"

namespace weft::comm {

inline Blob blob(std::string_view text) { return Blob(text.begin(), text.end()); }
inline std::string text(const Blob& blob) { return std::string(blob.begin(), blob.end()); }

struct World {
  explicit World(std::int32_t size) : World(size, [](StoreServerOptions&) {}) {}
  template <class Adjust>
  World(std::int32_t size, Adjust adjust) {
    job.job_id = "job under test";
    job.epoch = 3;
    job.secret = make_secret();
    StoreServerOptions options;
    options.job = job;
    options.world_size = size;
    adjust(options);
    server = std::make_unique<StoreServer>(options);
    world_size = size;
  }

  StoreClientOptions options(std::int32_t rank) const {
    StoreClientOptions options;
    options.job = job;
    options.self = {rank, world_size};
    options.port = server->port();
    options.connect_timeout = std::chrono::seconds(20);
    return options;
  }
  std::unique_ptr<StoreClient> client(std::int32_t rank) const {
    return std::make_unique<StoreClient>(options(rank));
  }

  JobIdentity job;
  std::int32_t world_size = 1;
  std::unique_ptr<StoreServer> server;
};

}  // namespace weft::comm
