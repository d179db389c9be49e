// SPDX-License-Identifier: Apache-2.0
// Decoders whose experts share cores: the layer against the mathematics on the host, saving, loading, plain experts
// again, recomputing, shared copies, and configurations that are refused.
#include "golden.hpp"
#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/model/materialise.hpp"
#include "kdlib/model/shared_core.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

DecoderConfig compressed_config(Family family, CoreForm form, std::int64_t rank = 3) {
  DecoderConfig c = golden_config(family);
  c.moe.core_form = form;
  c.moe.core_rank = rank;
  c.initializer_range = 0.4;
  return c;
}

TokenBatch batch_of_two() {
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 3, 7, 2, 11});
  batch.append(std::vector<std::int32_t>{4, 4, 9});
  return batch;
}

template <class M>
double difference(M& a, M& b) {
  const auto x = logits_of(a, a.forward(batch_of_two())), y = logits_of(b, b.forward(batch_of_two()));
  REQUIRE(x.size() == y.size());
  return max_difference(x.data(), y.data(), x.size());
}

DenseMatrix host_matrix(const Parameter<double, Cpu>& p, std::int64_t expert = 0) {
  const int last = p.value.shape().rank() - 1;
  DenseMatrix m(p.value[last - 1], p.value[last]);
  const double* from = p.value.data() + expert * m.rows * m.columns;
  std::copy(from, from + m.values.size(), m.values.begin());
  return m;
}

/// The map of a parameter list as the host's mathematics has it.
SharedCore host_map(const std::vector<Parameter<double, Cpu>*>& p, CoreForm form, std::int64_t experts) {
  SharedCore map;
  map.form = form;
  map.core = host_matrix(*p[0]);
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto of = [&](std::size_t i) { return host_matrix(*p[i], e); };
    if (form == CoreForm::wrappers) map.experts.push_back({of(1), of(2), of(3), of(4), {}, {}});
    else map.experts.push_back({{}, {}, {}, {}, of(1), of(2)});
  }
  return map;
}

/// A directory whose config.json has `from` replaced by `to`.
std::string refused_config(const Model& model, const std::string& from, const std::string& to) {
  const TemporaryDirectory folder;
  model.save_pretrained(folder / "m");
  std::string text = read_file(folder / "m/config.json");
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  write_file_atomically(folder / "m/config.json", text.replace(at, from.size(), to));
  return refusal([&] { Model::from_pretrained(folder / "m"); });
}

}  // namespace

TEST_CASE("a core that multiplies each token once gives what the chain of its factors gives", "[model][compress]") {
  for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
    CAPTURE(static_cast<int>(form));
    auto model = Decoder<Cpu, double>::from_config(compressed_config(Family::qwen3_moe, form), 5);
    model.set_trainable(true);
    if (form == CoreForm::wrappers)
      CHECK_THAT(refusal([&] { model.fold_cores(); }), contains("is trained, and what is formed of it would stay"));
    model.set_trainable(false);
    const auto before = logits_of(model, model.forward(batch_of_two()));
    auto plain = materialise(model.share());
    const auto expected = logits_of(plain, plain.forward(batch_of_two()));
    model.fold_cores();
    const std::size_t parameters = model.parameters().size();
    auto shared = model.share();
    const auto after = logits_of(model, model.forward(batch_of_two()));
    REQUIRE(after.size() == before.size());
    CHECK(max_difference(after.data(), before.data(), after.size()) < Tolerance<double>::reduction);
    CHECK(max_difference(after.data(), expected.data(), after.size()) < Tolerance<double>::reduction);
    CHECK(logits_of(shared, shared.forward(batch_of_two())) == after);
    model.fold_cores();  // once is enough
    CHECK(model.parameters().size() == parameters);
  }
}

