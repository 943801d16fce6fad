// Which processes can share memory with which.
#pragma once

#include <string>

namespace weft::comm {

// Equal for two processes exactly if each can open what the other makes through /proc: the same
// running kernel (boot id), the same process ids (PID namespace) and the same user. The network
// namespace is in it, too: who is given a network of its own is to be treated as a host of its own.
std::string memory_space();

}  // namespace weft::comm
