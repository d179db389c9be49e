// SPDX-License-Identifier: Apache-2.0
// How often the host waits for the device.
#include <algorithm>

#include "cuda/decoders.hpp"
#include "cuda/kernel_cases.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/rollout/generate.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/train/gradient_step.hpp"
#include "model/golden.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

template <class F>
std::int64_t waits_of(F&& work) {
  const std::int64_t before = emulated_counts().waits;
  work();
  return emulated_counts().waits - before;
}

}  // namespace

TEST_CASE("the norm of all gradients waits for the device once", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  auto model = Decoder<Cuda, float>::from_config(golden_config(Family::qwen2), 1);
  const auto parameters = model.parameters();
  REQUIRE(parameters.size() > 10);
  double sum = 0;
  for (Parameter<float, Cuda>* p : parameters) {
    p->gradient = Tensor<float, Cuda>(p->value.shape());
    Memory<Cuda>::copy(p->gradient.data(), p->value.data(), static_cast<std::size_t>(p->value.count()) * sizeof(float));
    sum += Kernels<Cuda, float>::sum_squares(p->gradient.data(), p->gradient.count());
  }
  double norm = 0;
  CHECK(waits_of([&] { norm = gradient_norm(parameters); }) == 1);
  CHECK(norm == std::sqrt(sum));
}

TEST_CASE("decoding waits once in eight steps, whatever the number of rows", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  auto model = Decoder<Cuda, float>::from_config(golden_config(Family::qwen2), 1);
  const auto waits = [&](std::int64_t tokens) {
    return waits_of([&] {
      generate(model, {{1, 2, 3}, {4, 5}, {6}}, Sampler{.max_new_tokens = tokens}, GenerateSettings{.batch = 3});
    });
  };
  CHECK(waits(1) == 1);
  CHECK(waits(9) == 2);
  CHECK(waits(25) == 4);
  CHECK(waits(27) == 5);  // the two that are left, together
}

TEST_CASE("recorded routing is read in the same waits, and is the CPU's", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const DecoderConfig config = golden_config(Family::qwen3_moe);
  auto there = Decoder<Cuda, float>::from_config(config, 1);
  auto here = Decoder<Cpu, float>::from_config(config, 1);
  Sampler sampler{.max_new_tokens = 20, .seed = 3};
  for (std::int32_t id = 0; id < config.vocab_size; id += 9) sampler.stop_ids.push_back(id);
  const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3}, {4}, {5, 6}};
  const GenerateSettings settings{.batch = 3, .record_routing = true};
  std::vector<Completion> a;
  CHECK(waits_of([&] { a = generate(there, prompts, sampler, settings); }) <= 4);
  const auto b = generate(here, prompts, sampler, settings);
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].ids == b[i].ids);
    CHECK(a[i].routing.tokens == static_cast<std::int64_t>(prompts[i].size() + a[i].ids.size()) - 1);
    CHECK(a[i].routing.ids == b[i].routing.ids);
  }
}

TEST_CASE("steps of decoding are queued without a wait, and their state moves on there", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  auto model = Decoder<Cuda, float>::from_config(golden_config(Family::qwen3), 1);
  auto cache = model.make_cache(2, 16);
  const std::vector<std::int32_t> slots = {1, 0}, ids = {5, 7};
  TokenBatch prompts;
  prompts.append(std::vector<std::int32_t>{1, 2, 3});
  prompts.append(std::vector<std::int32_t>{4});
  model.decode(cache, prompts, slots);
  auto state = model.begin_decoding(cache, slots, ids, 3);
  {
    const detail::NoSync guard;
    for (int step = 0; step < 3; ++step) model.decode_step(cache, state);
  }
  CHECK_THROWS_WITH(model.decode_step(cache, state), contains("no room for another step"));
  CHECK(cache.length(1) == 6);
  CHECK(cache.length(0) == 4);
  CHECK(host_copy(std::as_const(state.past).view()) == std::vector<std::int64_t>{6, 4});
}

