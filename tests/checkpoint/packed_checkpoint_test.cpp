// SPDX-License-Identifier: Apache-2.0
// Packed checkpoints: what is written is read back bit for bit, and files of bitsandbytes and torchao give their
// weights.
#include "checkpoint/packed_files.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/packed_parts.hpp"
#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/quantize.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

const CodedMatrix<float, Cpu>& codes_of(const Linear<Cpu, float>& l) {
  const auto* m = dynamic_cast<const CodedMatrix<float, Cpu>*>(l.packed().get());
  REQUIRE(m != nullptr);
  return *m;
}

void check_equal(const CodedData& a, const CodedData& b) {
  CHECK(describe(a.settings) == describe(b.settings));
  CHECK(a.rows == b.rows);
  CHECK(a.columns == b.columns);
  CHECK(a.codes == b.codes);
  CHECK(a.scale == b.scale);
  CHECK(a.zero == b.zero);
  CHECK(a.small_scale == b.small_scale);
  CHECK(a.nested_map == b.nested_map);
  CHECK(a.nested_scale == b.nested_scale);
  CHECK(a.nested_offset == b.nested_offset);
}

/// The law: equal codes, equal factors, equal hidden states.
void check_round_trip(Model& model, const std::string& folder, const TokenBatch& batch) {
  const auto expected = model.forward(batch);
  for (const bool in_file : {false, true}) {
    Model back = Model::from_pretrained(
        folder, {.trainable = false, .weights = in_file ? WeightStorage::in_file : WeightStorage::decoded});
    CHECK(back.notes().empty());
    const auto a = model.linears(), b = back.linears();
    for (std::size_t i = 0; i < a.size(); ++i) {
      CAPTURE(a[i]->path);
      CHECK(b[i]->weight() == nullptr);
      check_equal(codes_of(*a[i]).data(), codes_of(*b[i]).data());
    }
    const auto got = back.forward(batch);
    const double worst = max_difference(got.data(), expected.data(), static_cast<std::size_t>(expected.count()));
    if (in_file) CHECK(worst < Tolerance<float>::model);  // other tables are multiplied from the file, in another order
    else CHECK(worst == 0);
  }
}

std::string method_of(const std::string& folder) {
  return std::string(
      Json::parse_file(folder + "/config.json").at("quantization_config").at("quant_method").as_string());
}

/// Packed and decoded weight of a file's module.
Tensor<float, Cpu> read_map(const std::string& path, const std::string& module, std::int64_t rows, std::int64_t columns,
                            PackedForm form) {
  const SafetensorsDirectory files(path);
  std::vector<std::string> names;
  detail::PackedParts parts(files, module, rows, columns, names);
  const auto data = detail::read_packed(parts, {form, {}});
  REQUIRE(data.has_value());
  return CodedMatrix<float, Cpu>(*data).decode_all();
}

}  // namespace

TEST_CASE("codes, scales and hidden states of a packed checkpoint are those of the model that was written",
          "[model][quant]") {
  struct Case {
    QuantizeSettings settings;
    const char* method;
  };
  const Case cases[] = {{{.kind = PackedKind::nf4}, "bitsandbytes"},
                        {{.kind = PackedKind::nf4, .double_quantized = true}, "bitsandbytes"},
                        {{.kind = PackedKind::fp4, .group_size = 128}, "bitsandbytes"},
                        {{.kind = PackedKind::fp4, .group_size = 32, .double_quantized = true}, "bitsandbytes"},
                        {{.kind = PackedKind::int4, .group_size = 32, .rule = Int4Rule::affine}, "torchao"},
                        {{.kind = PackedKind::int4, .group_size = 64, .rule = Int4Rule::affine},
                         "kdlib"},  // rows of 96 end with short groups
                        {{.kind = PackedKind::int4, .group_size = 32}, "kdlib"},
                        {{.kind = PackedKind::int4, .group_size = 20, .rule = Int4Rule::asymmetric}, "kdlib"},
                        {{.kind = PackedKind::int3, .group_size = 32, .rule = Int4Rule::affine}, "kdlib"},
                        {{.kind = PackedKind::int8, .group_size = 32}, "kdlib"},
                        {{.kind = PackedKind::mxfp4, .group_size = 32}, "kdlib"}};
  for (const char* name : {"llama", "qwen2", "qwen3"}) {
    const ReferenceModel r(name);
    for (const Case& c : cases) {
      CAPTURE(name, describe(c.settings));
      Model model = Model::from_pretrained(r.path);
      quantize_linear(model, c.settings);
      const TemporaryDirectory folder;
      const PackedSaveReport report = save_packed(model, folder.path());
      const bool cut = c.settings.rule == Int4Rule::affine && c.settings.kind == PackedKind::int4 &&
                       c.settings.group_size == 32 && std::string(name) == "qwen2";
      CHECK(method_of(folder.path()) == (cut ? "kdlib" : c.method));  // qwen2 has rows of 112
      CHECK(report.matrices == static_cast<std::int64_t>(model.linears().size()));
      CHECK(static_cast<std::uint64_t>(report.bytes) < file_size(folder / "model.safetensors"));
      check_round_trip(model, folder.path(), r.tokens());
    }
  }
}

