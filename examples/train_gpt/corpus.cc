#include "examples/train_gpt/corpus.h"

#include <fmt/format.h>

#include "kernels/base/error.h"
#include "tensor/data/text_files.h"

namespace train_gpt {
namespace {

using namespace weft;  // NOLINT: an example reads better so

constexpr std::int64_t kGpt2Vocabulary = 50257;

// Token files do not say how large their vocabulary is.
std::int64_t vocabulary_of(const data::Split& parts) {
  const auto used = std::max(parts.train.used_vocabulary(), parts.validation.used_vocabulary());
  // GPT-2's tokens, most likely: its own size, so that its checkpoints fit.
  return used > kGpt2Vocabulary / 2 ? std::max(used, kGpt2Vocabulary) : used;
}

}  // namespace

Corpus load_corpus(const Options& options, std::unique_ptr<data::Tokenizer> tokenizer,
                   std::optional<std::int64_t> vocab_size) {
  Corpus corpus;
  data::Split parts;
  if (options.tokenizer == "bin") {
    const auto tokens = data::open_token_files(options.data);
    if (options.val_data.empty()) {
      parts = data::split(tokens);
    } else {
      parts = {tokens, data::open_token_files(options.val_data)};
    }
    corpus.vocab_size = vocab_size ? *vocab_size : vocabulary_of(parts);
    parts.train.require_vocabulary(corpus.vocab_size);
    parts.validation.require_vocabulary(corpus.vocab_size);
    corpus.description = fmt::format("{} tokens of {}", tokens.size(), options.data);
  } else {
    const auto text = data::read_text(options.data);
    corpus.tokenizer =
        tokenizer ? std::move(tokenizer) : data::make_tokenizer(options.tokenizer, text);
    corpus.vocab_size = corpus.tokenizer->vocab_size();
    const data::Tokens tokens(corpus.tokenizer->encode(text), corpus.vocab_size);
    parts = data::split(tokens);
    corpus.description = fmt::format("{} tokens, {} different, of {}", tokens.size(),
                                     corpus.vocab_size, options.data);
  }
  const auto block = options.model.block_size;
  corpus.train =
      std::make_unique<data::TokenDataset>(parts.train, block, options.seed, options.data);
  corpus.validation = std::make_unique<data::TokenDataset>(
      parts.validation, block, options.seed + 1, options.data + " (the tenth kept for validation)");
  return corpus;
}

}  // namespace train_gpt