TEST_CASE("texts on CUDA do not depend on tokens that were written for nothing", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const DecoderConfig config = golden_config(Family::qwen2);
  auto there = Decoder<Cuda, float>::from_config(config, 1);
  auto here = Decoder<Cpu, float>::from_config(config, 1);
  std::vector<std::vector<std::int32_t>> prompts;
  for (std::int32_t i = 0; i < 7; ++i)
    prompts.push_back(std::vector<std::int32_t>(static_cast<std::size_t>(1 + i % 3), i + 1));
  Sampler sampler{.max_new_tokens = 21, .seed = 3};
  for (std::int32_t id = 0; id < config.vocab_size; id += 9) sampler.stop_ids.push_back(id);  // texts end early
  // Two replies behind a stop, so that sequences go on in the middle of eight steps.
  GenerateSettings settings{.batch = 3};
  settings.reply_tokens = 6;
  settings.reply = [](std::size_t request, const Completion& c) {
    const auto given = std::count(c.given.begin(), c.given.end(), std::uint8_t{1});
    return request % 2 == 0 && given < 6 ? std::vector<std::int32_t>{1, 2, 3} : std::vector<std::int32_t>{};
  };
  const auto a = generate(there, prompts, sampler, settings), b = generate(here, prompts, sampler, settings);
  REQUIRE(a.size() == b.size());
  std::int64_t stopped = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].ids == b[i].ids);
    CHECK(a[i].stopped == b[i].stopped);
    CHECK(a[i].given == b[i].given);
    REQUIRE(a[i].log_probs.size() == b[i].log_probs.size());
    for (std::size_t t = 0; t < a[i].log_probs.size(); ++t)
      CHECK(std::fabs(a[i].log_probs[t] - b[i].log_probs[t]) < 1e-4f);
    stopped += a[i].stopped;
  }
  CHECK(stopped > 0);
  CHECK(stopped < 7);
}

TEST_CASE("a training step waits once, whatever its parameters, rows, layers and micro-batches are", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  for (const Family family : {Family::qwen2, Family::qwen3_moe, Family::gpt_oss}) {
    const DecoderConfig config = golden_config(family);
    CAPTURE(family_name(family));
    using Model = Decoder<Cuda, float>;
    Model teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);
    teacher.set_trainable(false);
    if (student.experts() > 0) student.set_router_policy({.balance = 0.01, .z = 0.001});
    const auto waits = [&](std::int64_t steps) {
      Trainer trainer{student, RaggedDocuments{{.vocabulary = config.vocab_size, .seed = 5}},
                      Objective{LiveTeacher{teacher}, ForwardKl{}}, AdamW{}, ConstantRate{1e-3}};
      // The smallest workspace: every row is a chunk of its own.
      const RunSettings settings{.steps = steps, .micro_batches = 2, .recompute = true, .workspace_bytes = 1};
      return waits_of([&] { trainer.run(settings, NoMetrics{}, NoCheckpoints{}); });
    };
    const std::int64_t one = waits(1), three = waits(3);
    INFO(one << " and " << three);
    CHECK(three - one == 2);
  }
}

namespace {

/// AdamW that takes the host's factor alone.
struct HostFactor : AdamW {
  template <class T, class D>
  class State : AdamW::State<T, D> {
   public:
    using Base = AdamW::State<T, D>;
    using typename Base::moment_type;
    explicit State(Base base) : Base(std::move(base)) {}
    using Base::set_steps, Base::steps, Base::tensors;
    void step(double rate, double gradient_scale = 1) { Base::step(rate, gradient_scale); }
  };
  template <class T, class D>
  State<T, D> state(std::vector<Parameter<T, D>*> parameters, std::vector<double> rates = {}) const {
    return State<T, D>(AdamW::state<T, D>(std::move(parameters), std::move(rates)));
  }
};

/// Runs of prompts with a reply, whose routing is known but for the last token of each.
TokenBatch written_batch(Decoder<Cuda, float>& model) {
  OnPolicy source(Prompts({{3}, {1, 2, 3}, {9, 9}}, {2}), Sampler{.max_new_tokens = 5},
                  {.prompts = 3, .decode_batch = 3, .record_routing = model.experts() > 0});
  return *source.next(model);
}

/// The gradient, norm and update of a step, queued where nothing may wait, and what the host reads behind it.
template <class Loss, class Teacher>
StepSums queued_step(Decoder<Cuda, float>& student, Objective<Teacher, Loss>& objective, const TokenBatch& batch) {
  using Student = Decoder<Cuda, float>;
  const auto parameters = trainable_parameters(student);
  auto state = AdamW{}.state<float, Cuda>(parameters);
  GradientStep<Student, Objective<Teacher, Loss>> step({.replay_routing = student.experts() > 0});
  const std::vector<TokenBatch> batches = {batch, batch};
  std::optional<PendingSums<Cuda>> sums;
  std::optional<PendingNorm<Cuda>> norm;
  {
    const detail::NoSync guard;
    sums.emplace(step.queue(student, objective, batches));
    norm.emplace(parameters);
    GradientFactor* const factor = norm->factor<float>(0.5);
    sums->check<float>(factor);
    state.step(1e-3, factor);
  }
  HostReads<Cuda> reads;
  sums->read(reads), norm->read(reads);
  CHECK(waits_of([&] { reads.wait(); }) == 1);
  CHECK(norm->norm() > 0);
  return sums->sums();
}

}  // namespace

