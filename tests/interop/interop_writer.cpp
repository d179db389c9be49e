// SPDX-License-Identifier: Apache-2.0
// Writes what scripts/interop gives to transformers and PEFT: a model as it was read, an adapter with seeded factors, a
// merged model.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/checkpoint/peft_apply.hpp>
#include <kdlib/tools/options.hpp>

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

struct Settings {
  std::string model, out, adapter, make, dtype = "float32";
  bool merge = false;
  int threads = 0;
  std::uint64_t seed = 1;
};

/// Adapters that differ in what their config must say.
kd::LoraSettings adapter_named(const std::string& name, std::uint64_t seed) {
  kd::LoraSettings s;
  s.rank = 4;
  s.alpha = 6;
  s.seed = seed;
  if (name == "all-linear") return s;
  if (name == "qv-rslora") s.targets = {"q_proj", "v_proj"}, s.rslora = true;
  else if (name == "layers") s.targets = {"q_proj", "o_proj"}, s.layers = {0, 2};
  else if (name == "patterns")
    s.rank_pattern = {{"q_proj", 8}, {"layers.1.self_attn.v_proj", 2}}, s.alpha_pattern = {{"o_proj", 2.5}},
    s.exclude = {"k_proj"};
  else kd::fail<kd::ConfigError>("[interop_writer] --make ", name, ": all-linear, qv-rslora, layers or patterns");
  return s;
}

/// B is zero in a new adapter; here it gets numbers, as training would give it.
void fill_second_factors(Model& model, std::uint64_t seed) {
  std::uint32_t row = 1000;
  for (const auto* l : model.linears())
    if (l->lora != nullptr)
      kd::Kernels<kd::Cpu, float>::fill_normal(l->lora->b.value.count(), 0.05, seed, row++, l->lora->b.value.data());
}

void run(const Settings& s) {
  if (s.threads > 0) kd::set_thread_count(s.threads);
  auto model = Model::from_pretrained(s.model, {.trainable = false});
  if (!s.make.empty()) {
    kd::add_lora(model, adapter_named(s.make, s.seed));
    fill_second_factors(model, s.seed);
    return kd::save_adapter(model, s.out);
  }
  if (!s.adapter.empty()) {
    if (s.merge) {
      kd::apply_adapter(model, s.adapter);
    } else {
      kd::load_adapter(model, s.adapter);
      kd::merge_adapter(model);
    }
  }
  model.save_pretrained(s.out, {.dtype = s.dtype, .shard_bytes = std::int64_t{5} << 30});
}

}  // namespace

int main(int argc, char** argv) try {
  Settings s;
  kd::Options options{"interop_writer", "Writes a Hugging Face directory, or a PEFT adapter with --make."};
  options.add("model", s.model, "MODEL", "Hugging Face directory or GGUF file")
      .required()
      .add("out", s.out, "DIR", "the folder to write")
      .required()
      .add("adapter", s.adapter, "DIR", "PEFT adapter to merge: load_adapter and merge_adapter")
      .add("merge", s.merge, "with apply_adapter instead")
      .add("make", s.make, "KIND", "an adapter: all-linear, qv-rslora, layers or patterns")
      .add("dtype", s.dtype, "TYPE", "float32, bfloat16 or float16");
  options.common(s.threads, s.seed).parse(argc, argv);
  run(s);
  return 0;
} catch (const std::exception& error) {
  return kd::report(error);
}
