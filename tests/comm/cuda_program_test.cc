// Memory schedules as CUDA kernels read them: nothing is lost on the way, and parts cover blocks.
#include "comm/execute/cuda_program.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "comm/algorithms/algorithms.h"
#include "comm/passes/lower.h"

namespace weft::comm {
namespace {

namespace cuda = kernels::cuda;

std::vector<MemorySchedule> lowered(const Algorithm& algorithm, Collective collective, int size,
                                    Reach reach) {
  std::vector<Schedule> world;
  for (int rank = 0; rank < size; ++rank) {
    world.push_back(algorithm.emit({collective, rank, size, size - 1}));
  }
  return lower(world, reach);
}

// One line a chunk, an await's members in one line each.
std::vector<std::string> lines_of(const MemorySchedule& schedule) {
  std::vector<std::string> lines;
  for (const MemoryStep& step : schedule.steps) {
    switch (step.kind) {
      case MemoryStepKind::publish:
        lines.push_back(fmt::format("publish {}", step.stage));
        break;
      case MemoryStepKind::await:
        lines.push_back(fmt::format("await {} {}", step.peer, step.stage));
        break;
      case MemoryStepKind::move:
        for (int i = 0; i < step.sources.front().slice.count; ++i) {
          std::string line = step.completes ? "complete" : "move";
          for (const auto* side : {&step.sources, &step.targets}) {
            line += " ->";
            for (const Location& at : *side) {
              line += fmt::format(" {}:{}[{}]", at.rank, static_cast<int>(at.slice.buffer),
                                  at.slice.chunk + i);
            }
          }
          lines.push_back(line);
        }
        break;
    }
  }
  return lines;
}

std::vector<std::string> lines_of(const CudaProgram& program) {
  std::vector<std::string> lines;
  for (const cuda::Instruction& step : program.instructions) {
    const cuda::Operand* const operands = program.operands.data() + step.first;
    if (step.kind == cuda::Do::publish) {
      lines.push_back(fmt::format("publish {}", step.value));
    } else if (step.kind == cuda::Do::await) {
      for (int k = 0; k < step.value; ++k) {
        lines.push_back(fmt::format("await {} {}", operands[k].member, operands[k].chunk));
      }
    } else {
      std::string line = step.completes ? "complete" : "move";
      for (int k = 0; k < step.sources + step.targets; ++k) {
        if (k == 0 || k == step.sources) line += " ->";
        line += fmt::format(" {}:{}[{}]", operands[k].member, static_cast<int>(operands[k].at),
                            operands[k].chunk);
      }
      lines.push_back(line);
    }
  }
  return lines;
}

TEST(CudaProgramTest, SaysWhatTheScheduleSays) {
  for (const int size : {2, 3, 5, 8}) {
    for (const Algorithm& algorithm : algorithms()) {
      for (int c = 0; c < kScheduledCollectives; ++c) {
        const auto collective = static_cast<Collective>(c);
        if (!algorithm.supports({collective, 0, size, size - 1})) continue;
        for (const Reach reach : {Reach::scratch, Reach::everything}) {
          const auto world = lowered(algorithm, collective, size, reach);
          for (int rank = 0; rank < size; ++rank) {
            const CudaProgram program = encode_for_cuda(world, rank);
            const MemorySchedule& schedule = world[static_cast<std::size_t>(rank)];
            EXPECT_EQ(lines_of(program), lines_of(schedule)) << print(schedule);
            for (const MemoryStep& step : schedule.steps) EXPECT_LT(step.stage, program.stages);
            for (const cuda::Instruction& step : program.instructions) {
              if (step.kind != cuda::Do::move) continue;
              EXPECT_LT(step.value, program.chunks_per_block);
            }
          }
        }
      }
    }
  }
}

TEST(CudaProgramTest, AwaitsInARowAreOneInstruction) {
  const auto world = lowered(*find_algorithm("direct"), Collective::all_reduce, 8, Reach::scratch);
  const CudaProgram program = encode_for_cuda(world, 3);
  for (std::size_t i = 0; i + 1 < program.instructions.size(); ++i) {
    EXPECT_FALSE(program.instructions[i].kind == cuda::Do::await &&
                 program.instructions[i + 1].kind == cuda::Do::await);
  }
}

TEST(CudaProgramTest, PartsFillScratchOrAreALanesShare) {
  CudaProgram program;
  program.chunks_per_block = 4;
  constexpr Bytes kScratch(64 << 10);
  // Without scratch: a lane's share, in whole units of 4 chunks of 128 bytes.
  EXPECT_EQ(part_of_lane(program, Elems(1000), DType::f32, 1, kScratch), 1024);
  EXPECT_EQ(part_of_lane(program, Elems(1000), DType::f32, 4, kScratch), 256);
  EXPECT_EQ(part_of_lane(program, Elems(0), DType::f64, 4, kScratch), 64);
  // 8 chunks of scratch: each may have 8 KiB, so that a part of 4 chunks has 32 KiB.
  program.scratch_chunks = 8;
  EXPECT_EQ(part_of_lane(program, Elems(1 << 20), DType::f32, 1, kScratch) * 4, 32 << 10);
  EXPECT_EQ(part_of_lane(program, Elems(1000), DType::f32, 1, kScratch), 1024);
}

}  // namespace
}  // namespace weft::comm
