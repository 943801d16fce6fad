#include "tensor/parallel/agreement.h"

#include <array>
#include <cstring>
#include <string>
#include <vector>

namespace weft::parallel {
namespace {

// One line a tensor: readable in the error, and comparable.
std::vector<std::string> describe_all(std::span<const NamedTensor> tensors) {
  std::vector<std::string> lines;
  lines.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    lines.push_back(fmt::format("{} {} {}{}", name, tensor::to_string(tensor.shape()),
                                weft::name_of(tensor.dtype()),
                                tensor.requires_grad() ? ", trained" : ", frozen"));
  }
  return lines;
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + '\n';
  return text;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

// Every rank's text, on every rank.
std::vector<std::string> gather_texts(const std::string& mine, Communicator& communicator) {
  const auto world = static_cast<std::size_t>(communicator.size());
  std::vector<std::int64_t> lengths(world);
  const std::array<std::int64_t, 1> length{static_cast<std::int64_t>(mine.size())};
  communicator.all_gather(std::span<const std::int64_t>(length), std::span(lengths));
  std::vector<Elems> counts;
  std::int64_t total = 0;
  for (const auto l : lengths) {
    counts.emplace_back(l);
    total += l;
  }
  std::vector<std::uint8_t> all(static_cast<std::size_t>(total));
  communicator.all_gather_v({mine.data(), Elems(length[0]), DType::u8}, std::span(all), counts);
  std::vector<std::string> texts;
  std::size_t at = 0;
  for (const auto l : lengths) {
    texts.emplace_back(reinterpret_cast<const char*>(all.data()) + at, static_cast<std::size_t>(l));
    at += static_cast<std::size_t>(l);
  }
  return texts;
}

}  // namespace

void verify_same_tensors(std::span<const NamedTensor> tensors, Communicator& communicator) {
  if (communicator.size() == 1) return;
  const auto texts = gather_texts(join(describe_all(tensors)), communicator);
  const auto reference = split_lines(texts[0]);
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    const auto theirs = split_lines(texts[rank]);
    std::size_t i = 0;
    while (i < reference.size() && i < theirs.size() && reference[i] == theirs[i]) ++i;
    const auto line = [i](const std::vector<std::string>& lines) {
      return i < lines.size() ? lines[i] : fmt::format("no more than {} parameters", lines.size());
    };
    fail<Mismatch>(
        "rank {} of {}: the ranks do not train the same model. Parameter {}: rank 0 has '{}', rank "
        "{} has '{}'. Build "
        "the model the same way on every rank (same options, same order).",
        communicator.rank(), communicator.size(), i, line(reference), rank, line(theirs));
  }
}

}  // namespace weft::parallel