TEST_CASE("gradients, norm and update are queued without a wait, replayed routing included", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  using Model = Decoder<Cuda, float>;
  for (const Family family : {Family::qwen2, Family::qwen3_moe, Family::gemma3}) {
    const DecoderConfig config = golden_config(family);
    CAPTURE(family_name(family));
    Model teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);
    teacher.set_trainable(false);
    const TokenBatch batch = written_batch(student);
    Objective objective{LiveTeacher{teacher}, ForwardKl{}};
    queued_step(student, objective, batch);  // tables of angles grow in the first pass
    const StepSums sums = queued_step(student, objective, batch);
    CHECK(sums.loss.weight == 2 * batch.weight());
    CHECK(sums.loss.sum > 0);
    CHECK(sums.experts.empty() == (student.experts() == 0));
  }
}

TEST_CASE("an update with the device's own factor is the host's, and does not happen where a loss is not finite",
          "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  using Model = Decoder<Cuda, float>;
  const DecoderConfig config = golden_config(Family::qwen2);
  const auto values = [](Model& model) {
    std::vector<float> all;
    for (Parameter<float, Cuda>* p : model.parameters())
      for (const float x : host_copy(std::as_const(p->value).view())) all.push_back(x);
    return all;
  };
  Model teacher = Model::from_config(config, 1);
  teacher.set_trainable(false);
  const auto train = [&](Model& student, auto optimizer, double clip) {
    Trainer trainer{student, RaggedDocuments{{.vocabulary = config.vocab_size, .seed = 5}},
                    Objective{LiveTeacher{teacher}, ForwardKl{}}, optimizer, ConstantRate{1e-2}};
    trainer.run({.steps = 2, .clip_norm = clip}, NoMetrics{}, NoCheckpoints{});
  };
  for (const double clip : {0.0, 1e-3, 1e3}) {
    CAPTURE(clip);
    Model a = Model::from_config(config, 2), b = Model::from_config(config, 2);
    train(a, AdamW{}, clip);
    train(b, HostFactor{}, clip);
    CHECK(values(a) == values(b));
  }
  Model student = Model::from_config(config, 2);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Memory<Cuda>::from_host(student.find_parameter("model.norm.weight")->value.data(), &nan, sizeof nan);
  const std::vector<float> before = values(student);
  CHECK_THROWS_WITH(train(student, AdamW{}, 1.0), contains("No update was made yet"));
  const std::vector<float> after = values(student);
  CHECK(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)) == 0);
}

namespace {

/// While one lives, a wait in what should only queue is refused.
struct StrictPhases {
  StrictPhases() { detail::CudaQueuedPhase::is_strict() = true; }
  ~StrictPhases() { detail::CudaQueuedPhase::is_strict() = false; }
};

/// A teacher that waits for the device before it answers.
template <class Model>
struct WaitingTeacher : LiveTeacher<Model> {
  explicit WaitingTeacher(Model& model) : LiveTeacher<Model>(model) {}
  void prepare(const TokenBatch& batch) {
    cuda_synchronize();
    LiveTeacher<Model>::prepare(batch);
  }
};

}  // namespace

TEST_CASE("the trainer and writing only queue work up to their one wait; one that is put there is refused", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  using Model = Decoder<Cuda, float>;
  const StrictPhases strict;
  for (const Family family : {Family::qwen2, Family::qwen3_moe, Family::gemma3}) {
    const DecoderConfig config = golden_config(family);
    CAPTURE(family_name(family));
    Model teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);
    teacher.set_trainable(false);
    const auto train = [&](auto objective) {
      Trainer trainer{student, RaggedDocuments{{.vocabulary = config.vocab_size, .seed = 5}}, objective, AdamW{},
                      ConstantRate{1e-3}};
      trainer.run({.steps = 2, .micro_batches = 2, .clip_norm = 1}, NoMetrics{}, NoCheckpoints{});
    };
    CHECK_NOTHROW(train(Objective{LiveTeacher{teacher}, ForwardKl{}}));
    CHECK_THROWS_WITH(train(Objective{WaitingTeacher<Model>{teacher}, ForwardKl{}}),
                      contains("cuda_synchronize waits for the device inside a NoSync guard"));
    for (const GraphUse graphs : {GraphUse::on, GraphUse::off})
      CHECK_NOTHROW(generate(student, {{1, 2}, {3}}, Sampler{.max_new_tokens = 20},
                             GenerateSettings{.batch = 2, .graphs = graphs}));
  }
}

