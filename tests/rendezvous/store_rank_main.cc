// A rank in a process of its own, for tests that kill, stop or abandon it.
// One line on stdin: port rank world_size secret heartbeat_ms mode. Then:
//   wait     "joined", then "told: <failure>" when the verdict comes; exits 0
//   exit     "joined", then ends at once when stdin ends, without a goodbye
//   leave    "joined", then a goodbye when stdin ends
#include <sys/syscall.h>
#include <unistd.h>

#include <iostream>
#include <string>

#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/store.h"

int main() {
  using namespace weft::comm;
  int port = 0;
  int heartbeat_ms = 0;
  std::string secret;
  std::string mode;
  StoreClientOptions options;
  std::cin >> port >> options.self.rank >> options.self.world_size >> secret >> heartbeat_ms >>
      mode;
  options.job.job_id = "job under test";
  options.job.epoch = 3;
  options.port = static_cast<std::uint16_t>(port);
  options.heartbeat = std::chrono::milliseconds(heartbeat_ms);
  try {
    options.job.secret = parse_secret(secret);
    StoreClient client(options);
    std::cout << "joined" << std::endl;
    if (mode == "wait") {
      const auto failure = client.wait_failure(std::chrono::seconds(60));
      std::cout << "told: " << (failure ? describe(*failure) : "nothing") << std::endl;
      return 0;
    }
    std::string rest;
    while (std::getline(std::cin, rest)) {
    }
    if (mode == "exit") ::syscall(SYS_exit_group, 0);
  } catch (const std::exception& error) {
    std::cout << "error: " << error.what() << std::endl;
    return 1;
  }
  return 0;
}
