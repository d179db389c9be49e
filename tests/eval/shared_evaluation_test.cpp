// SPDX-License-Identifier: Apache-2.0
// Evaluation that several ranks share: the numbers of one rank, bit for bit, and a share of the work each.
#include <atomic>
#include <cstring>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/communicator.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/eval/agreement.hpp"
#include "kdlib/eval/teacher_loss.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/teacher/live.hpp"
#include "support/catch.hpp"
#include "support/toy_model.hpp"

using namespace kdlib;
using kdlib_tests::ToyModel;

namespace {

/// Documents of 2 to 9 tokens, the fourth without a row.
TokenBatch documents_of(int count) {
  TokenBatch batch;
  for (int b = 0; b < count; ++b) {
    std::vector<std::int32_t> ids;
    std::vector<float> weights;
    for (int i = 0; i <= 1 + (b * 5) % 8; ++i) {
      ids.push_back((b * 7 + i * 3) % 40);
      weights.push_back(b == 3 ? 0.0f : 0.5f + static_cast<float>(i % 3));
    }
    batch.append(ids, weights);
  }
  return batch;
}

/// A model of the tests that counts the documents that it reads.
struct Counting : ToyModel<float> {
  using ToyModel<float>::ToyModel;
  std::int64_t documents = 0;
  auto forward(const TokenBatch& batch) {
    documents += batch.documents();
    return ToyModel<float>::forward(batch);
  }
};

/// What a program measures on held-out text.
struct Measured {
  Agreement agreement;
  LossSum label, teacher;
  double log_prob = 0;
};

struct Run {
  std::vector<Measured> all;  // of each rank
  std::vector<std::int64_t> documents;
};

Run measure(int ranks, std::int64_t tokens) {
  const TokenBatch text = documents_of(11);
  Run run;
  run.all.resize(static_cast<std::size_t>(ranks));
  run.documents.resize(run.all.size());
  run_ranks(ranks, [&](ThreadCommunicator c) {
    Counting student(40, 6, 1);
    ToyModel<float> teacher_model(40, 6, 2);
    LiveTeacher teacher{teacher_model};
    const EvaluationSettings settings{.tokens = tokens, .ranks = c};
    Measured m{};
    m.agreement = agreement(student, teacher, text, settings, ReverseKl{});
    run.documents[static_cast<std::size_t>(c.rank())] = student.documents;
    m.label = label_loss(student, text, CrossEntropy{}, settings);
    m.teacher = teacher_loss(student, teacher, text, ForwardKl{}, settings);
    m.log_prob = perplexity(student, text, settings).log_prob;
    run.all[static_cast<std::size_t>(c.rank())] = m;
  });
  return run;
}

}  // namespace

TEST_CASE("ranks that share an evaluation get the bits of one rank, and each reads a part of the text", "[eval]") {
  for (const std::int64_t tokens : {1, 12, 1000}) {
    const Run one = measure(1, tokens);
    REQUIRE(one.documents[0] >= 10);  // a group without a row is not read
    REQUIRE(one.all[0].agreement.tokens > 0);
    for (const int ranks : {2, 3, 4, 8}) {
      CAPTURE(tokens, ranks);
      const Run run = measure(ranks, tokens);
      std::int64_t documents = 0;
      for (int r = 0; r < ranks; ++r) {
        CHECK(std::memcmp(&run.all[static_cast<std::size_t>(r)], &one.all[0], sizeof(Measured)) == 0);
        documents += run.documents[static_cast<std::size_t>(r)];
      }
      CHECK(documents == one.documents[0]);
      for (const std::int64_t mine : run.documents)
        if (tokens == 1) CHECK(mine <= (11 + ranks - 1) / ranks);
    }
  }
}

TEST_CASE("where one rank is asked to stop, all ranks leave the evaluation", "[eval]") {
  const TokenBatch text = documents_of(11);
  std::atomic<int> stopped{0};
  run_ranks(3, [&](ThreadCommunicator c) {
    struct Stopping : ToyModel<float> {
      using ToyModel<float>::ToyModel;
      auto forward(const TokenBatch& batch) {
        check_stop();
        return ToyModel<float>::forward(batch);
      }
    } student(40, 6, 1);
    const std::atomic<bool> asked{c.rank() == 1};
    const StopScope scope(&asked);
    try {
      label_loss(student, text, CrossEntropy{}, {.tokens = 1, .ranks = c});
    } catch (const StopRequested&) {
      ++stopped;
    }
  });
  CHECK(stopped == 3);
}
