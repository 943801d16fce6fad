// What a rank tells the others about itself when they meet: JSON in the store.
#pragma once

#include <span>
#include <string>

#include "comm/impl.h"
#include "comm/locality.h"
#include "comm/transport/tcp/form.h"
#include "comm/tuning_source.h"
#include "kernels/base/error.h"

namespace weft::comm {

struct Introduction {
  Member member;
  tcp::Endpoint endpoint;
  int lanes = 1;
  int connections = 1;
  int transport = 0;  // TransportKind
  Locality locality;
  TuningText tuning;    // of the job's rank 0
  std::string trouble;  // why this rank cannot take part; "" if it can
};

Blob encode(const Introduction& mine);
// Corrupt if that is none, with the place and the reason.
Introduction decode_introduction(std::span<const std::uint8_t> bytes);

// What a rank tells the others when its links stand, or cannot.
struct Readiness {
  std::string clock;               // see clock_to_show()
  std::string trouble;             // "" if all is well
  ErrorCode code = ErrorCode::io;  // of the trouble
};

Blob encode(const Readiness& mine);
Readiness decode_readiness(std::span<const std::uint8_t> bytes);

}  // namespace weft::comm