TEST_CASE("a layer of shared cores computes what the host's mathematics does", "[model][compress]") {
  const std::int64_t experts = 3, out = 5, in = 4, rows = 6;
  for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
    CAPTURE(static_cast<int>(form));
    const SharedCoreMap<Cpu, double> map("map", experts, out, in, form, 2);
    for (Parameter<double, Cpu>* p : map.parameters()) {
      p->value = Tensor<double, Cpu>(p->value.shape());
      for (std::int64_t i = 0; i < p->value.count(); ++i)
        p->value.data()[i] = hash_value(p->name, static_cast<std::uint64_t>(i));
    }
    const SharedCore host = host_map(map.parameters(), form, experts);
    Tensor<double, Cpu> x(Shape{rows, in}), logits(Shape{rows, experts}), w(Shape{out, in});
    for (std::int64_t i = 0; i < x.count(); ++i) x.data()[i] = hash_value("x", static_cast<std::uint64_t>(i));
    for (std::int64_t i = 0; i < logits.count(); ++i) logits.data()[i] = hash_value("z", static_cast<std::uint64_t>(i));
    Tape<double, Cpu> tape(false);
    const auto routing = route(tape, RouterRule{experts, 1, true}, Var<double, Cpu>{logits, nullptr});
    const auto sorted = sort_by_expert(tape, routing, Var<double, Cpu>{x, nullptr});
    const auto y = map.forward(tape, routing, sorted);
    for (std::int64_t e = 0; e < experts; ++e) {
      map.weight(e, w.data());
      const DenseMatrix expected = host.weight(static_cast<std::size_t>(e));
      CHECK(max_difference(w.data(), expected.values.data(), expected.values.size()) < Tolerance<double>::reduction);
      for (std::int64_t r = routing.offsets.data()[e]; r < routing.offsets.data()[e + 1]; ++r) {
        DenseMatrix column(in, 1);
        std::copy_n(sorted.value.data() + r * in, in, column.values.begin());
        const DenseMatrix result = host.apply(static_cast<std::size_t>(e), column);
        CHECK(max_difference(y.value.data() + r * out, result.values.data(), result.values.size()) <
              Tolerance<double>::reduction);
      }
    }
  }
}

TEST_CASE("a compressed decoder saves, loads, shares its memory and becomes plain with the same logits",
          "[model][compress]") {
  for (const Family family : {Family::qwen3_moe, Family::qwen2_moe})
    for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
      CAPTURE(family_name(family), static_cast<int>(form));
      Model model = Model::from_config(compressed_config(family, form), 5);
      std::int64_t values = 0;
      for (const auto* p : model.parameters()) values += p->value.count();
      CHECK(values == model.config().parameter_count());
      const TemporaryDirectory folder;
      model.save_pretrained(folder / "m");
      const Json config = Json::parse_file(folder / "m/config.json");
      CHECK(config.at("model_type").as_string() == std::string(family_name(family)) + "_shared_core");
      CHECK(config.at("compression_config").at("rank").as_int() == 3);
      const SafetensorsFile file(folder / "m/model.safetensors");
      CHECK(file.find("model.layers.1.mlp.experts.down_shared_core.core") != nullptr);
      CHECK(file.at(form == CoreForm::wrappers ? "model.layers.0.mlp.experts.gate_shared_core.experts.3.input_wrapper.V"
                                               : "model.layers.0.mlp.experts.gate_shared_core.experts.3.residual.B")
                .shape() == Shape{8, 3});
      Model again = Model::from_pretrained(folder / "m");
      CHECK(again.notes().empty());
      CHECK(difference(model, again) == 0);
      Model in_file = Model::from_pretrained(folder / "m", {.trainable = false, .weights = WeightStorage::in_file});
      CHECK(difference(model, in_file) < Tolerance<float>::model);
      Model copy = model.share();
      CHECK(difference(model, copy) == 0);
      again.save_pretrained(folder / "n");
      CHECK(read_file(folder / "m/config.json").size() > 100);
      CHECK(read_file(folder / "n/model.safetensors") == read_file(folder / "m/model.safetensors"));
      Model plain = materialise(std::move(again));
      CHECK(difference(model, plain) < 1e-5);
      plain.save_pretrained(folder / "plain");
      const Json plain_config = Json::parse_file(folder / "plain/config.json");
      CHECK(plain_config.at("model_type").as_string() == family_name(family));
      CHECK_FALSE(plain_config.contains("compression_config"));
      CHECK(plain_config.at("architectures")[0].as_string().find("SharedCore") == std::string_view::npos);
      Model loaded = Model::from_pretrained(folder / "plain");
      CHECK(difference(model, loaded) < 1e-5);
      CHECK_THAT(refusal([&] { materialise(std::move(plain)); }),
                 contains("[materialise] the model (") && contains("it is plain already"));
      CHECK_THAT(refusal([&] { save_gguf(model, nullptr, folder / "m.gguf", {}); }),
                 contains("[save_gguf] experts that share cores") && contains("convert --materialise"));
    }
}

