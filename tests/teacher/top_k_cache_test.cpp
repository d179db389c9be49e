// SPDX-License-Identifier: Apache-2.0
// A teacher's top-k on disk: rows with the exact mass of all other tokens at several temperatures.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/loss/sum.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "support/tolerance.hpp"
#include "teacher/cache_support.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// Loss of a student against targets, a row.
template <class Loss, class Teacher>
std::vector<double> losses(const Loss& loss, Teacher& teacher, const TokenBatch& batch) {
  Toy student(toy_vocabulary, 4, 9);
  teacher.prepare(batch);
  const TokenBatch::Rows rows = batch.rows();
  const auto count = static_cast<std::int64_t>(rows.token.size());
  const Tensor<float, Cpu> hidden = student.forward(batch);
  Tensor<float, Cpu> picked(Shape{count, student.hidden_size()});
  take_rows<float, Cpu>(hidden, rows.token, picked);
  return head_loss(loss, student.head(), picked, teacher.targets(0, count), RowInputs{rows.label, rows.weight}, 1.0, {},
                   nullptr, {.row_values = true})
      .row_values;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  return max_difference(a.data(), b.data(), a.size());
}

struct Made {
  TemporaryDirectory folder;
  Toy model{toy_vocabulary, toy_width, 1};
  TokenBatch documents = toy_documents();
  explicit Made(const CacheSettings& settings) { make_cache(model, folder.path(), settings, documents); }
};

/// Of docs/losses.md: z_t = (2, 1, 0, -1), z_s = (0, 0.5, 1, -0.5).
TopKRow reference_row(std::int64_t top_k, const std::vector<double>& temperatures) {
  std::vector<double> teacher = {2, 1, 0, -1};
  return top_k_row(std::span(teacher), top_k, temperatures, 1);
}

}  // namespace

TEST_CASE("golden row: normaliser, tail and losses at temperature 2 from a row that was cached at 1",
          "[teacher][cache][C13]") {
  const TopKRow row = reference_row(2, {1, 2});
  REQUIRE(row.ids == std::vector<std::int32_t>{0, 1});
  CHECK(near(row.log_norm[0], 0, 1e-7));
  CHECK(near(row.log_norm[1], .567243822, 1e-7));
  std::vector<double> log_p;
  for (const float lp : row.log_probs) log_p.push_back(lp / 2.0 - row.log_norm[1]);
  CHECK(near(std::exp(log_p[0]), .455054234, 1e-7));
  CHECK(near(std::exp(log_p[1]), .276004345, 1e-7));
  CHECK(near(std::exp(row.log_tail[1]), .268941421, 1e-7));
  CHECK(near(std::exp(row.log_tail[0]), 1 - .880797078, 1e-7));
  CHECK(near(row.label_log_prob, std::log(.236882818), 1e-7));

  const std::vector<double> student = {0, .5, 1, -.5}, tail = {static_cast<double>(row.log_tail[1])};
  const TopKTargets<double, Cpu> targets{{row.ids.data(), {1, 2}}, {log_p.data(), {1, 2}}, {tail.data(), {1}}, 2};
  const std::int32_t label = 1;
  const auto value = [&](const auto& loss) {
    return row_loss(loss, View<const double, Cpu>(student.data(), {1, 4}), targets, RowInputs{{&label, 1}}, 1.0,
                    View<double, Cpu>(), {})
        .loss.sum;
  };
  TopKForwardKl kl{.temperature = 2, .t_squared = false};
  CHECK(near(value(kl), .175715641, 1e-7));
  kl.mass = TopKMass::renormalised;
  CHECK(near(value(kl), .068706934, 1e-7));
  CHECK(near(value(Sum{Term{.5, CrossEntropy{}}, Term{.5, TopKForwardKl{.temperature = 2}}}), .995100619, 1e-7));
}

