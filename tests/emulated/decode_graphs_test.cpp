// SPDX-License-Identifier: Apache-2.0
// Decoding by graphs: the tokens of decoding kernel by kernel and of the CPU, whatever stops, waits or changes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda/decoders.hpp"
#include "cuda/kernel_cases.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/rollout/generate.hpp"
#include "model/golden.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

using Model = Decoder<Cuda, float>;
using HostModel = Decoder<Cpu, float>;

/// Weights wide enough that every token depends on those before it.
DecoderConfig config_of(Family family) {
  DecoderConfig config = golden_config(family);
  config.vocab_size = 256;
  config.initializer_range = 0.4;
  return config;
}

/// LoRA whose B is not zero, the same on every device.
template <class D>
void add_adapter(Decoder<D, float>& model) {
  model.set_trainable(false);
  add_lora(model, LoraSettings{.rank = 4});
  for (Parameter<float, D>* p : model.parameters()) {
    if (!p->name.ends_with("lora_B.weight")) continue;
    std::vector<float> b(static_cast<std::size_t>(p->value.count()));
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(hash_value(p->name, i));
    Memory<D>::from_host(p->value.data(), b.data(), b.size() * sizeof(float));
  }
}

struct Written {
  std::vector<Completion> texts;
  std::int64_t launches = 0, captures = 0;
};
template <class M>
Written write(M& model, std::span<const WritingRequest> requests, const Sampler& sampler,
              const GenerateSettings& settings) {
  const EmulatedCounts before = emulated_counts();
  Written out{generate(model, requests, sampler, settings)};
  out.launches = emulated_counts().graph_launches - before.graph_launches;
  out.captures = emulated_counts().captures - before.captures;
  return out;
}

/// 11 prompts for 8 places, so that prompts take the places of texts that have ended, and fewer and fewer are left.
struct Requests {
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<WritingRequest> list;

  Requests() {
    const std::int64_t lengths[] = {110, 20, 40, 12, 30, 25, 18, 60, 20, 30, 12};
    for (std::int32_t i = 0; i < 11; ++i)
      prompts.push_back(std::vector<std::int32_t>(static_cast<std::size_t>(1 + i % 3), i + 1));
    for (std::uint32_t i = 0; i < 11; ++i) list.push_back({prompts[i], 0, i, {}, lengths[i]});
  }
};

void check_equal(const std::vector<Completion>& a, const std::vector<Completion>& b, float tolerance) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].ids == b[i].ids);
    CHECK(a[i].stopped == b[i].stopped);
    REQUIRE(a[i].log_probs.size() == b[i].log_probs.size());
    for (std::size_t t = 0; t < a[i].log_probs.size(); ++t)
      CHECK(std::fabs(a[i].log_probs[t] - b[i].log_probs[t]) <= tolerance);
  }
}

void check_family(Family family, bool lora) {
  CAPTURE(family_name(family), lora);
  const DecoderConfig config = config_of(family);
  Model there = Model::from_config(config, 1);
  HostModel here = HostModel::from_config(config, 1);
  if (lora) add_adapter(there), add_adapter(here);
  Sampler sampler{.seed = 3};
  const Requests requests;
  const auto unstopped = write(here, requests.list, sampler, {.batch = 8}).texts;
  const auto& longest = unstopped[0].ids;
  for (const std::int32_t id : unstopped[2].ids)  // the third text will stop, the first will not
    if (std::find(longest.begin(), longest.end(), id) == longest.end()) sampler.stop_ids = {id};
  GenerateSettings settings{.batch = 8};
  const Written graphs = write(there, requests.list, sampler, settings);
  settings.graphs = GraphUse::off;
  const Written eager = write(there, requests.list, sampler, settings);
  check_equal(graphs.texts, eager.texts, 0);
  check_equal(graphs.texts, write(here, requests.list, sampler, settings).texts, 1e-3f);
  CHECK(eager.launches == 0);
  CHECK(graphs.launches > 90);
  CHECK(graphs.captures >= 3);  // of several numbers of rows
  CHECK(graphs.captures <= 4);  // 8, 4, 2, 1
  CHECK(graphs.texts[0].ids.size() == 110);
  CHECK(graphs.texts[2].stopped);
}

