// SPDX-License-Identifier: Apache-2.0
// compress_model: statistics against plain loops, what is lost, pieces and resumed runs, work split by layers, and what
// is refused.
#include "kdlib/checkpoint/compress_model.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "golden.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/materialise.hpp"
#include "support/catch.hpp"
#include "support/fault_hook.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

TokenBatch text_of(int documents) {
  TokenBatch batch;
  for (int d = 0; d < documents; ++d) {
    std::vector<std::int32_t> ids;
    for (int i = 0; i < 9 + d; ++i) ids.push_back((3 * i + 5 * d + i * i) % 16);
    batch.append(ids);
  }
  return batch;
}

CompressModelSettings settings_of(CoreForm form, std::int64_t rank, bool align = true) {
  CompressModelSettings s;
  s.search.form = form;
  s.search.rank = rank;
  s.search.rounds = 3;
  s.align = align;
  s.batch = 2;
  return s;
}

/// A mixture of two layers on disk, and runs that compress it.
struct Job {
  TemporaryDirectory dir;

  explicit Job(Family family = Family::qwen3_moe, const std::function<void(Model&)>& change = {}) {
    DecoderConfig config = golden_config(family);
    config.initializer_range = 0.4;
    Model model = Model::from_config(config, 3);
    if (change) change(model);
    model.save_pretrained(dir / "base");
  }
  Model base() const {
    return Model::from_pretrained(dir / "base", {.trainable = false, .weights = WeightStorage::in_file});
  }
  CompressModelReport run(const CompressModelSettings& s, const std::string& out = "out",
                          const TokenBatch& text = text_of(5)) const {
    Model model = base();
    return compress_model(model, dir / out, s, text);
  }
  std::string refused(const CompressModelSettings& s, const std::string& out = "out") const {
    return refusal([&] { run(s, out, {}); });
  }
};

std::vector<float> logits(Model model) {
  const auto hidden = model.forward(text_of(2));
  return logits_of(model, hidden);
}

/// What enters the router of layer 0.
struct RouterInputs final : LinearObserver<Cpu, float> {
  std::vector<float> x;
  void observe(const Linear<Cpu, float>& map, const Tensor<float, Cpu>& value) override {
    if (map.path == "model.layers.0.mlp.gate") x.insert(x.end(), value.data(), value.data() + value.count());
  }
};

}  // namespace

TEST_CASE("uses and second moments of calibration text equal plain loops", "[model][compress]") {
  const Job job;
  job.run(settings_of(CoreForm::wrappers, 2, false));
  Model model = Model::from_pretrained(job.dir / "base");
  RouterInputs inputs;
  model.forward(text_of(5), inputs);
  const auto* router = model.find_parameter("model.layers.0.mlp.gate.weight");
  const auto* gate_up = model.find_parameter("model.layers.0.mlp.experts.gate_up_proj");
  const std::size_t h = 8, experts = 4, inner = 6, tokens = inputs.x.size() / h;
  std::vector<double> uses(experts, 0.0), in(h * h, 0.0), middle(inner * inner, 0.0);
  for (std::size_t t = 0; t < tokens; ++t) {
    const float* x = inputs.x.data() + t * h;
    std::vector<double> z(experts, 0.0);
    for (std::size_t e = 0; e < experts; ++e)
      for (std::size_t i = 0; i < h; ++i) z[e] += double{router->value.data()[e * h + i]} * double{x[i]};
    std::vector<std::size_t> order(experts);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return z[a] > z[b]; });
    const double first = 1 / (1 + std::exp(z[order[1]] - z[order[0]]));
    for (int k = 0; k < 2; ++k) {
      const std::size_t e = order[static_cast<std::size_t>(k)];
      const double w = k == 0 ? first : 1 - first;
      uses[e] += w * w;
      std::vector<double> a(inner);
      for (std::size_t i = 0; i < inner; ++i) {
        double g = 0, u = 0;
        for (std::size_t j = 0; j < h; ++j) {
          g += double{gate_up->value.data()[(e * 2 * inner + i) * h + j]} * double{x[j]};
          u += double{gate_up->value.data()[(e * 2 * inner + inner + i) * h + j]} * double{x[j]};
        }
        a[i] = g / (1 + std::exp(-g)) * u;
      }
      for (std::size_t i = 0; i < h; ++i)
        for (std::size_t j = 0; j < h; ++j) in[i * h + j] += w * w * double{x[i]} * double{x[j]};
      for (std::size_t i = 0; i < inner; ++i)
        for (std::size_t j = 0; j < inner; ++j) middle[i * inner + j] += w * w * a[i] * a[j];
    }
  }
  const double total = std::accumulate(uses.begin(), uses.end(), 0.0);
  for (double& u : uses) u = (u / total + 0.1 / 4) / 1.1;
  for (auto* m : {&in, &middle})
    for (double& v : *m) v /= total;
  const SafetensorsFile file(job.dir / "out/work/000_layer.safetensors");
  const auto close = [&](const char* name, const std::vector<double>& expected) {
    const std::vector<double> found = read_as<double>(file.at(name));
    REQUIRE(found.size() == expected.size());
    CHECK(scaled_difference(found.data(), expected.data(), expected.size()) < Tolerance<float>::gradient);
  };
  close("uses", uses);
  close("input", in);
  close("middle", middle);
}

