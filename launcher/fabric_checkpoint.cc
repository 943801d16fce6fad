// Fabric::save and load: one safetensors file, "<name>.<entry>" for every entry of every part.
#include <array>
#include <string>

#include "launcher/fabric.h"
#include "tensor/checkpoint/safetensors.h"

namespace weft {
namespace {

void append(nn::StateDict& all, const std::string& name, const nn::StateDict& part) {
  for (const auto& [entry, tensor] : part) all.push_back({name + "." + entry, tensor});
}

// The entries of `part`, their names without it.
nn::StateDict extract(const nn::StateDict& all, const std::string& name) {
  nn::StateDict part;
  const auto prefix = name + ".";
  for (const auto& [entry, tensor] : all) {
    if (entry.starts_with(prefix)) part.push_back({entry.substr(prefix.size()), tensor});
  }
  return part;
}

constexpr const char* kGradScaler = "weft.grad_scaler";  // in the file's metadata

void write(const std::string& path, const Fabric::State& state, const amp::GradScaler* scaler) {
  nn::StateDict all;
  for (const auto& [name, module] : state.modules) append(all, name, module->state_dict());
  for (const auto& [name, optimizer] : state.optimizers) append(all, name, optimizer->state_dict());
  checkpoint::Metadata metadata;
  for (const auto& [name, text] : state.texts) metadata[name] = *text;
  if (scaler != nullptr) metadata[kGradScaler] = tensor::amp::to_string(scaler->state());
  checkpoint::save_safetensors(path, all, metadata);
}

}  // namespace

void Fabric::on_rank_zero(const std::function<void()>& action) {
  std::string message;
  auto code = static_cast<std::int64_t>(-1);
  if (is_global_zero()) {
    try {
      action();
    } catch (const Error& error) {
      code = static_cast<std::int64_t>(error.code());
      message = error.what();
    } catch (const std::exception& error) {
      code = static_cast<std::int64_t>(ErrorCode::aborted);
      message = error.what();
    }
  }
  std::array<std::int64_t, 2> verdict{code, static_cast<std::int64_t>(message.size())};
  communicator().broadcast(std::span(verdict), 0);
  if (verdict[0] < 0) return;
  message.resize(static_cast<std::size_t>(verdict[1]));
  communicator().broadcast(comm::View(message.data(), Elems(verdict[1]), DType::u8), 0);
  throw_error(static_cast<ErrorCode>(verdict[0]), message);
}

void Fabric::save(const std::string& path, const State& state) {
  on_rank_zero([&] { write(path, state, grad_scaler()); });
}

void Fabric::load(const std::string& path, const State& state, bool strict) {
  const checkpoint::SafeTensors file(path);
  const auto all = file.state_dict();
  std::vector<nn::StateMatch> matches;
  for (const auto& [name, module] : state.modules) {
    matches.push_back(module->match_state_dict(extract(all, name), {strict, path + ", " + name}));
  }
  for (const auto& [name, optimizer] : state.optimizers) {
    matches.push_back(
        optimizer->match_state_dict(extract(all, name), {strict, path + ", " + name}));
  }
  for (const auto& [name, text] : state.texts) {
    if (strict && !file.metadata().contains(name))
      fail<Mismatch>("{}: there is no '{}' in its metadata.", path, name);
  }
  // Absent from what another precision saved.
  if (const auto found = file.metadata().find(kGradScaler);
      grad_scaler() != nullptr && found != file.metadata().end()) {
    grad_scaler()->load_state(tensor::amp::parse_grad_scaler_state(found->second, path), path);
  }
  for (const auto& match : matches) match.apply();
  for (const auto& [name, text] : state.texts) {
    if (const auto found = file.metadata().find(name); found != file.metadata().end())
      *text = found->second;
  }
  barrier();
}

}  // namespace weft