/// A packed matrix of the user's, which says nothing about graphs.
class OwnMatrix final : public PackedMatrix<float, Cuda> {
 public:
  explicit OwnMatrix(Tensor<float, Cuda> values) : values_(std::move(values)) {}
  std::int64_t rows() const override { return values_[0]; }
  std::int64_t columns() const override { return values_[1]; }
  std::int64_t bytes() const override { return values_.bytes(); }
  std::string description() const override { return "a matrix of the test"; }
  void decode(std::int64_t begin, std::int64_t count, float* out) const override {
    Memory<Cuda>::copy(out, values_.data() + begin * columns(),
                       static_cast<std::size_t>(count * columns()) * sizeof(float));
  }
  void multiply_few(std::int64_t m, const float* x, float beta, float* y) const override {
    Kernels<Cuda, float>::gemm(false, true, m, rows(), columns(), 1, x, columns(), values_.data(), columns(), beta, y,
                               rows());
  }
  std::int64_t few_rows() const override { return 8; }

 private:
  Tensor<float, Cuda> values_;
};

}  // namespace

TEST_CASE("rows of a graph are 1, 2, 4, 8, 16, then multiples of 8, and no more than there are slots", "[cuda]") {
  std::vector<std::int64_t> rows;
  for (const std::int64_t n : {1, 2, 3, 4, 5, 8, 9, 16, 17, 24, 25, 64}) rows.push_back(detail::graph_rows(n, 1000));
  CHECK(rows == std::vector<std::int64_t>{1, 2, 4, 4, 8, 8, 16, 16, 24, 24, 32, 64});
  CHECK(detail::graph_rows(9, 12) == 12);
  CHECK(detail::graph_rows(3, 3) == 3);
}

TEST_CASE("graphs write what kernels one by one write, and the CPU: dense", "[cuda]") {
  check_family(Family::qwen2, false);
}
TEST_CASE("graphs write what kernels one by one write, and the CPU: mixture", "[cuda]") {
  check_family(Family::qwen3_moe, false);
}
TEST_CASE("graphs write what kernels one by one write, and the CPU: sinks, windows, biases of experts", "[cuda]") {
  check_family(Family::gpt_oss, false);
}
TEST_CASE("graphs write what kernels one by one write, and the CPU: two tables of angles, LoRA", "[cuda]") {
  check_family(Family::gemma3, true);
}

TEST_CASE("graphs of a model in codes with LoRA, and of a mixture in bf16, write what kernels one by one write",
          "[cuda]") {
  const Sampler sampler{.seed = 3};
  const Requests requests;
  const auto check = [&](auto& model) {
    const Written graphs = write(model, requests.list, sampler, {.batch = 8, .graphs = GraphUse::on});
    CHECK(graphs.captures >= 3);
    check_equal(graphs.texts, write(model, requests.list, sampler, {.batch = 8, .graphs = GraphUse::off}).texts, 0);
  };
  Model coded = Model::from_config(config_of(Family::qwen2), 1);
  quantize_linear(coded, QuantizeSettings{.kind = PackedKind::int4, .group_size = 4});
  add_adapter(coded);
  check(coded);
  auto narrow = Decoder<Cuda, bf16>::from_config(config_of(Family::qwen2_moe), 1);
  check(narrow);
}