TEST_CASE("experts compressed at full rank compute what they did, aligned or not", "[model][compress]") {
  for (const Family family : {Family::qwen3_moe, Family::qwen2_moe})
    for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
      CAPTURE(family_name(family), static_cast<int>(form));
      const Job job(family);
      CompressModelSettings s = settings_of(form, 6);
      s.search.soft = 0;
      s.search.ridge = 1e-8;
      const CompressModelReport report = job.run(s);
      CHECK(report.complete());
      CHECK(report.made == 6);
      for (const LayerReport& l : report.layers) {
        CHECK(l.output_error < 1e-6);
        CHECK(l.after <= l.before);
      }
      const std::vector<float> before = logits(Model::from_pretrained(job.dir / "base")),
                               after = logits(Model::from_pretrained(job.dir / "out"));
      CHECK(max_difference(before.data(), after.data(), before.size()) < 1e-2);
    }
}

TEST_CASE("the report's J is what the materialised experts differ by", "[model][compress]") {
  const Job job;
  const CompressModelReport report = job.run(settings_of(CoreForm::wrappers, 2, false), "out", {});
  REQUIRE(report.maps.size() == 6);
  Model plain = materialise(Model::from_pretrained(job.dir / "out")), base = Model::from_pretrained(job.dir / "base");
  for (const std::string layer : {"0", "1"}) {
    const std::string name = "model.layers." + layer + ".mlp.experts.down_proj";
    const auto *a = base.find_parameter(name), *b = plain.find_parameter(name);
    const double lost =
        normalised_square_error(b->value.data(), a->value.data(), static_cast<std::size_t>(a->value.count()));
    const MapReport& m = report.maps[layer == "0" ? 2 : 5];
    CHECK(m.map == ExpertMap::down);
    CHECK(m.relative == m.relative_plain);
    CHECK(m.relative == Approx(lost).epsilon(1e-4));
    CHECK(m.relative < 0.6);
    CHECK(m.steps.front().name == "mean");
    CHECK(m.steps.back().objective < m.steps.front().objective);
  }
  CHECK(Json::parse_file(job.dir / "out/compress_report.json").at("maps").size() == 6);
}

TEST_CASE("a compression that is killed at any write goes on and ends with the same bytes", "[model][compress]") {
  const OneThread threads;
  const Job job;
  const CompressModelSettings s = settings_of(CoreForm::wrappers, 2);
  job.run(s, "whole");
  const auto expected = run_files(job.dir / "whole");
  int killed = 0;
  for (const char* kind : {"write", "fsync", "rename"})
    for (int n = 1; n <= 14; n += 3) {
      const std::string out = concat("out_", kind, n);
      const int status = status_of_child([&] {
        const Fault fault(concat(kind, ":", n, ":kill"));
        job.run(s, out);
      });
      killed += WIFSIGNALED(status) ? 1 : 0;
      const CompressModelReport report = job.run(s, out);
      CHECK(report.complete());
      INFO(kind << " " << n << ": " << differences(expected, run_files(job.dir / out)));
      CHECK(run_files(job.dir / out) == expected);
    }
  CHECK(killed >= 9);
  const std::string full = refusal([&] {
    const Fault fault("write:4:enospc");
    job.run(s, "full");
  });
  CHECK_THAT(full, contains("full/work/"));
  CHECK(job.run(s, "full").complete());
  CHECK(run_files(job.dir / "full") == expected);
}