TEST_CASE("odd counts and rows of odd length survive, group ends inside rows too", "[model][quant]") {
  DecoderConfig config = golden_config(Family::llama);
  config.hidden_size = 9;
  config.intermediate_size = 13;
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 9, 2});
  for (const QuantizeSettings& s :
       {QuantizeSettings{.kind = PackedKind::nf4, .group_size = 32},
        QuantizeSettings{.kind = PackedKind::fp4, .group_size = 32, .double_quantized = true},
        QuantizeSettings{.kind = PackedKind::int4, .group_size = 5},
        QuantizeSettings{.kind = PackedKind::int3, .group_size = 4, .rule = Int4Rule::asymmetric},
        QuantizeSettings{.kind = PackedKind::int4, .group_size = 1, .rule = Int4Rule::affine},
        QuantizeSettings{.kind = PackedKind::mxfp4, .group_size = 32}}) {
    CAPTURE(describe(s));
    Model model = Model::from_config(config, 3);
    quantize_linear(model, s);
    const TemporaryDirectory folder;
    save_packed(model, folder.path());
    check_round_trip(model, folder.path(), batch);
  }
}

TEST_CASE(
    "shards keep the tensors of a weight together, and what is not packed keeps every value in the type of the model",
    "[model][quant]") {
  DecoderConfig config = golden_config(Family::qwen2);
  config.dtype = "bfloat16";
  Model model = Model::from_config(config, 3);
  for (Parameter<float, Cpu>* p : model.parameters())
    for (std::int64_t i = 0; i < p->value.count(); ++i)
      p->value.data()[i] = static_cast<float>(bf16(p->value.data()[i]));
  quantize_linear(model, {.kind = PackedKind::nf4, .group_size = 32, .double_quantized = true});
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 9, 2});
  const TemporaryDirectory folder;
  CHECK(save_packed(model, folder.path(), {.shard_bytes = 2000}).dtype == "bfloat16");
  check_round_trip(model, folder.path(), batch);
  const Json map = Json::parse_file(folder / "model.safetensors.index.json").at("weight_map");
  CHECK(map.at("model.layers.0.mlp.up_proj.weight").as_string() ==
        map.at("model.layers.0.mlp.up_proj.weight.nested_absmax").as_string());
  CHECK(map.at("model.embed_tokens.weight").as_string() != map.at("model.layers.1.mlp.up_proj.weight").as_string());
  model.find_parameter("model.norm.weight")->value.data()[0] = 1.001f;  // no bf16
  CHECK(save_packed(model, folder.path()).dtype == "float32");
  CHECK(path_exists(folder / "model.safetensors"));
  CHECK_FALSE(path_exists(folder / "model.safetensors.index.json"));
  check_round_trip(model, folder.path(), batch);
}