TEST_CASE("a number of slots between those of graphs is filled up with slots that stay as they are", "[cuda]") {
  const DecoderConfig config = config_of(Family::qwen2);
  Model model = Model::from_config(config, 1);
  const Sampler sampler{.seed = 3};
  const std::vector<std::int32_t> slots = {4, 0, 2}, last = {7, 8, 9};
  std::vector<double> uniform;
  for (int i = 0; i < 3 * 8; ++i) uniform.push_back(hash_value("uniform", static_cast<std::uint64_t>(i)) + 0.5);
  const auto decode = [&](bool by_graphs) {
    auto cache = model.make_cache(5, 40);
    TokenBatch prompts;
    for (std::int32_t i = 0; i < 5; ++i) prompts.append(std::vector<std::int32_t>(static_cast<std::size_t>(1 + i), i));
    const std::vector<std::int32_t> all = {0, 1, 2, 3, 4};
    model.decode(cache, prompts, all);
    detail::DecodeGraphs graphs(model, cache, sampler);
    PendingRouting<Cuda> routing;
    std::vector<std::int32_t> ids;
    for (int time = 0; time < 3; ++time)
      for (const auto& row : by_graphs ? graphs.decode(last, slots, uniform, routing)
                                       : detail::decode_ahead(model, cache, sampler, last, slots, uniform, routing))
        ids.push_back(row.id);
    CHECK(cache.length(1) == 2);  // what padding wrote does not count
    CHECK(cache.length(3) == 4);
    CHECK(cache.length(4) == 5 + 24);
    // The other slots go on as if nothing had stood beside them.
    for (const auto& row :
         detail::decode_ahead(model, cache, sampler, std::vector<std::int32_t>{1, 2}, std::vector<std::int32_t>{1, 3},
                              std::vector<double>(uniform.begin(), uniform.begin() + 16), routing))
      ids.push_back(row.id);
    return ids;
  };
  const std::int64_t captures = emulated_counts().captures;
  CHECK(decode(true) == decode(false));
  CHECK(emulated_counts().captures == captures + 1);  // of four rows
}

TEST_CASE("graphs are recorded again where weights or switches change, and kept otherwise", "[cuda]") {
  const DecoderConfig config = config_of(Family::qwen3);
  const Sampler sampler{.seed = 3};
  std::vector<double> uniform;
  for (int i = 0; i < 2 * 8; ++i) uniform.push_back(hash_value("uniform", static_cast<std::uint64_t>(i)) + 0.5);
  std::vector<std::int64_t> captures;
  const auto decode = [&](bool by_graphs) {
    Model model = Model::from_config(config, 1);
    add_adapter(model);
    auto cache = model.make_cache(2, 300);
    const std::vector<std::int32_t> slots = {1, 0}, first = {5, 7};
    TokenBatch prompts;
    for (std::int32_t b = 0; b < 2; ++b) prompts.append(std::vector<std::int32_t>(208, b));
    model.decode(cache, prompts, slots);
    detail::DecodeGraphs graphs(model, cache, sampler);
    PendingRouting<Cuda> routing;
    std::vector<std::int32_t> last = first, ids;
    const auto eight = [&] {
      const std::int64_t before = emulated_counts().captures;
      const auto rows = by_graphs ? graphs.decode(last, slots, uniform, routing)
                                  : detail::decode_ahead(model, cache, sampler, last, slots, uniform, routing);
      for (const auto& row : rows) ids.push_back(row.id);
      last.assign(ids.end() - 2, ids.end());
      if (by_graphs) captures.push_back(emulated_counts().captures - before);
    };
    eight(), eight();
    model.set_adapter_enabled(false);
    eight();
    Parameter<float, Cuda>* const weight = model.find_parameter("model.layers.1.mlp.up_proj.weight");
    weight->value = weight->value.clone();
    eight(), eight();
    Memory<Cuda>::fill_zero(weight->value.data(), static_cast<std::size_t>(weight->value.bytes()));  // in place
    eight();
    REQUIRE(cache.length(0) == 256);
    eight();  // the table of angles grows
    return ids;
  };
  const auto by_graphs = decode(true);
  CHECK(by_graphs == decode(false));
  CHECK(captures == std::vector<std::int64_t>{1, 0, 1, 1, 0, 0, 1});
}

