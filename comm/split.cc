#include <algorithm>
#include <tuple>

#include "comm/impl.h"

namespace weft::comm {

std::optional<Communicator> Communicator::split(int color, int key) {
  Impl& impl = *impl_;
  struct Wish {
    std::int32_t color;
    std::int32_t key;
  };
  const Wish mine{color, key};
  std::vector<Wish> wishes(static_cast<std::size_t>(impl.size));
  const Elems each(sizeof(Wish));
  all_gather({&mine, each, DType::u8}, {wishes.data(), each * impl.size, DType::u8});
  const std::uint32_t number = impl.splits++;

  std::vector<int> members;
  for (int r = 0; r < impl.size; ++r) {
    if (wishes[static_cast<std::size_t>(r)].color == color) members.push_back(r);
  }
  std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
    return wishes[static_cast<std::size_t>(a)].key < wishes[static_cast<std::size_t>(b)].key;
  });
  if (color < 0) return std::nullopt;
  const auto self = std::find(members.begin(), members.end(), impl.rank);
  const std::string name = fmt::format("{}/{}.{}", impl.name, number, color);
  auto child = impl.home->make_child(impl, name, members, static_cast<int>(self - members.begin()));
  child->name = name;
  return Communicator(std::move(child));
}

}  // namespace weft::comm