TEST_CASE("a base that is read back bears its adapter as the model that was trained does", "[model][quant]") {
  const ReferenceModel r("llama");
  for (const QuantizeSettings& s :
       {QuantizeSettings{.kind = PackedKind::nf4, .double_quantized = true},
        QuantizeSettings{.group_size = 32, .rule = Int4Rule::affine}, QuantizeSettings{.group_size = 32}}) {
    CAPTURE(describe(s));
    Model model = Model::from_pretrained(r.path);
    quantize_linear(model, s);
    add_lora(model, {.rank = 4, .alpha = 8, .seed = 7});
    for (Parameter<float, Cpu>* p : model.parameters())
      if (p->name.ends_with("lora_B.weight"))
        for (std::int64_t i = 0; i < p->value.count(); ++i)
          p->value.data()[i] = 0.01f * static_cast<float>((i * 7) % 11 - 5);
    const TemporaryDirectory folder;
    CHECK_THROWS_WITH(save_packed(model, folder / "base"), contains("has an adapter that is not in its codes"));
    save_packed(model, folder / "base", {.without_adapter = true});
    save_adapter(model, folder / "adapter");
    Model back = Model::from_pretrained(folder / "base", {.trainable = false});
    load_adapter(back, folder / "adapter");
    for (Model* m : {&model, &back}) {
      const auto hidden = m->forward_training(r.tokens());
      cross_entropy_backward(*m, hidden, r.tokens().rows(), r.tokens().weight());
    }
    const auto a = model.forward(r.tokens()), b = back.forward(r.tokens());
    CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) == 0);
    for (Parameter<float, Cpu>* p : back.parameters()) {
      if (!p->trainable) continue;
      CAPTURE(p->name);
      CHECK(max_difference(p->gradient_view().data(), model.find_parameter(p->name)->gradient_view().data(),
                           static_cast<std::size_t>(p->value.count())) == 0);
    }
  }
}

TEST_CASE("students trained through their codes are written packed as they are", "[model][quant]") {
  const ReferenceModel r("llama");
  for (const QuantizeSettings& s : {QuantizeSettings{.kind = PackedKind::nf4, .group_size = 32},
                                    QuantizeSettings{.group_size = 32, .rule = Int4Rule::affine}})
    for (const TrainedPart part : {TrainedPart::weights, TrainedPart::adapter, TrainedPart::scales}) {
      CAPTURE(describe(s), trained_part_name(part));
      Model student = Model::from_pretrained(r.path);
      if (part == TrainedPart::adapter) add_lora(student, {.rank = 4, .alpha = 8, .seed = 7});
      quantize_student(student, s, {.trains = part});
      for (Parameter<float, Cpu>* p : student.parameters())
        if (p->trainable)
          for (std::int64_t i = 0; i < p->value.count(); ++i)
            p->value.data()[i] +=
                0.003f * static_cast<float>((i * 7) % 11 - 5) * (part == TrainedPart::scales ? 0.1f : 1.0f);
      const TemporaryDirectory folder;
      save_packed(student, folder.path());
      check_round_trip(student, folder.path(), r.tokens());
    }
}

TEST_CASE("maps that stand unpacked in a packed directory are read as they are", "[model][quant]") {
  const ReferenceModel r("qwen3");
  Model dense = Model::from_pretrained(r.path), model = Model::from_pretrained(r.path);
  quantize_linear(model, {.kind = PackedKind::nf4});
  const std::string path = model.linears()[2]->path;
  model.linears()[2]->set_dense(dense.linears()[2]->weight()->value);
  const TemporaryDirectory folder;
  CHECK(save_packed(model, folder.path()).matrices == 20);
  CHECK(Json::parse_file(folder / "config.json").at("quantization_config").at("llm_int8_skip_modules")[1].as_string() ==
        path);
  Model back = Model::from_pretrained(folder.path());
  CHECK(back.linears()[2]->weight() != nullptr);
  const auto a = model.forward(r.tokens()), b = back.forward(r.tokens());
  CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) == 0);
}

TEST_CASE("layers that bitsandbytes wrote give its outputs", "[model][quant]") {
  const std::string path = reference_file("quant/bnb_linear.safetensors");
  const SafetensorsFile file(path);
  for (const std::string layer : {"a", "b"}) {
    const Tensor<float, Cpu> w = read_map(path, layer, 48, 128, PackedForm::bitsandbytes);
    const std::vector<float> x = read_as<float>(file.at("x")), bias = read_as<float>(file.at(layer + ".bias")),
                             expected = read_as<float>(file.at(layer + ".y"));
    std::vector<float> y;
    for (std::size_t i = 0; i < 5; ++i)
      for (std::size_t o = 0; o < 48; ++o) {
        double sum = static_cast<double>(bias[o]);
        for (std::size_t k = 0; k < 128; ++k)
          sum += static_cast<double>(x[i * 128 + k]) * static_cast<double>(w.data()[o * 128 + k]);
        y.push_back(static_cast<float>(sum));
      }
    CHECK(scaled_difference(y.data(), expected.data(), y.size()) < Tolerance<float>::elementwise);
  }
}

