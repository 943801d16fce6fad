// What every rank of a world must throw.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "tests/parallel/in_process_world.h"

namespace weft::tests {

// All ranks threw E, in the same words, which have all of `parts` in them.
template <class E>
void expect_on_all(const std::vector<std::exception_ptr>& errors,
                   const std::vector<std::string>& parts) {
  for (const auto& error : errors) {
    EXPECT_EQ(message_of(error), message_of(errors.front()));
    try {
      ASSERT_TRUE(error) << "nothing was thrown";
      std::rethrow_exception(error);
    } catch (const E& typed) {
      for (const auto& part : parts) EXPECT_THAT(typed.what(), testing::HasSubstr(part));
    } catch (const std::exception& other) {
      ADD_FAILURE() << "another error was thrown: " << other.what();
    }
  }
}

// `body` on every rank of a world.
template <class E>
void expect_on_all(int ranks, const std::function<void(Communicator&)>& body,
                   const std::vector<std::string>& parts) {
  expect_on_all<E>(run_world_catching(ranks, body), parts);
}

}  // namespace weft::tests
