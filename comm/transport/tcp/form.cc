#include "comm/transport/tcp/form.h"

#include <utility>

#include "comm/transport/tcp/former.h"
#include "comm/transport/tcp/tune.h"
#include "kernels/base/system_error.h"

namespace weft::comm::tcp {

struct Listener::Impl {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor{io};
};

Listener::Listener(const std::string& address) {
  try {
    impl_ = std::make_unique<Impl>();
    const asio::ip::tcp::endpoint wished(asio::ip::make_address(address), 0);
    impl_->acceptor.open(wished.protocol());
    tune(impl_->acceptor.native_handle(), wished.address());
    impl_->acceptor.bind(wished);
    impl_->acceptor.listen(asio::socket_base::max_listen_connections);
    endpoint_ = {address, impl_->acceptor.local_endpoint().port()};
  } catch (const std::system_error& error) {
    const bool crowded = is_out_of_descriptors(error.code().value());
    fail<IoError>("cannot listen on {}: {}{}", address, text_of_system_error(error.code()),
                  crowded ? "" : "; is it an address of this host?");
  }
}

Listener::~Listener() = default;
Listener::Listener(Listener&&) noexcept = default;

std::unique_ptr<Mesh> Listener::form(const FormOptions& options, Greeter& greeter) && {
  const std::unique_ptr<Impl> impl = std::move(impl_);
  const int name = options.names[static_cast<std::size_t>(options.rank)];
  return with_typed_errors(fmt::format("rank {}: cannot connect to the other ranks", name), [&] {
    Former former(impl->io, impl->acceptor, options, greeter);
    return former.run();
  });
}

}  // namespace weft::comm::tcp