TEST_CASE("tensors that bitsandbytes quantised are decoded to its bits", "[model][quant]") {
  const auto reference = shared_file("reference/quant/bnb.safetensors");
  if (!reference) KDLIB_SKIP("reference/quant/bnb.safetensors is not here (set KDLIB_SHARED_DIR)");
  const SafetensorsFile file(*reference);
  for (const std::string& type : {std::string("nf4"), std::string("fp4")})
    for (const bool nested : {false, true}) {  // a count of 477, the last block short
      const std::string name = concat("awkward_fp32.", type, ".64.", nested ? "nested" : "plain");
      CAPTURE(name);
      const TemporaryDirectory folder;
      SafetensorsWriter writer(folder / "model.safetensors");
      const auto copy = [&](const std::string& from, const std::string& to, const Shape& shape) {
        writer.add("m.weight" + to, file.at(from).dtype, shape, file.at(from).data);
      };
      std::string state =
          concat(R"({"quant_type": ")", type, R"(", "blocksize": 64, "dtype": "float32", "shape": [9, 53])");
      copy(name + ".packed", "", Shape{239, 1});
      copy("code." + type, ".quant_map", Shape{16});
      copy(name + ".absmax", ".absmax", Shape{8});
      if (nested) {
        copy(name + ".absmax2", ".nested_absmax", Shape{1});
        copy("code.dynamic", ".nested_quant_map", Shape{256});
        char offset[32];
        std::snprintf(offset, sizeof offset, "%.17g",
                      static_cast<double>(read_as<float>(file.at(name + ".offset"))[0]));
        state += concat(R"(, "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": )", offset);
      }
      state += "}";
      writer.add("m.weight.quant_state.bitsandbytes__" + type, DType::u8,
                 Shape{static_cast<std::int64_t>(state.size())}, std::as_bytes(std::span<const char>(state)));
      writer.commit();
      const Tensor<float, Cpu> w = read_map(folder.path(), "m", 9, 53, PackedForm::bitsandbytes);
      CHECK(max_difference(w.data(), read_as<float>(file.at(name + ".out")).data(), 477) == 0);
    }
}

TEST_CASE("weights that torchao wrote are q * scale + zero of its tensors", "[model][quant]") {
  const std::string path = reference_file("quant/int4_torchao.safetensors");
  const SafetensorsFile file(path);
  for (const int group : {32, 64, 128}) {
    const std::string layer = concat("layer", group);
    const Tensor<float, Cpu> w = read_map(path, layer, 12, 256, PackedForm::torchao);
    const std::vector<std::int8_t> q = read_as<std::int8_t>(file.at(layer + "._weight_qdata"));
    const std::vector<float> scale = read_as<float>(file.at(layer + "._weight_scale")),
                             zero = read_as<float>(file.at(layer + "._weight_zero_point"));
    double worst = 0;
    for (int r = 0; r < 12; ++r)
      for (int k = 0; k < 256; ++k) {
        const int byte = q[static_cast<std::size_t>(r * 128 + k / 2)] & 255,
                  nibble = k % 2 == 0 ? byte & 15 : byte >> 4;
        const auto g = static_cast<std::size_t>(k / group * 12 + r);
        const float value = static_cast<float>(nibble < 8 ? nibble : nibble - 16) * scale[g] + zero[g];
        worst = std::max(worst, static_cast<double>(std::abs(value - w.data()[r * 256 + k])) /
                                    std::max(1.0, static_cast<double>(std::abs(value))));
      }
    CHECK(worst < Tolerance<float>::elementwise);
  }
}

