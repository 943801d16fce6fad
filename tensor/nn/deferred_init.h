// Models that are made without memory, for those that no rank could hold whole:
//
//   std::unique_ptr<nn::GPT> model;
//   {
//     const nn::DeferredInit deferred;
//     model = std::make_unique<nn::GPT>(config);  // takes nothing, draws the same numbers
//   }
//   parallel::Zero zero(*model, communicator, {.stage = 3});  // parameter by parameter
//
// Values are those that the model would have had: every parameter keeps its place in the
// generator's stream. Zero (and Fabric::setup()) makes one parameter at a time and keeps its share;
// materialize() makes them all. Until then asking for elements is InvalidArgument.
#pragma once

#include "tensor/nn/module.h"

namespace weft::nn {

// While one is alive modules made by this thread are so.
class DeferredInit {
 public:
  DeferredInit();
  ~DeferredInit();
  DeferredInit(const DeferredInit&) = delete;
  DeferredInit& operator=(const DeferredInit&) = delete;
  static bool is_on();

 private:
  bool previous_;
};

// Gives every parameter and buffer that is deferred memory and values.
void materialize(const Module& module);

}  // namespace weft::nn