TEST_CASE("files that keep the plain model_type beside compression_config read and write as such",
          "[model][compress]") {
  DecoderConfig config = compressed_config(Family::qwen3_moe, CoreForm::wrappers);
  config.compression_by_key = true;
  config.compression_json = R"({"model_name": "Qwen/Qwen3-30B-A3B", "rank": 3, "num_steps": 1000, "lr": 0.001})";
  config.dtype = "float16";
  Model model = Model::from_config(config, 5);
  const TemporaryDirectory folder;
  model.save_pretrained(folder / "m");
  for (const char* name : {"m", "n"}) {
    const Json json = Json::parse_file(folder / (std::string(name) + "/config.json"));
    CHECK(json.at("model_type").as_string() == "qwen3_moe");
    CHECK(json.at("compression_config").at("num_steps").as_int() == 1000);
    Model read = Model::from_pretrained(folder / name);
    CHECK(read.config().compression_by_key);
    CHECK(difference(model, read) < Tolerance<f16>::model);
    if (name[0] == 'm') read.save_pretrained(folder / "n");
  }
}

TEST_CASE("without factors a compressed layer is a layer of copies of its cores", "[model][compress]") {
  DecoderConfig config = compressed_config(Family::qwen3_moe, CoreForm::wrappers);
  Model model = Model::from_config(config, 5);
  for (auto* p : model.parameters())
    if (p->name.ends_with("_wrapper.U")) p->value.fill_zero();
  Model plain = materialise(model.share());
  for (auto* p : plain.parameters()) {
    if (!detail::is_expert_tensor(p->name)) continue;
    const std::int64_t one = p->value.count() / 4;
    for (std::int64_t e = 1; e < 4; ++e)
      CHECK(max_difference(p->value.data(), p->value.data() + e * one, static_cast<std::size_t>(one)) == 0);
  }
  CHECK(difference(model, plain) < 1e-5);
}

TEST_CASE("the objective's gradient of cores and factors, with and without recomputing", "[model][compress]") {
  for (const bool recompute : {false, true}) {
    CAPTURE(recompute);
    auto model = Decoder<Cpu, double>::from_config(compressed_config(Family::qwen3_moe, CoreForm::wrappers, 2), 1);
    const TokenBatch batch = batch_of_two();
    const auto objective = [&] {
      const auto hidden = model.forward_training(batch, {.recompute = recompute});
      return cross_entropy_backward(model, hidden, batch.rows(), batch.weight(), false);
    };
    cross_entropy_backward(model, model.forward_training(batch, {.recompute = recompute}), batch.rows(),
                           batch.weight());
    for (const char* ending : {"layers.0.mlp.experts.gate_shared_core.core", "down_shared_core.input_wrapper.U",
                               "layers.1.mlp.experts.up_shared_core.output_wrapper.V", "layers.0.mlp.gate.weight"})
      for (Parameter<double, Cpu>* p : model.parameters()) {
        if (!p->name.ends_with(ending)) continue;
        CAPTURE(p->name);
        const auto gradient = p->gradient.clone();
        CHECK(gradient_error(p->value.data(), gradient.data(), p->value.count(), Tolerance<double>::difference_step,
                             objective, 3) < Tolerance<double>::finite_difference);
      }
  }
}

TEST_CASE("configurations of compressed mixtures that do not fit are refused by key and value", "[model][compress]") {
  const Model model = Model::from_config(compressed_config(Family::qwen3_moe, CoreForm::wrappers), 5);
  CHECK_THAT(refused_config(model, "\"rank\": 3", "\"rank\": 7"),
             contains("config.json: compression_config.rank is 7; experts [6, 8] allow 1 to 6"));
  CHECK_THAT(refused_config(model, "\"rank\": 3", "\"rank\": 0"), contains("compression_config.rank is 0; it must be"));
  CHECK_THAT(refused_config(model, "\"rank\": 3", "\"rank\": 2"),
             contains("core.experts.0.input_wrapper.U\" (F32 [8, 3]): config.json asks for [8, 2]"));
  CHECK_THAT(refused_config(model, "\"form\": \"wrappers\"", "\"form\": \"sums\""),
             contains("compression_config.form is \"sums\"; it can be wrappers or residual"));
  CHECK_THAT(refused_config(model, "\"form\": \"wrappers\"", "\"form\": \"residual\""),
             contains("experts.0.residual.A\" [6, 3] is missing"));
  CHECK_THAT(refused_config(model, "\"version\": 1", "\"version\": 2"),
             contains("compression_config.version is 2; this reader needs 1"));
  CHECK_THAT(refused_config(model, "\"compression_config\"", "\"no_compression\""),
             contains("model_type is qwen3_moe_shared_core, and compression_config is missing"));
  DecoderConfig gpt = golden_config(Family::gpt_oss);
  gpt.moe.core_rank = 2;
  CHECK_THAT(refusal([&] { Model::from_config(gpt, 1); }), contains("model_type gpt_oss cannot share cores"));
}
