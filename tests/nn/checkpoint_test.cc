#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tensor/checkpoint/atomic_file.h"
#include "tensor/checkpoint/training.h"
#include "tensor/data/tokens.h"
#include "tensor/nn/gpt.h"
#include "tensor/optim/adam.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

using checkpoint::AtomicFile;

// Files of this process cannot grow beyond `bytes`: what a full disk looks like to write().
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = SIG_DFL;
};

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(AtomicFile, TheOldFileStandsUntilTheNewOneIsWhole) {
  const TempDir dir;
  const auto path = dir / "file";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write(bytes("new "));
    file.write(bytes("text"));
    EXPECT_EQ(read_file(path), "old");
    file.commit();
    expect_error<IoError>([&] { file.write(bytes("x")); }, {"already"});
  }
  EXPECT_EQ(read_file(path), "new text");
  { AtomicFile(path).write(bytes("given up")); }
  EXPECT_EQ(read_file(path), "new text");
  EXPECT_EQ(entries_in(dir.path()), 1u);
  struct stat status {};
  ::stat(path.c_str(), &status);
  const auto mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(status.st_mode & 0777, 0666 & ~mask);  // what any program would have made
}

TEST(AtomicFile, AFullDiskLeavesTheOldFileWhole) {
  const TempDir dir;
  const auto path = dir / "model.safetensors";
  const nn::StateDict small{{"w", Tensor::full({4}, 1.0)}}, large{{"w", Tensor::full({9000}, 2.0)}};
  checkpoint::save_safetensors(path, small);
  const auto before = read_file(path);
  {
    const FileSizeLimit limit(16384);
    expect_error<IoError>([&] { checkpoint::save_safetensors(path, large); },
                          {"model.safetensors", "as it was before"});
  }
  EXPECT_EQ(read_file(path), before);
  EXPECT_EQ(entries_in(dir.path()), 1u);
  checkpoint::save_safetensors(path, large);
  EXPECT_EQ(checkpoint::SafeTensors(path).tensor("w").numel(), 9000);
}

TEST(AtomicFile, ErrorsNameThePlace) {
  const TempDir dir;
  expect_error<IoError>([&] { AtomicFile(dir / "none/file"); }, {"none/file", "No such file"});
  expect_error<IoError>([] { AtomicFile(fs::path("/")); }, {"no file"});
  fs::create_directory(dir / "taken");
  AtomicFile file(dir / "taken");
  expect_error<IoError>([&] { file.commit(); }, {"taken", "directory"});
  EXPECT_EQ(entries_in(dir.path()), 1u);
}

const nn::GPTConfig kTiny{
    .block_size = 8, .vocab_size = 16, .n_layer = 1, .n_head = 2, .n_embd = 8, .dropout = 0.1};

// A model in training, a few steps at a time.
struct Training {
  nn::GPT model;
  optim::AdamW optimizer;
  data::TokenDataset dataset;

  explicit Training(std::uint64_t seed, const nn::GPTConfig& config = kTiny)
      : model(config, seeded(seed)),
        optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1)),
        dataset(tokens(), 8, 5) {}
  static tensor::Generator* seeded(std::uint64_t seed) {
    tensor::default_generator() = tensor::Generator(seed);
    return &tensor::default_generator();
  }
  static data::Tokens tokens() {
    std::vector<std::int32_t> values(200);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<std::int32_t>(i * i % 16);
    return data::Tokens(values, 16);
  }
  void run(std::int64_t from, std::int64_t to) {
    for (auto i = from; i < to; ++i) {
      const auto batch = dataset.batch(4, i);
      model.forward(batch.inputs, batch.targets).loss.backward();
      optimizer.step();
      optimizer.zero_grad();
    }
  }
  fs::path save(const fs::path& out, std::int64_t iteration, int keep = 2) {
    checkpoint::TrainingState state;
    state.iteration = iteration;
    state.best_loss = 1.25;
    state.generator = tensor::default_generator();
    state.data_seed = 5;
    state.settings = {{"n_head", "2"}, {"tokenizer", "char:a\u00e9"}};
    return checkpoint::save_training(out, model, &optimizer, state, {.keep = keep});
  }
};

