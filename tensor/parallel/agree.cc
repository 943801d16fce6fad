#include "tensor/parallel/agree.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <span>
#include <sstream>

namespace weft::parallel {
namespace {

std::int64_t size_of_text(const std::string& text) {
  return static_cast<std::int64_t>(text.size());
}

std::string joined(const std::vector<std::string>& texts) {
  return std::accumulate(texts.begin(), texts.end(), std::string());
}

std::vector<Elems> as_counts(const std::vector<std::int64_t>& sizes) {
  std::vector<Elems> counts;
  for (const auto size : sizes) counts.emplace_back(size);
  return counts;
}

std::int64_t sum(const std::vector<std::int64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
}

comm::View bytes(std::string& text) { return {text.data(), Elems(size_of_text(text)), DType::u8}; }

}  // namespace

std::string broadcast_text(Communicator& communicator, std::string text, int root) {
  std::array<std::int64_t, 1> size{size_of_text(text)};
  communicator.broadcast(std::span(size), root);
  text.resize(static_cast<std::size_t>(size[0]));
  communicator.broadcast(bytes(text), root);
  return text;
}

std::vector<std::string> gather_texts(Communicator& communicator, const std::string& text,
                                      int root) {
  const auto world = static_cast<std::size_t>(communicator.size());
  const std::array<std::int64_t, 1> size{size_of_text(text)};
  std::vector<std::int64_t> sizes(world);
  communicator.all_gather(std::span(size), std::span(sizes));
  std::string all(communicator.rank() == root ? static_cast<std::size_t>(sum(sizes)) : 0, '\0');
  communicator.gather_v({text.data(), Elems(size[0]), DType::u8}, bytes(all), as_counts(sizes),
                        root);
  std::vector<std::string> texts;
  if (communicator.rank() != root) return texts;
  std::size_t at = 0;
  for (const auto length : sizes) {
    texts.push_back(all.substr(at, static_cast<std::size_t>(length)));
    at += static_cast<std::size_t>(length);
  }
  return texts;
}

std::string scatter_texts(Communicator& communicator, const std::vector<std::string>& texts,
                          int root) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(communicator.size()));
  const bool is_root = communicator.rank() == root;
  for (std::size_t r = 0; is_root && r < sizes.size(); ++r) sizes[r] = size_of_text(texts.at(r));
  communicator.broadcast(std::span(sizes), root);
  auto all = is_root ? joined(texts) : std::string();
  std::string mine(static_cast<std::size_t>(sizes[static_cast<std::size_t>(communicator.rank())]),
                   '\0');
  communicator.scatter_v(bytes(all), bytes(mine), as_counts(sizes), root);
  return mine;
}

std::vector<std::string> unite_texts(Communicator& communicator,
                                     const std::vector<std::string>& texts) {
  std::string lines;
  for (const auto& text : texts) lines += text + '\n';
  std::istringstream all(broadcast_text(communicator, joined(gather_texts(communicator, lines))));
  std::vector<std::string> united;
  for (std::string line; std::getline(all, line);) {
    if (std::find(united.begin(), united.end(), line) == united.end()) united.push_back(line);
  }
  return united;
}

void together(Communicator& communicator, const std::function<void()>& action) {
  const auto rank = communicator.rank();
  std::string message;
  auto code = ErrorCode::aborted;
  std::array<std::int64_t, 1> failed{communicator.size()};  // the lowest rank that did
  try {
    action();
  } catch (const Error& error) {
    failed[0] = rank;
    code = error.code();
    message = error.what();
  } catch (const std::exception& error) {
    failed[0] = rank;
    message = error.what();
  }
  communicator.all_reduce(std::span(failed), ReduceOp::min);
  const auto root = static_cast<int>(failed[0]);
  if (root == communicator.size()) return;
  if (communicator.size() > 1) message = fmt::format("rank {}: {}", root, message);
  std::array<std::int64_t, 1> number{static_cast<std::int64_t>(code)};
  communicator.broadcast(std::span(number), root);
  message = broadcast_text(communicator, std::move(message), root);
  throw_error(static_cast<ErrorCode>(number[0]), message);
}

}  // namespace weft::parallel
