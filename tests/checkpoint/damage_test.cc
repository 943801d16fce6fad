// Damage of every kind is refused on all ranks, with file, tensor, expected and found, before
// anything is changed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tensor/checkpoint/safetensors.h"
#include "tensor/parallel/async_checkpoint.h"
#include "tests/parallel/expect_on_all.h"
#include "tests/parallel/in_process_world.h"
#include "tests/parallel/shards.h"
#include "tests/support/scratch.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using checkpoint::Manifest;
using checkpoint::Source;
using parallel::load_sharded;
using parallel::save_sharded;
using parallel::tests::example_state;
using parallel::tests::Layout;
using testing::HasSubstr;
using weft::tests::expect_on_all;
using weft::tests::run_world;
using weft::tests::run_world_catching;

constexpr int kRanks = 2;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class DamagedCheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    run_world(kRanks, [&](Communicator& comm) {
      save_sharded(step(), example_state(comm, Layout::flat), comm);
      save_sharded(dir_ / "step-2", example_state(comm, Layout::flat, DType::f32, 1), comm);
    });
  }

  fs::path step() const { return dir_ / "step-1"; }
  fs::path file(int rank, const char* part = "model") const {
    return step() / checkpoint::shard_file_name(part, rank, kRanks);
  }

  // Loading throws E on every rank, all the same, and has changed no value.
  template <class E>
  void expect_refused(const std::vector<std::string>& parts) const {
    const auto errors = run_world_catching(kRanks, [&](Communicator& comm) {
      auto state = example_state(comm, Layout::replicated);
      for (auto& part : state.parts) parallel::tests::clear(part.shards);
      const auto untouched = state;
      try {
        load_sharded(parallel::open_verified(step(), comm), state.parts, comm);
      } catch (const std::exception&) {
        for (std::size_t p = 0; p < state.parts.size(); ++p) {
          for (const auto& shard : state.parts[p].shards) {
            for (const auto v : shard.data.to_vector<double>()) ASSERT_EQ(v, 99) << shard.name;
          }
        }
        throw;
      }
    });
    expect_on_all<E>(errors, parts);
  }

  void edit_manifest(const std::function<void(nlohmann::json&)>& edit, bool sum_again) {
    const auto path = step() / checkpoint::kManifestFile;
    auto value = nlohmann::json::parse(read_file(path));
    edit(value);
    if (sum_again) value = nlohmann::json::parse(with_checksum(value));
    write_file(path, value.dump());
  }

  // As whoever forges a manifest would.
  static std::string with_checksum(nlohmann::json value) {
    value.erase("checksum");
    try {
      checkpoint::parse_manifest(value.dump(), "");
    } catch (const Corrupt& error) {
      const std::string text = error.what();
      value["checksum"] = text.substr(text.size() - 16);  // "..., found SUM"
    }
    return value.dump();
  }

  const weft::tests::ScratchDirectory dir_;
};

TEST_F(DamagedCheckpointTest, MissingShard) {
  const auto size = fs::file_size(file(1));
  fs::remove(file(1));
  expect_refused<Corrupt>({"model-00001-of-00002.safetensors: missing", std::to_string(size),
                           "tensor 'h.0.bias'", "found no file"});
}

TEST_F(DamagedCheckpointTest, APipeInsteadOfAShard) {
  fs::remove(file(1));
  ASSERT_EQ(::mkfifo(file(1).c_str(), 0600), 0);  // nobody writes to it
  expect_refused<IoError>({"model-00001-of-00002.safetensors", "regular file"});
}

TEST_F(DamagedCheckpointTest, TruncatedShard) {
  const auto size = fs::file_size(file(0));
  fs::resize_file(file(0), size - 8);
  expect_refused<Corrupt>({"model-00000-of-00002.safetensors: truncated",
                           fmt::format("expected {} bytes, found {}", size, size - 8),
                           "tensor 'wte.weight'", "is cut"});
  fs::resize_file(file(0), 0);
  expect_refused<Corrupt>({"model-00000-of-00002.safetensors: truncated", "found 0"});
  fs::resize_file(file(0), size + 1);
  expect_refused<Corrupt>({"model-00000-of-00002.safetensors", "appended"});
}

TEST_F(DamagedCheckpointTest, FlippedBitsAnywhere) {
  const auto good = read_file(file(1, "optimizer"));
  const auto flip = [&](std::size_t at) {
    auto bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    write_file(file(1, "optimizer"), bad);
  };
  flip(good.size() - 1);
  expect_refused<Corrupt>({"optimizer-00001-of-00002.safetensors: damaged", "tensor 'wte.weight",
                           "expected XXH3", "found"});
  flip(20);
  expect_refused<Corrupt>({"optimizer-00001-of-00002.safetensors: damaged", "its header"});
  flip(0);
  expect_refused<Corrupt>({"optimizer-00001-of-00002.safetensors: damaged", "its header"});
}

