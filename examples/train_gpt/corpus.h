// The text as tokens, split in two.
#pragma once

#include <memory>
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

// Reads --data. `tokenizer`, where given (a resumed run's), is used instead of making one. Errors
// name the file.
Corpus load_corpus(const Options& options,
                   std::unique_ptr<weft::data::Tokenizer> tokenizer = nullptr);

}  // namespace train_gpt