TEST_CASE("the tail is a sum of its own: masses of 1e-12 keep their digits", "[teacher][cache][C7]") {
  for (const double gap : {5.0, 15.0, 27.0}) {
    std::vector<double> teacher = {0, -gap, -gap - 1};
    const TopKRow row = top_k_row(std::span(teacher), 1, std::vector<double>{1}, 0);
    const double tail = std::exp(-gap) + std::exp(-gap - 1);
    CHECK(near(row.log_tail[0], std::log(tail / (1 + tail)), 1e-6));
  }
}

TEST_CASE("equal logits: the lower id comes first, and K = V leaves no tail", "[teacher][cache]") {
  std::vector<float> ties = {1, 3, 3, 3, 0};
  const TopKRow row = top_k_row(std::span(ties), 2, std::vector<double>{1, 3}, 4);
  CHECK(row.ids == std::vector<std::int32_t>{1, 2});
  const TopKRow all = reference_row(4, {1});
  CHECK(all.ids == std::vector<std::int32_t>{0, 1, 2, 3});
  CHECK(all.log_tail[0] == -std::numeric_limits<float>::infinity());
  std::vector<float> broken = {1, NAN, 2};
  CHECK(!top_k_row(std::span(broken), 2, std::vector<double>{1}, 0).finite);
}

TEST_CASE(
    "a long row's ids and masses are those of a plain sum in double, at every temperature, in one pass or several",
    "[teacher][cache]") {
  constexpr std::size_t V = 9001;  // blocks of both passes and a rest of each
  std::vector<float> logits(V);
  for (std::size_t i = 0; i < V; ++i) logits[i] = static_cast<float>(i * 7919 % V) / 900.0f - 4.0f;
  std::vector<std::int32_t> order(V);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];  // no two are equal
  });
  const std::vector<double> all = {.5, 1, 2, 3, 4};
  for (const std::vector<double>& temperatures : {all, {1}, {2, 4}, {3}}) {
    std::vector<float> row = logits;
    const TopKRow found = top_k_row(std::span(row), 7, temperatures, 5);
    REQUIRE(found.finite);
    CHECK(std::equal(found.ids.begin(), found.ids.end(), order.begin()));
    REQUIRE(found.ids.size() == 7);
    const auto mass = [&](double t, std::size_t from) {
      double sum = 0;
      for (std::size_t i = from; i < V; ++i) sum += std::exp(logits[static_cast<std::size_t>(order[i])] / t);
      return std::log(sum);
    };
    for (std::size_t t = 0; t < temperatures.size(); ++t) {
      CHECK(near(found.log_norm[t], mass(temperatures[t], 0) - mass(1, 0) / temperatures[t], 1e-5));
      CHECK(near(found.log_tail[t], mass(temperatures[t], 7) - mass(temperatures[t], 0), 1e-5));
    }
    CHECK(near(found.label_log_prob, static_cast<double>(logits[5]) - mass(1, 0), 1e-5));
  }
}

TEST_CASE("a logit that is not finite is found wherever it stands in a row", "[teacher][cache]") {
  for (const float broken : {NAN, INFINITY, -INFINITY})
    for (const std::size_t at : {0u, 15u, 4095u, 4096u, 8999u}) {
      std::vector<float> row(9000, 0.5f);
      row[at] = broken;
      CHECK(!top_k_row(std::span(row), 3, std::vector<double>{1}, 0).finite);
    }
}

TEST_CASE("a cache with K = V gives the live teacher's losses, at every temperature that it has", "[teacher][cache]") {
  const Made made(top_k_settings(toy_vocabulary));
  const TopKCache cache = TopKCache::open(made.folder.path());
  Toy model(toy_vocabulary, toy_width, 1);
  LiveTeacher live{model};
  for (const float t : {1.0f, 2.0f}) {
    CachedTeacher<Cpu> cached{cache, {.temperature = t}};
    CHECK(largest_difference(losses(TopKForwardKl{.temperature = t}, cached, made.documents),
                             losses(ForwardKl{.temperature = t}, live, made.documents)) < 1e-6);
    CHECK(largest_difference(losses(TopKReverseKl<>{.temperature = t}, cached, made.documents),
                             losses(ReverseKl{.temperature = t}, live, made.documents)) < 1e-6);
  }
}