TEST_F(DamagedCheckpointTest, SwappedShards) {
  run_world(kRanks, [&](Communicator& comm) {  // two files of one size
    const auto mine = Tensor::full({50}, comm.rank());
    const std::string name = comm.rank() == 0 ? "a" : "b";
    save_sharded(step(), {.parts = {{"model", {{name, {50}, Elems(0), mine}}}}}, comm);
  });
  ASSERT_EQ(fs::file_size(file(0)), fs::file_size(file(1)));
  const auto first = read_file(file(0));
  write_file(file(0), read_file(file(1)));
  write_file(file(1), first);
  expect_refused<Corrupt>({"model-00000-of-00002.safetensors: swapped", "tensor 'a'",
                           "belongs into model-00001-of-00002.safetensors", "expected XXH3"});
}

TEST_F(DamagedCheckpointTest, ShardOfAnotherStep) {
  fs::copy_file(dir_ / "step-2" / file(0).filename(), file(0),
                fs::copy_options::overwrite_existing);
  expect_refused<Corrupt>({"model-00000-of-00002.safetensors: damaged", "tensor '"});
}

TEST_F(DamagedCheckpointTest, ManifestOfAnother) {
  fs::copy_file(dir_ / "step-2" / checkpoint::kManifestFile, step() / checkpoint::kManifestFile,
                fs::copy_options::overwrite_existing);
  expect_refused<Corrupt>({"model-00000-of-00002.safetensors: damaged", "expected XXH3"});
  run_world(kRanks, [&](Communicator& comm) {  // of another model, with its files
    save_sharded(
        step(),
        {.parts = {{"model", {{"v", {3}, Elems(0), Tensor::zeros({3})}}}, {"optimizer", {}}}},
        comm);
  });
  expect_refused<Mismatch>({"step-1", "Missing: h.0.weight", "Unexpected: v"});
}

TEST_F(DamagedCheckpointTest, DamagedManifest) {
  const auto path = step() / checkpoint::kManifestFile;
  const auto good = read_file(path);
  write_file(path, good.substr(0, good.size() / 2));
  expect_refused<Corrupt>({"manifest.json", "damaged"});
  auto flipped = good;
  const auto digit = good.find("\"count\": ") + 10;
  flipped[digit] = static_cast<char>(flipped[digit] ^ 1);
  write_file(path, flipped);
  expect_refused<Corrupt>({"manifest.json", "damaged since it was saved", "expected checksum"});
  fs::remove(path);
  expect_refused<IoError>({"step-1", "no checkpoint", "manifest.json"});
}

