// The other process of the tests in ipc_test.cc: reads handles as hex on stdin, one a line, and
// says on stdout what it found.
//
//   memory HANDLE BYTES: adds 1 to each byte of the memory; prints the first and the last as found
//   event MEMORY EVENT: waits on a stream for the event, then copies the memory's first int; prints
//   it close: lets go of what is open
#include <array>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "tests/gpu/ipc_text.h"

namespace {

namespace cuda = weft::kernels::cuda;
using weft::Bytes;

void use_memory(const std::string& handle, std::int64_t bytes, void*& open) {
  open = cuda::import_memory(cuda::handle_of(handle));
  std::vector<unsigned char> found(static_cast<std::size_t>(bytes));
  cuda::copy_to_host(found.data(), open, Bytes(bytes));
  std::cout << "found " << static_cast<int>(found.front()) << ' ' << static_cast<int>(found.back())
            << std::endl;
  for (auto& byte : found) ++byte;
  cuda::copy_to_device(open, found.data(), Bytes(bytes));
  std::cout << "written" << std::endl;
}

void use_event(const std::string& memory, const std::string& handle) {
  void* const data = cuda::import_memory(cuda::handle_of(memory));
  void* const event = cuda::import_event(cuda::handle_of(handle));
  {
    const cuda::OwnedStream stream;
    const cuda::PinnedMemory seen(Bytes(4));
    std::memset(seen.data(), 0, 4);
    cuda::stream_wait_event(stream.get(), event);
    cuda::copy_async(seen.data(), data, Bytes(4), stream.get());
    std::cout << "waits" << std::endl;
    stream.synchronize();
    int value = 0;
    std::memcpy(&value, seen.data(), sizeof value);
    std::cout << "saw " << value << std::endl;
  }
  cuda::destroy_event(event);
  cuda::close_imported(data);
}

}  // namespace

int main() {
  void* open = nullptr;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string what, first, second;
    words >> what >> first >> second;
    try {
      if (what == "memory") {
        use_memory(first, std::stoll(second), open);
      } else if (what == "event") {
        use_event(first, second);
      } else if (what == "close") {
        cuda::close_imported(open);
        std::cout << "closed" << std::endl;
      }
    } catch (const weft::Error& error) {
      std::cout << "error " << error.what() << std::endl;
    }
  }
  return 0;
}