TEST_CASE("with K < V the loss is never above the whole divergence, in any order and batch", "[teacher][cache][C20]") {
  const Made made(top_k_settings(4));
  const TopKCache cache = TopKCache::open(made.folder.path());
  Toy model(toy_vocabulary, toy_width, 1);
  LiveTeacher live{model};
  CachedTeacher<Cpu> cached{cache, {.temperature = 1}};
  const auto whole = losses(ForwardKl{}, live, made.documents), tail = losses(TopKForwardKl{}, cached, made.documents);
  double bias = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    CHECK(tail[i] <= whole[i] + 1e-6);
    bias += whole[i] - tail[i];
  }
  CHECK(bias > 0.01);
  TokenBatch turned;
  for (std::int64_t b = made.documents.documents(); b-- > 0;) turned.append(made.documents.document(b));
  auto again = losses(TopKForwardKl{}, cached, turned), sorted = tail;
  std::sort(again.begin(), again.end());
  std::sort(sorted.begin(), sorted.end());
  CHECK(largest_difference(again, sorted) < 1e-6);
}

TEST_CASE("fewer tokens than the cache has: what is left out goes to the tail", "[teacher][cache]") {
  const Made five(top_k_settings(5)), three(top_k_settings(3));
  const TopKCache more = TopKCache::open(five.folder.path()), less = TopKCache::open(three.folder.path());
  CachedTeacher<Cpu> cut{more, {.temperature = 2, .top_k = 3}}, own{less, {.temperature = 2}};
  CHECK(cut.top_k() == 3);
  CHECK(largest_difference(losses(TopKForwardKl{.temperature = 2}, cut, five.documents),
                           losses(TopKForwardKl{.temperature = 2}, own, five.documents)) < 1e-6);
}

TEST_CASE("tokens that the student lacks are absent from cached rows, and the others share their mass",
          "[teacher][cache]") {
  const Made made(top_k_settings(toy_vocabulary));  // K = V: every mass is known
  const TopKCache cache = TopKCache::open(made.folder.path());
  const std::int64_t shared = 12;
  CachedTeacher<Cpu> whole{cache, {.temperature = 2}}, cut{cache, {.temperature = 2, .real_vocabulary = shared}},
      few{cache, {.temperature = 2, .top_k = 6, .real_vocabulary = shared}};
  for (CachedTeacher<Cpu>* teacher : {&whole, &cut, &few}) teacher->prepare(made.documents);
  const auto rows = static_cast<std::int64_t>(made.documents.rows().token.size());
  const auto all = whole.targets(0, rows), part = cut.targets(0, rows), least = few.targets(0, rows);
  for (std::int64_t r = 0; r < rows; ++r) {
    double kept = 0, sum = 0, some = std::exp(static_cast<double>(least.log_tail.data()[r]));
    for (std::int64_t i = 0; i < toy_vocabulary; ++i)
      if (all.ids.data()[r * toy_vocabulary + i] < shared)
        kept += std::exp(static_cast<double>(all.log_probs.data()[r * toy_vocabulary + i]));
    for (std::int64_t i = 0; i < toy_vocabulary; ++i) {
      const std::int64_t at = r * toy_vocabulary + i;
      CHECK(part.ids.data()[at] == (all.ids.data()[at] < shared ? all.ids.data()[at] : -1));
      if (part.ids.data()[at] < 0) continue;
      const double p = std::exp(static_cast<double>(part.log_probs.data()[at]));
      CHECK(p == Approx(std::exp(static_cast<double>(all.log_probs.data()[at])) / kept).epsilon(1e-5));
      sum += p;
    }
    CHECK(sum == Approx(1).epsilon(1e-5));
    CHECK(part.log_tail.data()[r] == -std::numeric_limits<float>::infinity());
    for (std::int64_t i = 0; i < 6; ++i)
      if (least.ids.data()[r * 6 + i] >= 0) some += std::exp(static_cast<double>(least.log_probs.data()[r * 6 + i]));
    CHECK(some == Approx(1).epsilon(1e-5));
  }
  CHECK(cut.describe().back() == std::pair<std::string, std::string>("teacher.real_vocabulary", "12"));
  CHECK_THAT(refusal([&] { CachedTeacher<Cpu>(cache, {.temperature = 1, .real_vocabulary = -1}); }),
             contains("real_vocabulary is -1"));
}