TEST_CASE("layers made by two calls, and damaged pieces made again, give the same bytes", "[model][compress]") {
  const Job job;
  CompressModelSettings s = settings_of(CoreForm::residual, 3);
  job.run(s, "whole");
  const auto expected = run_files(job.dir / "whole");
  s.first_layer = s.last_layer = 1;
  const CompressModelReport half = job.run(s);
  CHECK((half.made == 3 && half.missing == 3 && !half.complete()));
  CHECK_FALSE(path_exists(job.dir / "out/config.json"));
  s.first_layer = s.last_layer = 0;
  const CompressModelReport rest = job.run(s);
  CHECK((rest.made == 3 && rest.kept == 3 && rest.complete()));
  CHECK(run_files(job.dir / "out") == expected);
  write_file_atomically(job.dir / "out/work/001_up.safetensors", "not a piece");
  s.last_layer = -1;
  CHECK(job.run(s).made == 1);
  CHECK(run_files(job.dir / "out") == expected);
  CHECK(job.run(s).notes.empty());
  // One bit of a number, of the facts, of the report.
  for (const auto& [name, from_end] : {std::pair("000_gate", 9), {"001_layer", 40}}) {
    const std::string path = concat(job.dir / "out/work/", name, ".safetensors");
    std::string bytes = read_file(path);
    bytes[bytes.size() - static_cast<std::size_t>(from_end)] ^= 4;
    write_file_atomically(path, bytes);
    if (name == std::string("001_layer")) std::remove(concat(job.dir / "out/work/001_up.safetensors").c_str());
    const CompressModelReport again = job.run(s);
    CHECK(again.made == 1);
    REQUIRE(again.notes.size() == 1);
    CHECK_THAT(again.notes[0], contains(name) && contains("checksum is xxh64:") && contains("it is made again"));
    CHECK(run_files(job.dir / "out") == expected);
  }
  const std::string piece = job.dir / "out/work/000_down.safetensors";
  std::string bytes = read_file(piece);
  bytes[bytes.find("relative") + 14] ^= 1;
  write_file_atomically(piece, bytes);
  CHECK(job.run(s).notes.size() == 1);
  CHECK(run_files(job.dir / "out") == expected);
  s.search.rank = 2;
  CHECK_THAT(job.refused(s),
             contains("out holds a model that was made of another one, or with other settings (config.json)"));
}

TEST_CASE("statistics of another compression are taken where they fit, and give the same bytes", "[model][compress]") {
  const Job job;
  CompressModelSettings s = settings_of(CoreForm::residual, 3);
  job.run(settings_of(CoreForm::wrappers, 2), "first");
  job.run(s, "alone");
  s.facts = job.dir / "first";
  std::string told;
  Model model = job.base();
  const auto listen = [&told](const CompressProgress& p) { told += p.what + "\n"; };
  CHECK(compress_model(model, job.dir / "after", s, text_of(5), listen).complete());
  CHECK_THAT(told, contains("layer 0 gate") && !contains("calibration") && !contains("alignment"));
  CHECK(run_files(job.dir / "after") == run_files(job.dir / "alone"));
  // A damaged one is made anew; without any that fits the run is refused.
  write_file_atomically(job.dir / "first/work/001_layer.safetensors", "no facts");
  const CompressModelReport mended = job.run(s, "mended");
  REQUIRE(mended.notes.size() == 1);
  CHECK_THAT(mended.notes[0], contains("first/work/001_layer.safetensors") && contains("it is made again"));
  CHECK(run_files(job.dir / "mended") == run_files(job.dir / "alone"));
  CHECK_THAT(refusal([&] { job.run(s, "other", text_of(4)); }),
             contains("first/work holds no statistics that were made of") &&
                 contains("base with alignment on this calibration text"));
  s.align = false;
  CHECK_THAT(refusal([&] { job.run(s, "other"); }), contains("base without alignment on this calibration text"));
}

