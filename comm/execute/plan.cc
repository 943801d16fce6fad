#include "comm/execute/plan.h"

#include "comm/transport/transport.h"
#include "kernels/base/check.h"

namespace weft::comm {
namespace {

class PlanMaker {
 public:
  explicit PlanMaker(const Schedule& schedule) : schedule_(schedule) {}

  Plan make(RingCheck check) {
    const int rank = schedule_.problem.rank;
    const int size = schedule_.problem.world_size;
    if (check.send) add_message(NodeKind::send, (rank + 1) % size, 0, {});
    if (check.recv) add_message(NodeKind::recv, (rank + size - 1) % size, 0, {});
    for (const Step& step : schedule_.steps) add(step);
    finish();
    plan_.schedule = schedule_;
    plan_.schedule.steps.clear();
    return std::move(plan_);
  }

 private:
  std::int32_t slice(const Slice& slice) {
    if (slice.count == 0) return kNoSlice;
    plan_.slices.push_back(slice);
    return static_cast<std::int32_t>(plan_.slices.size()) - 1;
  }

  std::int32_t add_node(NodeKind kind, const std::vector<std::int32_t>& after) {
    Node node;
    node.kind = kind;
    plan_.nodes.push_back(node);
    after_.push_back(after);
    return static_cast<std::int32_t>(plan_.nodes.size()) - 1;
  }

  std::int32_t add_message(NodeKind kind, int peer, int lane,
                           const std::vector<std::int32_t>& after) {
    const std::int32_t id = add_node(kind, after);
    MessageList& list = messages(peer, lane, kind == NodeKind::send);
    node(id).message = static_cast<std::int32_t>(list.nodes.size());
    list.nodes.push_back(id);
    return id;
  }

  MessageList& messages(int peer, int lane, bool sends) {
    WEFT_ASSERT(peer >= 0 && peer < schedule_.problem.world_size &&
                    peer != schedule_.problem.rank && lane >= 0,
                "a message goes to another rank of the group");
    for (MessageList& list : plan_.messages) {
      if (list.peer == peer && list.lane == lane && list.sends == sends) return list;
    }
    plan_.messages.push_back({peer, lane, sends, {}});
    return plan_.messages.back();
  }

  Node& node(std::int32_t id) { return plan_.nodes[static_cast<std::size_t>(id)]; }

  void add(const Step& step) {
    std::vector<std::int32_t> after;
    for (const StepId earlier : step.after) {
      after.push_back(last_node_.at(static_cast<std::size_t>(earlier)));
    }
    last_node_.push_back(add_step(step, after));
  }

  std::int32_t add_step(const Step& step, const std::vector<std::int32_t>& after) {
    std::int32_t id = -1;
    switch (step.kind) {
      case StepKind::send:
        id = add_message(NodeKind::send, step.peer, step.lane, after);
        node(id).from = slice(step.from);
        return id;
      case StepKind::recv:
        id = add_message(NodeKind::recv, step.peer, step.lane, after);
        node(id).to = slice(step.to);
        return id;
      case StepKind::recv_reduce:
        id = add_message(NodeKind::recv_reduce, step.peer, step.lane, after);
        node(id).from = slice(step.from);
        node(id).to = slice(step.to);
        node(id).completes = step.completes;
        return id;
      case StepKind::copy:
        id = add_node(NodeKind::copy, after);
        node(id).from = slice(step.from);
        node(id).to = slice(step.to);
        return id;
      case StepKind::reduce:
        id = add_node(NodeKind::reduce, after);
        node(id).to = slice(step.to);
        node(id).completes = step.completes;
        node(id).first_operand = static_cast<std::int32_t>(plan_.slices.size());
        node(id).operands = static_cast<std::int32_t>(step.operands.size());
        plan_.slices.insert(plan_.slices.end(), step.operands.begin(), step.operands.end());
        return id;
      case StepKind::recv_send:
      case StepKind::recv_reduce_send:
        return add_fused(step, after);
    }
    return id;
  }

  // A fused step is a receive and a send that waits for it; what comes after waits for the send.
  std::int32_t add_fused(const Step& step, const std::vector<std::int32_t>& after) {
    const bool reduces = step.kind == StepKind::recv_reduce_send;
    const std::int32_t in =
        add_message(reduces ? NodeKind::recv_reduce : NodeKind::recv, step.peer, step.lane, after);
    if (reduces) node(in).from = slice(step.from);
    node(in).to = slice(step.to);
    node(in).completes = step.completes;
    const std::int32_t out = add_message(NodeKind::send, step.send_peer, step.send_lane, {in});
    if (node(in).to == kNoSlice) {
      node(in).temporary = node(out).temporary = plan_.temporaries++;
      node(out).from = node(in).from;  // its length; a fused receive without a store reduces
    } else {
      node(out).from = node(in).to;
    }
    return out;
  }

  void finish() {
    plan_.waits.resize(plan_.nodes.size());
    std::vector<std::vector<std::int32_t>> dependents(plan_.nodes.size());
    for (std::size_t id = 0; id < plan_.nodes.size(); ++id) {
      plan_.waits[id] = static_cast<std::int32_t>(after_[id].size());
      for (const std::int32_t earlier : after_[id]) {
        dependents[static_cast<std::size_t>(earlier)].push_back(static_cast<std::int32_t>(id));
      }
      const NodeKind kind = plan_.nodes[id].kind;
      const bool local = kind == NodeKind::copy || kind == NodeKind::reduce;
      if (local && after_[id].empty()) plan_.first_local.push_back(static_cast<std::int32_t>(id));
    }
    for (std::size_t id = 0; id < plan_.nodes.size(); ++id) {
      plan_.nodes[id].first_dependent = static_cast<std::int32_t>(plan_.dependents.size());
      plan_.nodes[id].dependents = static_cast<std::int32_t>(dependents[id].size());
      plan_.dependents.insert(plan_.dependents.end(), dependents[id].begin(), dependents[id].end());
    }
  }

  const Schedule& schedule_;
  Plan plan_;
  std::vector<std::vector<std::int32_t>> after_;
  std::vector<std::int32_t> last_node_;  // of each step
};

}  // namespace

bool greets_next_rank(const Schedule& schedule) {
  const int next = (schedule.problem.rank + 1) % schedule.problem.world_size;
  for (const Step& step : schedule.steps) {
    const bool plain = step.kind == StepKind::send && step.peer == next && step.lane == 0;
    const bool fused = step.send_peer == next && step.send_lane == 0;
    if (plain) return step.after.empty();
    if (fused) return false;
  }
  return false;
}

Plan make_plan(const Schedule& schedule, RingCheck check) {
  return PlanMaker(schedule).make(check);
}

Plan make_point_to_point_plan(bool sends, int peer, int segments) {
  Plan plan;
  plan.point_to_point = true;
  plan.messages.push_back({peer, kPointToPointLane, sends, {}});
  for (std::int32_t k = 0; k < segments; ++k) {
    Node node;
    node.kind = sends ? NodeKind::send : NodeKind::recv;
    node.message = k;
    plan.slices.push_back({sends ? Buffer::input : Buffer::output, k, 1});
    (sends ? node.from : node.to) = k;
    plan.nodes.push_back(node);
    plan.waits.push_back(0);
    plan.messages.front().nodes.push_back(k);
  }
  return plan;
}

}  // namespace weft::comm
