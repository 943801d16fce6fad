// The text as tokens, split in two.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "examples/train_gpt/options.h"
#include "tensor/data/tokenizer.h"
#include "tensor/data/tokens.h"

namespace train_gpt {

struct Corpus {
  std::unique_ptr<weft::data::Tokenizer> tokenizer;  // none for token files
  std::unique_ptr<weft::data::TokenDataset> train;
  std::unique_ptr<weft::data::TokenDataset> validation;
  std::int64_t vocab_size = 0;
  std::string description;  // "1115394 tokens, 65 different, of input.txt"
};

// Reads --data. `tokenizer` and the model's `vocab_size`, where known (a resumed run's), are used
// instead of the data's own; Mismatch where token files have a token that the model has not. Errors
// name the file.
Corpus load_corpus(const Options& options,
                   std::unique_ptr<weft::data::Tokenizer> tokenizer = nullptr,
                   std::optional<std::int64_t> vocab_size = {});

}  // namespace train_gpt
