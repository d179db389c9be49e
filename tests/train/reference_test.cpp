// SPDX-License-Identifier: Apache-2.0
// Twenty steps of distillation by transformers, PEFT, TRL's loss and torch AdamW (tests/reference/training): the same
// losses, gradient norms and rates, and the same movement of the weights.
#include <algorithm>
#include <cmath>
#include <map>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/loss/jensen_shannon.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"
#include "support/training_parts.hpp"

namespace {
using Model = kdlib::Decoder<kdlib::Cpu, float>;
using Half = kdlib::Decoder<kdlib::Cpu, kdlib::bf16>;
using kdlib_tests::reference_file;

// What tests/reference/training/README.md asks for; float32 against float64 of the script itself differ by 3e-7 and
// 1e-5.
struct Limits {
  double loss = 1e-5, movement = 1e-3, norm = 1e-4;
};
// In bf16 the losses of all steps stay within 2 %.
constexpr Limits half_limits{2e-2, 0.2, 0.1};  // gradients of 8 bits each; measured: 3.5e-3, 0.095, 0.076

struct Reference {
  kdlib::Json json;
  kdlib::SafetensorsFile tensors;
  explicit Reference(const std::string& name)
      : json(kdlib::Json::parse_file(reference_file("training/" + name + ".json"))),
        tensors(reference_file("training/" + name + ".safetensors")) {}

  std::vector<kdlib::TokenBatch> batches() const {
    const auto shape = tensors.at("ids").shape();
    const auto ids = kdlib::read_as<std::int64_t>(tensors.at("ids")),
               mask = kdlib::read_as<std::int64_t>(tensors.at("mask")),
               counted = kdlib::read_as<std::int64_t>(tensors.at("loss_mask"));
    const auto size = static_cast<std::size_t>(shape[1] * shape[2]);
    std::vector<kdlib::TokenBatch> out;
    for (std::size_t i = 0; i < static_cast<std::size_t>(shape[0]); ++i)
      out.push_back(kdlib::TokenBatch::from_padded(std::span(ids).subspan(i * size, size),
                                                   std::span(mask).subspan(i * size, size), shape[1], shape[2],
                                                   std::span(counted).subspan(i * size, size)));
    return out;
  }
};

/// kdlib's name of a trained parameter: PEFT's modules carry the adapter's name, its files do not.
std::string file_name(std::string name) {
  const std::size_t at = name.find(".default.weight");
  if (at != std::string::npos) name.erase(at, 8);
  return name;
}

using Values = std::map<std::string, std::vector<float>>;

/// The trained parameters with the reference's values of `prefix` ("start." or "end.").
Values values_of(const Reference& reference, const std::string& prefix) {
  Values values;
  for (const auto& info : reference.tensors.tensors())
    if (info.name.rfind(prefix, 0) == 0)
      values[file_name(info.name.substr(prefix.size()))] = kdlib::read_as<float>(info);
  return values;
}

/// Trained parameters begin at `start` (rounded, in bf16); `has_start`: they must be there already.
template <class Student>
void set_start(Student& student, Values& start, bool has_start) {
  std::size_t trained = 0;
  for (auto* p : student.parameters()) {
    if (!p->trainable) continue;
    ++trained;
    INFO(p->name);
    REQUIRE(start.count(p->name) == 1);
    REQUIRE(static_cast<std::int64_t>(start[p->name].size()) == p->value.count());
    if (!has_start) std::copy(start[p->name].begin(), start[p->name].end(), p->values_to_write().data());
    p->values_changed();
    const auto values = p->trained_values();
    CHECK(std::equal(start[p->name].begin(), start[p->name].end(), values.data()));
  }
  REQUIRE(trained == start.size());
}

/// Distance from the reference's last values over the distance that they moved.
template <class Student>
double movement_error(Student& student, Values& start, Values& end) {
  double difference = 0, movement = 0;
  for (auto* p : student.parameters()) {
    if (!p->trainable) continue;
    const auto values = p->trained_values();
    for (std::size_t i = 0; i < start[p->name].size(); ++i) {
      const double moved = static_cast<double>(end[p->name][i]) - static_cast<double>(start[p->name][i]);
      const double error = static_cast<double>(values.data()[i]) - static_cast<double>(end[p->name][i]);
      difference += error * error;
      movement += moved * moved;
    }
  }
  CHECK(movement > 0);
  return std::sqrt(difference / movement);
}

template <class Student, class Loss>
void compare(const std::string& name, Student& student, Student& teacher, Loss loss, bool has_start,
             Limits limits = {}) {
  const Reference reference(name);
  const kdlib::Json settings = reference.json.at("settings"), history = reference.json.at("history");
  Values start = values_of(reference, "start."), end = values_of(reference, "end.");
  set_start(student, start, has_start);

  const std::int64_t steps = settings.at("steps").as_int();
  kdlib::Trainer trainer{
      student, kdlib_tests::ListedBatches{reference.batches()},
      kdlib::Objective{kdlib_tests::TestTeacher<Student>{teacher}, loss},
      kdlib::AdamW{.beta2 = 0.95, .weight_decay = settings.at("decay").as_double()},
      kdlib::WarmupLinear{
          .peak = settings.at("rate").as_double(), .warmup = settings.at("warmup").as_int(), .total = steps}};
  kdlib::MemoryMetrics metrics;
  trainer.run(
      {.steps = steps, .micro_batches = settings.at("micro").as_int(), .clip_norm = settings.at("clip").as_double()},
      metrics);

  double worst_loss = 0, worst_norm = 0;
  const auto losses = metrics.series("train/loss"), norms = metrics.series("train/grad_norm"),
             rates = metrics.series("train/rate"), tokens = metrics.series("train/tokens");
  REQUIRE(losses.size() == history.size());
  for (std::size_t i = 0; i < history.size(); ++i) {
    worst_loss = std::max(worst_loss, std::abs(losses[i].second / history[i].at("loss").as_double() - 1));
    worst_norm = std::max(worst_norm, std::abs(norms[i].second / history[i].at("grad_norm").as_double() - 1));
    CHECK(kdlib_tests::near(rates[i].second, history[i].at("rate").as_double(),
                            kdlib_tests::Tolerance<double>::elementwise));
    CHECK(tokens[i].second == history[i].at("tokens").as_double());
  }
  CHECK(worst_loss < limits.loss);
  CHECK(worst_norm < std::max(limits.loss, limits.norm));

  const double moved = movement_error(student, start, end);
  CHECK(moved < limits.movement);
  std::printf("[reference] %s: loss %.2e, gradient norm %.2e, movement %.2e\n", name.c_str(), worst_loss, worst_norm,
              moved);
}
}  // namespace