TEST_CASE("weights that torchao wrote are decoded as torchao decodes them", "[model][quant]") {
  const auto shared = shared_file("reference/quant/int4.safetensors");
  if (!shared) KDLIB_SKIP("reference/quant/int4.safetensors is not here (set KDLIB_SHARED_DIR)");
  const std::string path = reference_file("quant/int4_torchao.safetensors");
  const SafetensorsFile expected(*shared);
  for (const int group : {32, 64, 128}) {
    const Tensor<float, Cpu> w = read_map(path, concat("layer", group), 12, 256, PackedForm::torchao);
    CHECK(max_difference(w.data(), read_as<float>(expected.at(concat("plain.bf16.", group, ".out"))).data(),
                         12 * 256) == 0);
  }
}

TEST_CASE("16-bit dtypes of a state and of factors, and codes stored in another type, are read", "[model][quant]") {
  const ReferenceModel r("llama");
  {
    Model model = Model::from_pretrained(r.path);
    quantize_linear(model, {.kind = PackedKind::nf4});
    const TemporaryDirectory folder;
    save_packed(model, folder.path());
    rewrite_states(folder.path(), "\"float32\"", "\"bfloat16\"");
    rewrite_tensors(folder.path(), [](SafetensorsWriter& w, const TensorInfo& t) {
      if (t.name == "model.layers.0.self_attn.q_proj.weight") w.add(t.name, DType::f32, Shape{64 * 64 / 8, 1}, t.data);
      else w.add(t);
    });
    check_round_trip(model, folder.path(), r.tokens());
  }
  Model model = Model::from_pretrained(r.path);
  quantize_linear(model, {.group_size = 32, .rule = Int4Rule::affine});
  for (Linear<Cpu, float>* l : model.linears()) {
    CodedData data = codes_of(*l).data();
    for (std::vector<float>* factors : {&data.scale, &data.zero})
      for (float& x : *factors) x = static_cast<float>(bf16(x));
    l->pack(std::make_shared<CodedMatrix<float, Cpu>>(data));
  }
  const TemporaryDirectory folder;
  save_packed(model, folder.path());
  std::vector<std::vector<float>> values;  // borrowed until the file is written
  values.reserve(64);
  rewrite_tensors(folder.path(), [&](SafetensorsWriter& w, const TensorInfo& t) {
    if (t.name.ends_with("_weight_scale") || t.name.ends_with("_weight_zero_point"))
      w.add_as<bf16>(t.name, t.shape(), std::span<const float>(values.emplace_back(read_as<float>(t))));
    else w.add(t);
  });
  check_round_trip(model, folder.path(), r.tokens());
}

TEST_CASE("save_packed refuses what it cannot write exactly, by name", "[model][quant]") {
  const TemporaryDirectory folder;
  const ReferenceModel r("llama");
  Model dense = Model::from_pretrained(r.path);
  CHECK_THROWS_WITH(save_packed(dense, folder.path()), contains("no linear map has codes"));
  Model mixture = Model::from_config(golden_config(Family::qwen2_moe), 1);
  CHECK_THROWS_WITH(save_packed(mixture, folder.path()),
                    contains("mixtures of experts (qwen2_moe) are not written packed"));
  Model affine = Model::from_pretrained(r.path), nf4 = Model::from_pretrained(r.path);
  quantize_linear(affine, {.group_size = 64, .rule = Int4Rule::affine});
  quantize_linear(nf4, {.kind = PackedKind::nf4});
  CHECK_THROWS_WITH(save_packed(affine, folder.path(), {.form = PackedForm::torchao}),
                    contains("rows of 96 of model.layers.0.mlp.down_proj do not divide into groups of 64"));
  CHECK_THROWS_WITH(save_packed(affine, folder.path(), {.form = PackedForm::bitsandbytes}),
                    contains("holds nf4 and fp4, not int4 affine"));
  CHECK_THROWS_WITH(save_packed(nf4, folder.path(), {.form = PackedForm::torchao}),
                    contains("holds int4 affine, not nf4"));
  CHECK_THROWS_WITH(save_packed(nf4, folder.path(), {.form = PackedForm::kdlib}), contains("has that of bitsandbytes"));
  CHECK_THROWS_WITH(save_packed(nf4, folder.path(), {.dtype = "int8"}), contains("dtype int8"));
  nf4.linears()[3]->pack(affine.linears()[3]->packed());
  CHECK_THROWS_WITH(save_packed(nf4, folder.path()), contains("one directory holds one kind"));
  CHECK(list_directory(folder.path()).empty());
}
