#include "comm/rendezvous/bytes.h"

namespace weft::comm {

void ByteWriter::bytes(std::span<const std::uint8_t> data) {
  out_.insert(out_.end(), data.begin(), data.end());
}

}  // namespace weft::comm