TEST_CASE("a cache in f16 is within its rounding", "[teacher][cache][C22]") {
  CacheSettings settings = top_k_settings(5);
  settings.store = CacheStore::f16;
  const Made rounded(settings), exact(top_k_settings(5));
  const TopKCache a = TopKCache::open(rounded.folder.path()), b = TopKCache::open(exact.folder.path());
  CachedTeacher<Cpu> x{a, {.temperature = 1}}, y{b, {.temperature = 1}};
  const double difference =
      largest_difference(losses(TopKForwardKl{}, x, rounded.documents), losses(TopKForwardKl{}, y, rounded.documents));
  CHECK(difference > 0);
  CHECK(difference < Tolerance<f16>::reduction);
}

TEST_CASE("a temperature or a number of tokens that the cache does not have is refused", "[teacher][cache][C13]") {
  const Made made(top_k_settings(4));
  const TopKCache cache = TopKCache::open(made.folder.path());
  const auto refused = [&](const CachedTeacherSettings& settings) {
    return refusal([&] { CachedTeacher<Cpu>(cache, settings); });
  };
  CHECK_THAT(refused({}), contains("meta.json: temperatures are 1, 2: say which one"));
  CHECK_THAT(refused({.temperature = 1.5}), contains("temperatures are 1, 2, the loss has 1.5"));
  CHECK_THAT(refused({.temperature = 1, .top_k = 5}), contains("top_k is 4, 5 tokens are asked for"));
  CHECK_THAT(refusal([&] { CachedHiddenTeacher<Cpu>(cache.files()); }), contains("kind is \"logprobs\", hidden is"));
}

TEST_CASE("rows that cannot be a teacher's are refused with file, row and what is wrong", "[teacher][cache]") {
  const auto reading = [](const char* tensor, std::size_t index, auto value) {
    const Made made(top_k_settings(4));
    const std::string segment = made.folder / segment_name(0, 1);
    patch(segment, tensor, index, value);
    const TopKCache cache = TopKCache::open(made.folder.path());
    CachedTeacher<Cpu> teacher{cache, {.temperature = 1}};
    const std::string said = refusal([&] { teacher.prepare(made.documents); });
    CHECK_THAT(said, contains("segments/000_000001.safetensors: row"));
    return said;
  };
  CHECK_THAT(reading("values", 0, NAN), contains("row 0 (text 5, token") && contains("values holds NaN"));
  CHECK_THAT(reading("values", 5, 0.0f), contains("row 1 ") && contains("values do not fall"));
  CHECK_THAT(reading("values", 3, -30.0f), contains("add up to"));
  CHECK_THAT(reading("indices", 0, std::int32_t{17}), contains("the vocabulary has 17"));
  CHECK_THAT(reading("indices", 1, std::int32_t{-1}), contains("indices reach from -1"));
  CHECK_THAT(reading("tail_logmass", 0, 0.5f), contains("tail_logmass is above 0"));
  CHECK_THAT(reading("log_norm", 0, NAN), contains("log_norm holds NaN"));
  const Made made(top_k_settings(4));
  std::int32_t first = 0;
  {
    const SafetensorsFile file(made.folder / segment_name(0, 1));
    first = read_as<std::int32_t>(file.at("indices"))[0];
  }
  CHECK_THAT(reading("indices", 1, first), contains("holds a token twice"));
}