bool same(const nn::Module& a, const nn::Module& b) {
  const auto x = a.state_dict(), y = b.state_dict();
  return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const auto& p, const auto& q) {
    return p.name == q.name && nn::equal_values(p.tensor, q.tensor);
  });
}

TEST(TrainingCheckpoint, ResumedItGoesOnAsIfNothingHadHappened) {
  const TempDir dir;
  Training whole(1);
  whole.run(0, 3);
  whole.save(dir.path(), 3);
  whole.run(3, 7);
  Training resumed(2);
  EXPECT_FALSE(same(whole.model, resumed.model));
  const auto step = checkpoint::latest_training(dir.path());
  const auto state = checkpoint::load_training(step, resumed.model, &resumed.optimizer);
  EXPECT_EQ(state.iteration, 3);
  EXPECT_EQ(state.best_loss, 1.25);
  EXPECT_EQ(state.data_seed, 5u);
  EXPECT_EQ(state.settings.at("tokenizer"), "char:a\u00e9");
  tensor::default_generator() = state.generator;
  resumed.run(3, 7);
  EXPECT_TRUE(same(whole.model, resumed.model)) << "dropout and moments included, bit for bit";
  nn::GPT alone(kTiny);
  checkpoint::load_model(step / "model.safetensors", alone);
}

TEST(TrainingCheckpoint, KeepsTheNewestAndReplacesOneOfTheSameName) {
  const TempDir dir;
  Training training(1);
  for (const std::int64_t iteration : {5, 10, 20, 100}) training.save(dir.path(), iteration);
  const auto names = [&] {
    std::vector<std::string> result;
    for (const auto& step : checkpoint::training_steps(dir.path())) {
      result.push_back(step.filename().string());
    }
    return result;
  };
  EXPECT_THAT(names(), testing::ElementsAre("step-20", "step-100"));
  training.run(0, 1);
  training.save(dir.path(), 100);  // again, after other steps
  EXPECT_THAT(names(), testing::ElementsAre("step-20", "step-100"));
  EXPECT_EQ(entries_in(dir.path()), 2u);
  Training other(3);
  checkpoint::load_training(dir / "step-100", other.model, &other.optimizer);
  EXPECT_TRUE(same(training.model, other.model));
  training.save(dir.path(), 50, 1);  // going back: what is newer is not ours to remove
  EXPECT_THAT(names(), testing::ElementsAre("step-50", "step-100"));
  expect_error<IoError>([&] { checkpoint::latest_training(dir / "none"); }, {"none", "resume"});
}

TEST(TrainingCheckpoint, AFullDiskLeavesTheOldStepsWhole) {
  const TempDir dir;
  Training training(1);
  training.save(dir.path(), 1, 1);
  const auto before = read_file(dir / "step-1/model.safetensors");
  for (const rlim_t limit : {100, 2000, 6000, 9000}) {  // in each of the files
    const FileSizeLimit full(limit);
    expect_error<IoError>([&] { training.save(dir.path(), 2, 1); }, {"safetensors"});
    EXPECT_EQ(entries_in(dir.path()), 1u) << "the half-written step is gone";
  }
  EXPECT_EQ(read_file(dir / "step-1/model.safetensors"), before);
  EXPECT_NO_THROW(checkpoint::load_training(dir / "step-1", training.model, &training.optimizer));
}

