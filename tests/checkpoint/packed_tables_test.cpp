// SPDX-License-Identifier: Apache-2.0
// Packed directories of models that came from GGUF: embedding and head stay in their blocks, bit for bit.
#include <algorithm>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/model/quantize.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

/// A tied or untied Llama as a GGUF file of that type.
std::string write_gguf(const std::string& path, GgufType type, bool untied) {
  Model model = Model::from_pretrained(reference_file("models/llama"));
  if (untied) {
    model.untie_head();
    float* head = model.find_parameter("lm_head.weight")->value.data();
    std::reverse(head, head + 320 * 64);
  }
  save_gguf(model, nullptr, path, {.type = type});
  return path;
}

std::vector<float> table(const Model& model, const std::string& name) {
  for (const PackedWeight<Cpu, float>& w : model.packed_weights())
    if (w.name == name) {
      const auto values = w.matrix->decode_all();
      return {values.data(), values.data() + values.count()};
    }
  const auto& values = const_cast<Model&>(model).find_parameter(name)->value;
  return {values.data(), values.data() + values.count()};
}

Model load(const std::string& path, WeightStorage weights) {
  return Model::from_pretrained(path, {.trainable = false, .weights = weights});
}

}  // namespace

TEST_CASE("the base of a GGUF model keeps embedding and head in their blocks and is no larger than file and codes",
          "[checkpoint][packed]") {
  for (const GgufType type : {GgufType::q8_0, GgufType::q4_0, GgufType::q5_1})
    for (const bool untied : {false, true})
      for (const WeightStorage storage : {WeightStorage::decoded, WeightStorage::in_file}) {
        CAPTURE(gguf_type_name(type), untied, storage == WeightStorage::in_file);
        const TemporaryDirectory dir;
        const std::string source = write_gguf(dir / "m.gguf", type, untied);
        Model model = load(source, storage);
        const std::vector<float> embedding = table(model, "model.embed_tokens.weight");
        const QuantizeReport codes = quantize_linear(model, {.kind = PackedKind::int4, .group_size = 32});
        const PackedSaveReport report = save_packed(model, dir / "base");
        CHECK(report.form == PackedForm::kdlib);
        CHECK(report.stored == (untied ? 2 : 1));
        CHECK(report.bytes <= static_cast<std::int64_t>(file_size(source)) + codes.bytes);
        for (const WeightStorage back_in : {WeightStorage::decoded, WeightStorage::in_file}) {
          Model back = load(dir / "base", back_in);
          CHECK(back.notes().empty());
          CHECK(table(back, "model.embed_tokens.weight") == embedding);
          if (untied) CHECK(table(back, "lm_head.weight") == table(model, "lm_head.weight"));
          // A base that is read and written again keeps its blocks.
          CHECK(save_packed(back, dir / "again").stored == report.stored);
          CHECK(table(load(dir / "again", back_in), "model.embed_tokens.weight") == embedding);
        }
      }
}

TEST_CASE("a table that changed since it was read, and forms that others read, hold numbers", "[checkpoint][packed]") {
  const TemporaryDirectory dir;
  const std::string source = write_gguf(dir / "m.gguf", GgufType::q8_0, false);
  Model model = load(source, WeightStorage::decoded);
  model.find_parameter("model.embed_tokens.weight")->value.data()[77] += 1;
  const std::vector<float> embedding = table(model, "model.embed_tokens.weight");
  quantize_linear(model, {.kind = PackedKind::int4, .group_size = 32});
  CHECK(save_packed(model, dir / "changed").stored == 0);
  CHECK(table(load(dir / "changed", WeightStorage::decoded), "model.embed_tokens.weight") == embedding);

  Model nf4 = load(source, WeightStorage::decoded);
  quantize_linear(nf4, {.kind = PackedKind::nf4, .group_size = 64});
  const PackedSaveReport numbers = save_packed(nf4, dir / "numbers");
  CHECK(numbers.form == PackedForm::bitsandbytes);
  CHECK(numbers.stored == 0);
  const PackedSaveReport blocks = save_packed(nf4, dir / "blocks", {.stored_tables = true});
  CHECK(blocks.stored == 1);
  CHECK(blocks.bytes < numbers.bytes);
  CHECK(table(load(dir / "blocks", WeightStorage::decoded), "model.embed_tokens.weight") ==
        table(load(dir / "numbers", WeightStorage::decoded), "model.embed_tokens.weight"));
}

TEST_CASE("tables in blocks that do not fit their description are refused", "[checkpoint][packed]") {
  const TemporaryDirectory dir;
  Model model = load(write_gguf(dir / "m.gguf", GgufType::q8_0, false), WeightStorage::decoded);
  quantize_linear(model, {.kind = PackedKind::int4, .group_size = 32});
  save_packed(model, dir / "base");
  const std::string text = read_file(dir / "base/config.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    REQUIRE(changed.find(from) != std::string::npos);
    changed.replace(changed.find(from), from.size(), to);
    write_file_atomically(dir / "base/config.json", changed);
    return refusal([&] { Model::from_pretrained(dir / "base"); });
  };
  CHECK_THAT(with("\"Q8_0\"", "\"Q4_0\""), contains("model.embed_tokens.weight") && contains("asks for [320, 36]"));
  CHECK_THAT(with("\"Q8_0\"", "\"Q9_9\""), contains("the type Q9_9 is not decoded"));
  CHECK_THAT(with("\"model.embed_tokens.weight\": \"Q8_0\"", "\"model.norm.weight\": \"Q8_0\""),
             contains("kdlib_stored names model.norm.weight"));
  CHECK(with("\"Q8_0\"", "\"Q8_0\"") == "nothing was refused");
}
