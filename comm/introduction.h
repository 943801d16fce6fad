// What a rank tells the others about itself when they meet: JSON in the store.
#pragma once

#include <span>
#include <string>

#include "comm/impl.h"
#include "comm/locality.h"
#include "comm/transport/tcp/form.h"
#include "comm/tuning_source.h"

namespace weft::comm {

struct Introduction {
  Member member;
  tcp::Endpoint endpoint;
  int lanes = 1;
  int connections = 1;
  int transport = 0;  // TransportKind
  Locality locality;
  TuningText tuning;  // of the job's rank 0
};

Blob encode(const Introduction& mine);
// Corrupt if that is none, with the place and the reason.
Introduction decode_introduction(std::span<const std::uint8_t> bytes);

}  // namespace weft::comm