TEST_CASE("the layout of earlier files: plain model_type, float16", "[model][compress]") {
  const Job job;
  CompressModelSettings s = settings_of(CoreForm::wrappers, 2);
  s.plain_model_type = true;
  s.dtype = "float16";
  job.run(s);
  const Json config = Json::parse_file(job.dir / "out/config.json");
  CHECK(config.at("model_type").as_string() == "qwen3_moe");
  const Json settings = config.at("compression_config");
  for (const char* key :
       {"model_name", "rank", "num_steps", "lr", "form", "aligned", "init", "calibration_sha256", "version"})
    CHECK(settings.contains(key));
  CHECK(settings.at("calibration_sha256").as_string().size() == 64);
  CHECK(SafetensorsFile(job.dir / "out/model.safetensors").at("model.norm.weight").dtype == DType::f16);
  CHECK(Model::from_pretrained(job.dir / "out").config().moe.core_rank == 2);
}

TEST_CASE("what cannot be compressed is refused with model, layer and numbers", "[model][compress]") {
  const CompressModelSettings fits = settings_of(CoreForm::wrappers, 2);
  CHECK_THAT(Job(Family::qwen3).refused(fits), contains("base (qwen3) has no experts; a mixture of model_type"));
  CHECK_THAT(Job(Family::gpt_oss).refused(fits), contains("base is of model_type gpt_oss, whose experts have biases"));
  const Job job;
  const auto refused = [&](const std::function<void(CompressModelSettings&)>& change) {
    CompressModelSettings s = fits;
    change(s);
    return job.refused(s);
  };
  CHECK_THAT(refused([](auto& s) { s.search.rank = 7; }), contains("rank is 7; experts [6, 8] allow 1 to 6"));
  CHECK_THAT(refused([](auto& s) { s.share = 0.2; }), contains("a share of 0.2 of 4 experts [6, 8] leaves no rank"));
  CHECK_THAT(refused([](auto& s) { s.first_layer = 1, s.last_layer = 2; }),
             contains("layers 1 to 2 of 2; they count from 0"));
  CHECK_THAT(refused([](auto& s) { s.batch = 0; }), contains("batch is 0"));
  CHECK_THAT(refused([](auto& s) { s.search.form = CoreForm::residual, s.plain_model_type = true; }),
             contains("know wrappers only, not form residual"));
  CHECK_FALSE(path_exists(job.dir / "out"));
  const Job broken(Family::qwen3_moe, [](Model& m) {
    m.find_parameter("model.layers.1.mlp.experts.down_proj")->value.data()[2 * 8 * 6] = std::nanf("");
  });
  CompressModelSettings s = fits;
  s.align = false;
  CHECK_THAT(broken.refused(s), contains("base, layer 1 down: ") && contains("expert 2 holds NaN or an infinity"));
  job.run(fits);
  Model compressed = Model::from_pretrained(job.dir / "out");
  CHECK_THAT(refusal([&] { compress_model(compressed, job.dir / "again", fits); }),
             contains("out is compressed already, at rank 2; convert --materialise"));
}

TEST_CASE("a share says the rank, and the plan how much is kept", "[model][compress]") {
  DecoderConfig config = golden_config(Family::qwen3_moe);
  config.hidden_size = 2048, config.moe.intermediate = 768, config.moe.experts = 128, config.moe.active = 8;
  CompressModelSettings s = settings_of(CoreForm::wrappers, 0);
  s.share = 0.2370;
  const CompressPlan plan = plan_compression(config, s, "m");
  CHECK(plan.rank == 64);
  CHECK(static_cast<double>(plan.kept_values) / static_cast<double>(plan.plain_values) == Approx(0.2370).margin(5e-5));
  s.search.form = CoreForm::residual;
  CHECK(plan_compression(config, s, "m").rank == 128);
  CHECK(plan_compression(config, s, "m").kept_values == plan.kept_values);
  CHECK(plan.compressed.parameter_count() - plan.plain.parameter_count() == plan.kept_values - plan.plain_values);
}