// With a checksum that is right: it must still make sense.
TEST_F(DamagedCheckpointTest, ManifestsThatMakeNoSense) {
  const auto path = step() / checkpoint::kManifestFile;
  const auto good = read_file(path);
  const auto refuse = [&](const std::function<void(nlohmann::json&)>& edit,
                          const std::vector<std::string>& parts) {
    write_file(path, good);
    edit_manifest(edit, true);
    expect_refused<Corrupt>(parts);
  };
  const auto pieces = [](nlohmann::json& m) -> nlohmann::json& {
    return m["parts"]["model"]["wte.weight"]["pieces"];
  };
  refuse([&](auto& m) { pieces(m)[1]["begin"] = 1; }, {"'wte.weight'", "it overlaps another"});
  refuse([&](auto& m) { pieces(m)[1]["begin"] = 39'999; }, {"'wte.weight'", "a hole before it"});
  refuse([&](auto& m) { pieces(m).erase(1); }, {"'wte.weight'", "a hole"});
  refuse([&](auto& m) { pieces(m)[0]["count"] = 50'000; }, {"'wte.weight'", "elements, expected"});
  refuse([&](auto& m) { pieces(m)[0]["offset"] = 1 << 30; }, {"'wte.weight'", "which has"});
  refuse([&](auto& m) { pieces(m)[0]["file"] = "nowhere"; }, {"'wte.weight'", "'nowhere'"});
  refuse(
      [&](auto& m) {
        m["parts"]["model"]["wte.weight"]["shape"] = {401, 101};
      },
      {"'wte.weight'", "a hole"});
  refuse([&](auto& m) { m["parts"]["model"]["wte.weight"]["dtype"] = "F99"; },
         {"'wte.weight'", "F99"});
  refuse([&](auto& m) { m["files"]["../x"] = *m["files"].begin(); }, {"'../x'"});
  refuse([&](auto& m) { m["world_size"] = -1; }, {"found -1"});
  refuse(  // the file itself says otherwise
      [&](auto& m) {
        m["parts"]["model"]["wte"] = m["parts"]["model"]["wte.weight"];
        m["parts"]["model"].erase("wte.weight");
      },
      {"model-00000-of-00002.safetensors", "wte"});
}

// --- saves that cannot be: what was there stays, every rank is told, and so says the next save.

void expect_step_one_stands(const fs::path& out) {
  EXPECT_EQ(checkpoint::training_steps(out), std::vector<fs::path>{out / "step-1"});
  EXPECT_EQ(std::distance(fs::directory_iterator(out), {}), 1) << "nothing is left behind";
  Source::open(out / "step-1").verify_all();
}

TEST(FailedSaveTest, NoMoreRoomInAFile) {
  const weft::tests::ScratchDirectory dir;
  run_world(kRanks, [&](Communicator& comm) {
    save_sharded(dir / "step-1", example_state(comm, Layout::flat), comm);
  });
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100'000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto errors = run_world_catching(kRanks, [&](Communicator& comm) {
    save_sharded(dir / "step-2", example_state(comm, Layout::flat), comm, {.keep_last = 1});
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  expect_on_all<IoError>(errors,
                         {"rank 0: ", "model-00000-of-00002.safetensors", "File too large"});
  expect_step_one_stands(dir.path());
}

// A file system of the test's own in `directory`, where root may mount one.
class SmallDisk {
 public:
  explicit SmallDisk(fs::path directory) : directory_(std::move(directory)) {
    fs::create_directories(directory_);
    mounted_ = ::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=1400k") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool is_mounted() const { return mounted_; }
  bool make_read_only() const {
    return ::mount(nullptr, directory_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, "") == 0;
  }

 private:
  fs::path directory_;
  bool mounted_ = false;
};

TEST(FailedSaveTest, DiskFullAndReadOnly) {
  const weft::tests::ScratchDirectory dir;
  const SmallDisk disk(dir / "disk");
  if (!disk.is_mounted()) GTEST_SKIP() << "mounting a small tmpfs needs root";
  const auto out = dir / "disk";
  const auto save = [&](Communicator& comm) {
    save_sharded(out / "step-2", example_state(comm, Layout::flat), comm, {.keep_last = 1});
  };
  run_world(kRanks, [&](Communicator& comm) {
    save_sharded(out / "step-1", example_state(comm, Layout::flat), comm);
  });
  expect_on_all<IoError>(run_world_catching(kRanks, save),
                         {"-of-00002.safetensors", "No space left on device"});
  expect_step_one_stands(out);
  ASSERT_TRUE(disk.make_read_only());
  expect_on_all<IoError>(run_world_catching(kRanks, save),
                         {"rank 0: ", "step-2", "Read-only file system"});
  expect_step_one_stands(out);
}

TEST(FailedSaveTest, DirectoryWithoutPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere: DiskFullAndReadOnly covers it";
  const weft::tests::ScratchDirectory dir;
  fs::permissions(dir.path(), fs::perms::owner_read | fs::perms::owner_exec);
  const auto errors = run_world_catching(kRanks, [&](Communicator& comm) {
    save_sharded(dir / "step-2", example_state(comm, Layout::flat), comm);
  });
  fs::permissions(dir.path(), fs::perms::owner_all);
  expect_on_all<IoError>(errors, {"step-2", "Permission denied"});
}

TEST(AsyncSaveTest, SavesWhatWasThenWhileItChanges) {
  const weft::tests::ScratchDirectory dir;
  run_world(3, [&](Communicator& comm) {
    parallel::AsyncCheckpoint saver(comm);
    for (int i = 1; i <= 4; ++i) {
      auto state = example_state(comm, Layout::flat, DType::f32, i);
      saver.save(dir / fmt::format("step-{}", i), state, comm, {.keep_last = 3});
      for (auto& part : state.parts) {
        for (auto& shard : part.shards) {
          if (shard.data.defined()) shard.data.fill_(0);
        }
      }
      std::vector<float> values{1};
      comm.all_reduce(std::span(values));  // the caller's own collectives go on meanwhile
      EXPECT_EQ(values[0], 3);
    }
    saver.wait();
    for (int i = 2; i <= 4; ++i) {
      auto state = example_state(comm, Layout::replicated, DType::f32, i);
      const auto expected = example_state(comm, Layout::replicated, DType::f32, i);
      for (auto& part : state.parts) parallel::tests::clear(part.shards);
      load_sharded(parallel::open_verified(dir / fmt::format("step-{}", i), comm), state.parts,
                   comm);
      for (std::size_t p = 0; p < state.parts.size(); ++p) {
        parallel::tests::expect_equal(state.parts[p].shards, expected.parts[p].shards);
      }
    }
  });
  EXPECT_EQ(checkpoint::training_steps(dir.path()).size(), 3u);
}

TEST(AsyncSaveTest, FailuresAreToldOnceByTheNextCall) {
  const weft::tests::ScratchDirectory dir;
  write_file(dir / "file", "in the way");
  const auto bad = dir.path() / "file" / "step-1";
  const auto errors = run_world_catching(kRanks, [&](Communicator& comm) {
    parallel::AsyncCheckpoint saver(comm);
    const auto state = example_state(comm, Layout::flat);
    saver.save(bad, state, comm);
    std::string told;
    try {
      saver.save(dir / "step-2", state, comm);
    } catch (const IoError& error) {
      told = error.what();
    }
    EXPECT_THAT(told, HasSubstr("rank 0: "));
    EXPECT_THAT(told, HasSubstr("file"));
    EXPECT_FALSE(fs::exists(dir / "step-2"));
    saver.save(dir / "step-2", state, comm);
    saver.wait();
    saver.save(bad, state, comm);
    saver.wait();
  });
  expect_on_all<IoError>(errors, {"rank 0: ", "file"});
  Source::open(dir / "step-2").verify_all();
}

}  // namespace
}  // namespace weft
