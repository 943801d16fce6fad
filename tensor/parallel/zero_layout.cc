#include "tensor/parallel/zero_layout.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <unordered_map>
#include <utility>

#include "kernels/base/error.h"

namespace weft::parallel {
namespace {

using NamedModule = std::pair<std::string, nn::Module*>;

constexpr std::int64_t kLine = 64;  // bytes

Elems padded(Elems count, DType dtype) {
  const std::int64_t line = kLine / size_of(dtype).value;
  return Elems((count.value + line - 1) / line * line);
}

bool is_inside(const std::string& name, const std::string& outer) {
  return name.starts_with(outer + ".");
}

bool is_in_any(const std::string& name, const std::vector<NamedModule>& outers) {
  return std::any_of(outers.begin(), outers.end(),
                     [&](const NamedModule& outer) { return is_inside(name, outer.first); });
}

bool is_list_member(const std::string& name) {
  const auto last = name.substr(name.rfind('.') + 1);
  return !last.empty() && std::all_of(last.begin(), last.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

// Names come with outer modules before inner ones.
std::vector<NamedModule> default_units(const std::vector<NamedModule>& modules) {
  std::vector<NamedModule> members, parts;
  for (const auto& one : modules) {
    if (is_list_member(one.first) && !is_in_any(one.first, members)) members.push_back(one);
    if (!one.first.empty() && !is_in_any(one.first, parts)) parts.push_back(one);
  }
  return members.empty() ? parts : members;
}

std::vector<NamedModule> named_units(const std::vector<NamedModule>& modules,
                                     const std::vector<std::string>& names) {
  std::vector<NamedModule> units;
  for (const auto& name : names) {
    const auto found = std::find_if(modules.begin(), modules.end(),
                                    [&](const NamedModule& m) { return m.first == name; });
    if (found == modules.end() || name.empty()) {
      std::string known;
      for (const auto& one : modules) known += one.first.empty() ? "" : one.first + ' ';
      fail<InvalidArgument>("Zero: there is no module '{}' to be a unit. There are: {}", name,
                            known);
    }
    for (const auto& [other, module] : units) {
      if (other == name || is_inside(other, name) || is_inside(name, other)) {
        fail<InvalidArgument>("Zero: the units '{}' and '{}' lie inside of each other; name one.",
                              other, name);
      }
    }
    units.push_back(*found);
  }
  return units;
}

// By parameter: its unit, counted from 1; 0 where that is the module itself.
std::unordered_map<const void*, std::size_t> assign(nn::Module& module,
                                                    const std::vector<NamedModule>& units) {
  std::unordered_map<const void*, std::size_t> unit_of;
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (const auto& parameter : units[u].second->parameters()) {
      const auto [entry, fresh] = unit_of.try_emplace(parameter.impl(), u + 1);
      if (!fresh) entry->second = 0;
    }
  }
  for (const auto& [name, tensor] : module.named_aliases()) {
    const auto found = unit_of.find(tensor.impl());
    if (found == unit_of.end() || found->second == 0) continue;
    if (!is_inside(name, units[found->second - 1].first)) found->second = 0;
  }
  return unit_of;
}

void place(FlatRun& run, const std::string& unit, int ranks, std::set<std::int64_t>& taken) {
  if (run.empty()) return;
  const auto& first = run.parameters.front();
  run.dtype = first.tensor.dtype();
  Elems total;
  for (const auto& [name, tensor] : run.parameters) {
    if (tensor.dtype() != run.dtype) {
      fail<InvalidArgument>(
          "Zero: the parameters of a unit have one dtype, but in {} '{}' is {} and '{}' {}. "
          "Convert the module, or choose the units so that they are apart.",
          unit.empty() ? "the module" : "unit '" + unit + "'", first.name, weft::name_of(run.dtype),
          name, weft::name_of(tensor.dtype()));
    }
    run.begins.push_back(total);
    total += padded(Elems(tensor.numel()), run.dtype);
  }
  const std::int64_t line = kLine / size_of(run.dtype).value;
  run.share = padded(Elems((total.value + ranks - 1) / ranks), run.dtype);
  while (!taken.insert(run.share.value).second) run.share += Elems(line);
}

}  // namespace

std::vector<UnitLayout> lay_out_units(nn::Module& module, const std::vector<std::string>& names,
                                      int ranks, bool with_frozen) {
  const auto modules = module.named_modules();
  const auto chosen = names.empty() ? default_units(modules) : named_units(modules, names);
  const auto unit_of = assign(module, chosen);
  std::vector<UnitLayout> all(chosen.size() + 1);
  all[0].module = &module;
  for (std::size_t u = 0; u < chosen.size(); ++u) {
    all[u + 1].name = chosen[u].first;
    all[u + 1].module = chosen[u].second;
  }
  for (auto& entry : module.named_parameters()) {
    const bool trained = entry.tensor.requires_grad();
    if (!trained && !with_frozen) continue;
    const auto found = unit_of.find(entry.tensor.impl());
    auto& unit = all[found == unit_of.end() ? 0 : found->second];
    (trained ? unit.parameters : unit.frozen.parameters).push_back(std::move(entry));
  }
  std::erase_if(all, [&](const UnitLayout& unit) {
    return !unit.has_parameters() && unit.module != &module;
  });
  std::set<std::int64_t> taken;
  for (auto& unit : all) {
    place(unit, unit.name, ranks, taken);
    place(unit.frozen, unit.name, ranks, taken);
  }
  return all;
}

PartRange part_in_share(const FlatRun& run, std::size_t index, int rank) {
  const auto begin = run.begins[index].value;
  const auto end = begin + run.parameters[index].tensor.numel();
  const auto share_begin = run.share.value * rank, share_end = share_begin + run.share.value;
  const auto low = std::max(begin, share_begin), high = std::min(end, share_end);
  if (low >= high) return {};
  return {Elems(low - begin), Elems(high - low), Elems(low - share_begin)};
}

}  // namespace weft::parallel