TEST(TrainingCheckpoint, AWriterThatDiesLeavesAPairThatLoads) {
  const TempDir dir;
  Training training(1);
  training.save(dir.path(), 1);
  const auto child = ::fork();
  if (child == 0) {  // dies with the model written and the optimizer not
    auto* directory = new checkpoint::AtomicDirectory(dir / "step-2");
    write_file(directory->temporary() / "model.safetensors", "half");
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(entries_in(dir.path()), 2u);
  EXPECT_EQ(checkpoint::latest_training(dir.path()), dir / "step-1");
  EXPECT_NO_THROW(checkpoint::load_training(dir / "step-1", training.model, &training.optimizer));
  training.save(dir.path(), 3);  // clears up after the dead
  EXPECT_EQ(entries_in(dir.path()), 2u);
}

TEST(TrainingCheckpoint, DamageIsNamedAndNothingIsLoaded) {
  const TempDir dir;
  Training training(1), other(2);
  const auto step = training.save(dir.path(), 4);
  const auto before = read_file(step / "optimizer.safetensors");
  Training unchanged(2);
  const auto load = [&] { checkpoint::load_training(step, other.model, &other.optimizer); };
  const auto damage = [&](const char* name, std::string content) {
    const auto kept = read_file(step / name);
    write_file(step / name, content);
    return kept;
  };
  write_file(step / "optimizer.safetensors", before.substr(0, before.size() - 3));
  expect_error<Corrupt>(load, {"optimizer.safetensors", "expected"});
  auto flipped = before;
  flipped[9] = static_cast<char>(flipped[9] ^ 0x20);
  write_file(step / "optimizer.safetensors", flipped);
  expect_error<Corrupt>(load, {"optimizer.safetensors"});
  auto rotten = before;
  rotten[before.size() - 40] = static_cast<char>(rotten[before.size() - 40] ^ 1);
  write_file(step / "optimizer.safetensors", rotten);
  expect_error<Corrupt>(load, {"optimizer.safetensors", "damaged", "xxh3"});
  fs::remove(step / "optimizer.safetensors");
  expect_error<IoError>(load, {"optimizer.safetensors", "No such file"});
  write_file(step / "optimizer.safetensors", before);
  const auto good = damage("state.json", "{");
  expect_error<Corrupt>(load, {"state.json"});
  damage("state.json", R"({"format": "weft training state", "version": 9})");
  expect_error<Unsupported>(load, {"state.json", "version 1", "found 9"});
  damage("state.json", R"({"format": "weft training state", "version": 1, "files": {}})");
  expect_error<Corrupt>(load, {"state.json", "random"});
  damage("state.json", good);
  auto wider = kTiny;
  wider.n_embd = 16;
  Training wide(2, wider);
  expect_error<Mismatch>([&] { checkpoint::load_training(step, wide.model, &wide.optimizer); },
                         {"step-4/model.safetensors",
                          "transformer.wte.weight: expected shape (16, 16), found (16, 8)"});
  EXPECT_TRUE(same(other.model, unchanged.model));
  EXPECT_NO_THROW(load());
}

// Whatever is done to state.json, the answer is a state or an error of ours that names it.
TEST(TrainingCheckpoint, MutatedStatesNeverCrash) {
  const TempDir dir;
  Training training(1);
  const auto step = training.save(dir.path(), 4);
  const auto good = read_file(step / "state.json");
  tensor::Generator generator(7);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    auto text = good;
    const auto at = generator.next_below(text.size());
    switch (generator.next_below(4)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << generator.next_below(8)));
        break;
      case 1:
        text[at] = "{}[]\",:-0123456789e."[generator.next_below(20)];
        break;
      case 2:
        text.erase(at, 1 + generator.next_below(20));
        break;
      default:
        text.resize(at);
    }
    write_file(step / "state.json", text);
    try {
      checkpoint::load_training(step, training.model, &training.optimizer);
    } catch (const Error& error) {
      ASSERT_THAT(error.what(), testing::HasSubstr(step.string())) << text;
      ++refused;
    }
  }
  EXPECT_GT(refused, 750);
}

}  // namespace
}  // namespace weft::nn_test
