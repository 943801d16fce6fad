// Which report becomes the root cause.
#include "comm/rendezvous/jury.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::comm {
namespace {

using Source = Failure::Source;

Failure told(Source source, std::int32_t rank, ErrorCode code = ErrorCode::peer_lost) {
  Failure failure;
  failure.source = source;
  failure.rank = rank;
  failure.code = code;
  return failure;
}

TEST(Jury, AnAgentsWordAndAnOwnErrorNeedNoWindow) {
  EXPECT_TRUE(FailureJury().hear(told(Source::agent, 2)));
  EXPECT_TRUE(FailureJury().hear(told(Source::self, 2, ErrorCode::invalid_argument)));
  EXPECT_FALSE(FailureJury().hear(told(Source::connection, 2)));
  EXPECT_FALSE(FailureJury().hear(told(Source::peer, 2)));
}

TEST(Jury, AnOwnErrorThatBlamesOthersIsAComplaint) {
  for (const auto code : {ErrorCode::peer_lost, ErrorCode::timeout, ErrorCode::aborted}) {
    FailureJury jury;
    EXPECT_FALSE(jury.hear(told(Source::self, 2, code)));
    EXPECT_FALSE(jury.hear(told(Source::connection, 1)));
    EXPECT_EQ(jury.best().rank, 1);
  }
}

TEST(Jury, AgentOverSelfOverConnectionOverPeer) {
  FailureJury jury;
  EXPECT_FALSE(jury.has_heard());
  EXPECT_FALSE(jury.hear(told(Source::peer, 1)));
  EXPECT_EQ(jury.best().source, Source::peer);
  EXPECT_FALSE(jury.hear(told(Source::connection, 1)));
  EXPECT_EQ(jury.best().source, Source::connection);
  EXPECT_TRUE(jury.hear(told(Source::self, 1, ErrorCode::corrupt)));
  EXPECT_EQ(jury.best().source, Source::self);
  EXPECT_TRUE(jury.hear(told(Source::agent, 1)));
  EXPECT_EQ(jury.best().source, Source::agent);
  jury.hear(told(Source::peer, 1));
  EXPECT_EQ(jury.best().source, Source::agent);
}

TEST(Jury, TheFirstToGoIsTheCause) {
  FailureJury jury;
  EXPECT_FALSE(jury.hear(told(Source::connection, 1)));
  EXPECT_FALSE(jury.hear(told(Source::connection, 0)));
  EXPECT_EQ(jury.best().rank, 1);
  // Rank 0 died of rank 1's death; its agent was quicker to say so.
  EXPECT_FALSE(jury.hear(told(Source::agent, 0)));
  EXPECT_EQ(jury.best().rank, 0);
  EXPECT_TRUE(jury.hear(told(Source::agent, 1)));
  EXPECT_EQ(jury.best().rank, 1);
}

TEST(Jury, AnAgentsWordEndsAComplaintAboutAnother) {
  FailureJury jury;
  EXPECT_FALSE(jury.hear(told(Source::peer, 1)));
  EXPECT_TRUE(jury.hear(told(Source::agent, 2)));
  EXPECT_EQ(jury.best().rank, 2);
}

TEST(Describe, OneLineWhoWhereWhatDuringWhat) {
  Failure failure = told(Source::agent, 3);
  failure.host = "node7";
  failure.pid = 4242;
  failure.what = "killed by signal 9 (SIGKILL)";
  failure.operation = "all_reduce #12, 1048576 x f32, sum";
  EXPECT_EQ(describe(failure),
            "rank 3 (node7, pid 4242): killed by signal 9 (SIGKILL), during all_reduce #12, "
            "1048576 x f32, sum");
  failure.pid = 0;
  failure.operation.clear();
  failure.what = "two\nlines";
  EXPECT_EQ(describe(failure), "rank 3 (node7): two lines");
  failure.rank = -2;
  EXPECT_EQ(describe(failure), "the agent of node 1 (node7): two lines");
  failure.rank = -1;
  failure.host.clear();
  failure.what.clear();
  EXPECT_EQ(describe(failure), name_of(ErrorCode::peer_lost));
}

}  // namespace
}  // namespace weft::comm