TEST_CASE("a larger number of rows takes the memory of graphs over", "[cuda]") {
  DecoderConfig config = config_of(Family::qwen2);
  config.vocab_size = 512;  // logits of four rows need more steps of the arena than those of one
  Model model = Model::from_config(config, 1);
  auto cache = model.make_cache(4, 100);
  const Sampler sampler{.seed = 3};
  const std::vector<std::int32_t> slots = {0, 1, 2, 3}, last = {4, 5, 6, 7};
  const std::vector<double> uniform(32, 0.5);
  detail::DecodeGraphs graphs(model, cache, sampler);
  PendingRouting<Cuda> routing;
  const auto decode = [&](std::size_t n) {
    const std::int64_t before = emulated_counts().captures;
    graphs.decode(std::span(last).first(n), std::span(slots).first(n),
                  std::vector<double>(uniform.begin(), uniform.begin() + static_cast<std::ptrdiff_t>(8 * n)), routing);
    return emulated_counts().captures - before;
  };
  CHECK(decode(1) == 1);
  CHECK(decode(4) == 1);  // drops the memory of the first
  const std::int64_t used = memory_use<Cuda>().now.load();
  CHECK(decode(1) == 1);  // recorded again at once, in the larger memory
  CHECK(memory_use<Cuda>().now.load() == used);
  CHECK(decode(4) == 0);
  CHECK(decode(2) == 1);
  CHECK(decode(1) == 0);
}

TEST_CASE("graphs that are on are refused where the device or the model has none, with the reason", "[cuda]") {
  const DecoderConfig config = config_of(Family::qwen2);
  HostModel here = HostModel::from_config(config, 1);
  const Sampler sampler{.max_new_tokens = 20, .seed = 3};
  const GenerateSettings on{.batch = 2, .graphs = GraphUse::on};
  CHECK_THROWS_WITH(generate(here, {{1}}, sampler, on),
                    contains("graphs are on, but the device cpu does not record steps of this model"));
  Model there = Model::from_config(config, 1);
  const std::vector<std::int32_t> one = {1}, two = {2};
  const std::vector<WritingRequest> both = {{one, 0, 0}, {two, 0, 1}};
  CHECK(write(there, both, sampler, on).launches > 0);
  const auto expected = write(there, both, sampler, {.batch = 2, .graphs = GraphUse::off});
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  there.pack_weight(name, std::make_shared<OwnMatrix>(there.find_parameter(name)->value));
  CHECK_THROWS_WITH(generate(there, {{1}}, sampler, on),
                    contains("graphs are on, but " + name + " (a matrix of the test) is read by the host"));
  const Written without = write(there, both, sampler, {.batch = 2});  // automatic
  CHECK(without.launches == 0);
  check_equal(without.texts, expected.texts, 1e-5f);
}

TEST_CASE("samples of one prompt cost one pass over it on the device, and are those of prompts that run alone",
          "[cuda]") {
  const DecoderConfig config = config_of(Family::qwen2);
  Model model = Model::from_config(config, 1);
  const std::vector<std::int32_t> prompt = {1, 2, 3, 4, 5, 6, 7};
  const std::vector<std::vector<std::int32_t>> four(4, prompt);
  const Sampler sampler{.max_new_tokens = 10, .seed = 3};
  const auto run = [&](std::int64_t batch) {
    GenerationProgress end;
    const EmulatedCounts before = emulated_counts();
    GenerateSettings settings{.batch = batch, .graphs = GraphUse::off};
    settings.progress = [&](const GenerationProgress& p) { end = p; };
    auto texts = generate(model, four, sampler, settings);
    return std::tuple(std::move(texts), end.prompt_tokens, emulated_counts().products - before.products);
  };
  const auto [together, tokens, products] = run(4);
  const auto [alone, all_tokens, all_products] = run(1);
  check_equal(together, alone, 0);
  CHECK(together[0].ids != together[1].ids);
  CHECK(tokens == 7);
  CHECK(all_tokens == 4 * 7);
  // A pass has seven products a layer and the head's: one pass for the prompt and nine for the tokens behind the first.
  CHECK(products == (1 + 9) * (2 * 7 + 1));
  CHECK(all_products == 4 * products);
}