TEST_CASE("twenty steps of forward KL on all weights follow the reference", "[train][reference]") {
  Model student = Model::from_pretrained(reference_file("models/llama")),
        teacher = Model::from_pretrained(reference_file("models/llama3_rope_bias"));
  student.set_trainable(true);
  compare("full_forward_kl", student, teacher, kdlib::ForwardKl{}, true);
}

TEST_CASE("twenty steps of Jensen-Shannon at temperature 2 on LoRA factors follow the reference",
          "[train][reference]") {
  Model student = Model::from_pretrained(reference_file("models/llama")),
        teacher = Model::from_pretrained(reference_file("models/qwen3"));
  kdlib::add_lora(student, {.rank = 4, .alpha = 8, .targets = {"q_proj", "v_proj", "down_proj"}});
  compare("lora_jsd", student, teacher, kdlib::JensenShannon{.beta = 0.5, .temperature = 2, .t_squared = false}, false);
}

TEST_CASE("twenty steps of reverse KL on a mixture of experts follow the reference", "[train][reference]") {
  Model student = Model::from_pretrained(reference_file("models/qwen3_moe")),
        teacher = Model::from_pretrained(reference_file("models/qwen2_moe"));
  compare("moe_reverse_kl", student, teacher, kdlib::ReverseKl{}, true,
          {.loss = 1e-4});  // routing may turn on the last bit
}

TEST_CASE("twenty steps in bf16 stay within 2 % of the reference's losses", "[train][reference][bf16]") {
  Half student = Half::from_pretrained(reference_file("models/llama")),
       teacher = Half::from_pretrained(reference_file("models/qwen3"));
  kdlib::add_lora(student, {.rank = 4, .alpha = 8, .targets = {"q_proj", "v_proj", "down_proj"}});
  compare("lora_jsd", student, teacher, kdlib::JensenShannon{.beta = 0.5, .temperature = 2, .t_squared = false}, false,
          half_limits);
}

TEST_CASE("a bf16 run that goes on from a checkpoint ends with the bytes of one that was left alone", "[train][bf16]") {
  const auto run = [](std::int64_t steps, const std::string& folder) {
    Half student = Half::from_pretrained(reference_file("models/llama")),
         teacher = Half::from_pretrained(reference_file("models/qwen3"));
    kdlib::add_lora(student, {.rank = 4, .alpha = 8, .targets = {"q_proj", "v_proj", "down_proj"}});
    kdlib::Trainer trainer{student, kdlib_tests::ListedBatches{Reference("lora_jsd").batches()},
                           kdlib::Objective{kdlib_tests::TestTeacher<Half>{teacher},
                                            kdlib::JensenShannon{.beta = 0.5, .temperature = 2, .t_squared = false}},
                           kdlib::AdamW{}, kdlib::WarmupLinear{.peak = 1e-3, .warmup = 1, .total = 6}};
    trainer.run({.steps = steps, .save_every = 2}, kdlib::NoMetrics{}, kdlib::Directory{folder});
    std::vector<float> masters;
    for (auto* p : kdlib::trainable_parameters(student)) {
      REQUIRE(p->master);
      masters.insert(masters.end(), p->master.data(), p->master.data() + p->master.count());
      for (std::int64_t i = 0; i < p->value.count(); ++i)
        REQUIRE(p->value.data()[i].bits == kdlib::bf16(p->master.data()[i]).bits);
    }
    return masters;
  };
  const kdlib_tests::TemporaryDirectory folder;
  const std::vector<float> whole = run(6, folder / "whole");
  run(4, folder / "parts");
  CHECK(run(6, folder / "parts") == whole);
  const std::optional<kdlib::TrainState> saved = kdlib::Directory{folder / "whole"}.latest();
  REQUIRE(saved);
  for (const kdlib::HostTensor& tensor : saved->parameters) CHECK(tensor.dtype == kdlib::DType::f32);
}
