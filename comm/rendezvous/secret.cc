#include <openssl/rand.h>

#include <string_view>

#include "comm/rendezvous/handshake.h"
#include "kernels/base/error.h"

namespace weft::comm {
namespace {

int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

}  // namespace

Secret make_secret() {
  Secret secret;
  if (RAND_bytes(secret.data(), static_cast<int>(secret.size())) != 1) {
    fail<IoError>(
        "the system's random source gave nothing, so that no secret can be made: check that "
        "/dev/urandom or getrandom() works for this process");
  }
  return secret;
}

// Says where a secret is wrong, never what it is.
Secret parse_secret(std::string_view hex) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = hex.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) {
    fail<InvalidArgument>("the job's secret is empty: 64 hexadecimal digits are needed");
  }
  hex = hex.substr(begin, hex.find_last_not_of(kSpace) - begin + 1);
  Secret secret;
  if (hex.size() != 2 * secret.size()) {
    fail<InvalidArgument>("the job's secret has {} characters, where 64 hexadecimal digits belong",
                          hex.size());
  }
  for (std::size_t i = 0; i < secret.size(); ++i) {
    const int high = hex_value(hex[2 * i]);
    const int low = hex_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) {
      fail<InvalidArgument>("character {} of the job's secret is not a hexadecimal digit",
                            2 * i + (high < 0 ? 1 : 2));
    }
    secret[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return secret;
}

std::string format_secret(const Secret& secret) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * secret.size());
  for (const std::uint8_t byte : secret) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

}  // namespace weft::comm