TEST_CASE("ids, positions and offsets of a pass are one copy, and so is a state of decoding", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  auto model = Decoder<Cuda, float>::from_config(golden_config(Family::qwen2), 1);
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 2, 3});
  batch.append(std::vector<std::int32_t>{4});
  const auto uploads = [](auto&& work) {
    const std::int64_t before = emulated_counts().uploads;
    work();
    return emulated_counts().uploads - before;
  };
  model.forward(batch);  // the tables of angles
  CHECK(uploads([&] { model.forward(batch); }) == 1);
  auto cache = model.make_cache(2, 16);
  const std::vector<std::int32_t> slots = {1, 0}, ids = {5, 7};
  CHECK(uploads([&] { model.decode(cache, batch, slots); }) == 2);  // and slots with what they hold
  DecodeState<Cuda> state;
  CHECK(uploads([&] { state = model.begin_decoding(cache, slots, ids, 3); }) == 1);
  const std::int32_t* const place = state.ids.data();
  model.decode_step(cache, state);
  CHECK(uploads([&] { model.continue_decoding(cache, state, slots, ids, 2, 2); }) == 1);
  CHECK(state.ids.data() == place);
  CHECK(host_copy(std::as_const(state.past).view()) == std::vector<std::int64_t>{4, 2});
  CHECK(host_copy(std::as_const(state.positions).view()) == std::vector<std::int32_t>{4, 2});
  CHECK(host_copy(std::as_const(state.slots).view()) == slots);
  CHECK(host_copy(std::as_const(state.ids).view()) == ids);
  CHECK(host_copy(std::as_const(state.offsets).view()) == std::vector<std::int64_t>{0, 1, 2});
  CHECK_THROWS_WITH(model.continue_decoding(cache, state, std::vector<std::int32_t>{1}, ids, 2, 1),
                    contains("for a state of 2 rows"));
}

TEST_CASE("a long array of the host is queued for the device in pieces, and may change at once", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  std::vector<std::int32_t> host((std::size_t{3} << 20) / sizeof(std::int32_t) + 5);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<std::int32_t>(i * 7);
  const std::vector<std::int32_t> want = host;
  const Buffer<std::int32_t, Cuda> there(static_cast<std::int64_t>(host.size()));
  std::vector<std::int32_t> back(host.size());
  for (int time = 0; time < 8; ++time) {  // more than the ring's first segments hold
    const detail::NoSync guard;
    Memory<Cuda>::from_host(there.data(), host.data(), host.size() * sizeof(std::int32_t));
    std::fill(host.begin(), host.end(), -1);
    if (time < 7) host = want;
  }
  Memory<Cuda>::to_host(back.data(), there.data(), back.size() * sizeof(std::int32_t));
  CHECK(back == want);
}

TEST_CASE("ids of a top-k outside the vocabulary are found by the device and named when the result is read", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const auto placed = [](const auto& host) {
    using X = typename std::decay_t<decltype(host)>::value_type;
    Tensor<X, Cuda> there(Shape{static_cast<std::int64_t>(host.size())});
    Memory<Cuda>::from_host(there.data(), host.data(), host.size() * sizeof(X));
    return there;
  };
  const auto logits = placed(std::vector<float>(3 * 8, 0.5f)), log_probs = placed(std::vector<float>(6, -1.0f)),
             log_tail = placed(std::vector<float>(3, -2.0f));
  for (const std::int32_t wrong : {8, -2}) {
    const auto ids = placed(std::vector<std::int32_t>{0, 1, 7, -1, wrong, 2});
    const TopKTargets<float, Cuda> targets{{ids.data(), {3, 2}}, {log_probs.data(), {3, 2}}, {log_tail.data(), {3}}, 1};
    CHECK_THROWS_WITH(row_loss(TopKForwardKl{}, View<const float, Cuda>{logits.data(), {3, 8}}, targets, RowInputs{},
                               1.0, View<float, Cuda>{}),
                      contains("id " + std::to_string(wrong) + " of row 2"));
  }
}