TEST_CASE("making a top-k cache that is cut short goes on to the same bytes", "[teacher][cache]") {
  const Made whole(top_k_settings(4));
  const TemporaryDirectory folder;
  Toy model(toy_vocabulary, toy_width, 1);
  for (const int batches : {1, 3, 3}) {  // within the first segment, then behind one more each time
    CacheWriter writer(folder.path(), facts_of(model), top_k_settings(4), whole.documents);
    int seen = 0;
    WriteCacheSettings stopping;
    stopping.progress = [&](const CacheProgress& p) {
      CHECK(p.done <= p.documents);
      if (++seen == batches) throw StopRequested("stopped");
    };
    CHECK_THROWS_AS(write_teacher_cache(model, writer, 0, stopping), StopRequested);
  }
  make_cache(model, folder.path(), top_k_settings(4), whole.documents);
  INFO(differences(run_files(whole.folder.path()), run_files(folder.path())));
  CHECK(run_files(whole.folder.path()) == run_files(folder.path()));
}

TEST_CASE("teachers of a cache reject temporaries", "[teacher][cache]") {
  static_assert(TeacherSource<CachedTeacher<Cpu>>);
  static_assert(std::is_constructible_v<CachedTeacher<Cpu>, const TopKCache&>);
  static_assert(!std::is_constructible_v<CachedTeacher<Cpu>, TopKCache&&>);
  static_assert(!std::is_constructible_v<CachedTeacher<Cpu>, const TopKCache&&>);
  static_assert(RowLoss<Sum<TopKForwardKl, CrossEntropy>, CachedTeacher<Cpu>::targets_type>);
  CHECK_THAT(refusal([] { TopKCache::open("/nowhere/cache"); }), contains("/nowhere/cache is not there"));
}

TEST_CASE("a row of floats, whose sums go by blocks, is that of doubles; a number that is none is found anywhere",
          "[cache]") {
  const std::vector<double> temperatures{1, 2, 3};
  for (const std::int64_t vocabulary : {5, 255, 256, 1003}) {
    std::vector<double> wide = kdlib_tests::spread_numbers(vocabulary, 7, 4, 0);
    std::vector<float> narrow(wide.begin(), wide.end());
    wide.assign(narrow.begin(), narrow.end());
    const std::vector<float> whole = narrow;
    for (const std::int64_t top_k : {std::int64_t{1}, std::int64_t{4}, std::min<std::int64_t>(64, vocabulary)}) {
      CAPTURE(vocabulary, top_k);
      narrow = whole;
      std::vector<double> again = wide;
      const TopKRow a = top_k_row(std::span(narrow), top_k, temperatures, 3);
      const TopKRow b = top_k_row(std::span(again), top_k, temperatures, 3);
      CHECK(a.ids == b.ids);
      for (std::size_t k = 0; k < a.ids.size(); ++k) CHECK(std::fabs(a.log_probs[k] - b.log_probs[k]) < 1e-6f);
      for (std::size_t t = 0; t < temperatures.size(); ++t) {
        CHECK(std::fabs(a.log_norm[t] - b.log_norm[t]) < 1e-6f);
        CHECK((a.log_tail[t] == b.log_tail[t] || std::fabs(a.log_tail[t] - b.log_tail[t]) < 2e-6f));
      }
      CHECK(std::fabs(a.label_log_prob - b.label_log_prob) < 1e-6f);
    }
    for (std::size_t i = 0; i < whole.size(); ++i)
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()}) {
        narrow = whole;
        narrow[i] = bad;
        if (top_k_row(std::span(narrow), 2, temperatures, 0).finite) FAIL("missed at " << i);
      }
  }
}
