#include "comm/transport/transport.h"

namespace weft::comm {

FrameMismatch::FrameMismatch(int from, const FrameTag& expected_tag, Bytes expected_length,
                             const FrameTag& found_tag, Bytes found_length)
    : Mismatch(fmt::format("frame of operation #{} ({} bytes) came from rank {} where operation "
                           "#{} ({} bytes) was expected",
                           found_tag.sequence, found_length.value, from, expected_tag.sequence,
                           expected_length.value)),
      peer(from),
      expected(expected_tag),
      found(found_tag),
      expected_bytes(expected_length),
      found_bytes(found_length) {}

}  // namespace weft::comm
