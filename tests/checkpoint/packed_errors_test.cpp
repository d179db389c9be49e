// SPDX-License-Identifier: Apache-2.0
// Packed checkpoints that are broken, lie or are of a kind that is not read: the message names the file, the key, what
// was found and what was expected.
#include "checkpoint/packed_files.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/quantize.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

const std::string module_path = "model.layers.1.mlp.up_proj", victim = module_path + ".weight";  // [12, 8]

/// A folder with a packed model of two layers.
struct Checkpoint {
  TemporaryDirectory folder;

  explicit Checkpoint(const QuantizeSettings& settings) {
    Model model = Model::from_config(golden_config(Family::qwen2), 1);
    quantize_linear(model, settings);
    save_packed(model, folder.path());
    REQUIRE(refusal() == "nothing was refused");
  }
  std::string refusal() const {
    std::string texts[2];
    for (const bool in_file : {false, true})
      texts[in_file] = kdlib_tests::refusal([&] {
        Model::from_pretrained(
            folder.path(), {.trainable = false, .weights = in_file ? WeightStorage::in_file : WeightStorage::decoded});
      });
    CHECK(texts[0] == texts[1]);
    return texts[0];
  }
  /// Replaces the tensor `name` by zeros of another type and shape; without a shape it goes.
  const Checkpoint& with(const std::string& name, DType dtype, const Shape& shape) const {
    const std::vector<std::byte> zeros(static_cast<std::size_t>(shape.count()) * dtype_bits(dtype) / 8);
    bool found = false;
    rewrite_tensors(folder.path(), [&](SafetensorsWriter& w, const TensorInfo& t) {
      if (t.name == name) found = true;
      else w.add(t);
      if (t.name == name && shape.rank() > 0) w.add(name, dtype, shape, zeros);
    });
    REQUIRE(found);
    return *this;
  }
  const Checkpoint& adding(const std::string& name, DType dtype, const Shape& shape) const {
    const std::vector<std::byte> zeros(static_cast<std::size_t>(shape.count()) * dtype_bits(dtype) / 8);
    bool once = true;
    rewrite_tensors(folder.path(), [&](SafetensorsWriter& w, const TensorInfo& t) {
      w.add(t);
      if (std::exchange(once, false)) w.add(name, dtype, shape, zeros);
    });
    return *this;
  }
  const Checkpoint& state(const std::string& from, const std::string& to) const {
    rewrite_states(folder.path(), from, to);
    return *this;
  }
  const Checkpoint& config(const std::string& from, const std::string& to) const {
    rewrite_config(folder.path(), from, to);
    return *this;
  }
  /// Replaces text in what torchao's metadata say of the victim.
  const Checkpoint& entry(const std::string& from, const std::string& to) const {
    rewrite_file(
        folder.path(), [](SafetensorsWriter& w, const TensorInfo& t) { w.add(t); },
        [&](const std::string& key, const std::string& text) {
          return key == victim ? replaced(text, from, to) : text;
        });
    return *this;
  }
};

const QuantizeSettings nf4{.kind = PackedKind::nf4, .group_size = 32},
    nested{.kind = PackedKind::fp4, .group_size = 32, .double_quantized = true},
    affine{.group_size = 4, .rule = Int4Rule::affine}, shifted{.group_size = 4, .rule = Int4Rule::asymmetric},
    mxfp4{.kind = PackedKind::mxfp4, .group_size = 32}, int3{.kind = PackedKind::int3, .group_size = 5};

}  // namespace

TEST_CASE("bitsandbytes: counts, bytes, tables and texts that do not fit are refused", "[model][load][quant]") {
  const std::string place = victim + " [12, 8]: ";
  CHECK_THAT(Checkpoint(nf4).with(victim + ".absmax", DType::f32, Shape{4}).refusal(),
             contains(place) && contains("absmax\" (F32 [4]) must be [3]"));
  CHECK_THAT(Checkpoint(nf4).with(victim + ".absmax", DType::u8, Shape{3}).refusal(),
             contains(place) && contains("must be F32"));
  CHECK_THAT(Checkpoint(nf4).with(victim + ".absmax", DType::f32, Shape{}).refusal(),
             contains("absmax\" is missing, and the quant_state asks for it"));
  CHECK_THAT(Checkpoint(nf4).with(victim, DType::u8, Shape{47, 1}).refusal(),
             contains("has 47 bytes, the codes take 48"));
  CHECK_THAT(Checkpoint(nf4).with(victim + ".quant_map", DType::f32, Shape{16}).refusal(),
             contains("quant_map: element 0 is 0") && contains("in nf4 it is -1"));
  CHECK_THAT(Checkpoint(nf4).with(victim + ".quant_state.bitsandbytes__nf4", DType::u8, Shape{}).refusal(),
             contains("absmax\" is there without"));
  CHECK_THAT(Checkpoint(nf4).with(victim + ".quant_state.bitsandbytes__nf4", DType::u8, Shape{9}).refusal(),
             contains("quant_state.bitsandbytes__nf4"));
  CHECK_THAT(Checkpoint(nf4).adding(victim + ".quant_state.bitsandbytes__fp4", DType::u8, Shape{2}).refusal(),
             contains("both a quant_state of nf4 and one of fp4"));
  CHECK_THAT(Checkpoint(nf4).state("\"nf4\"", "\"fp4\"").refusal(),
             contains("quant_type is \"fp4\", the key ends with nf4"));
  CHECK_THAT(Checkpoint(nf4).state("\"nf4\"", "\"nf5\"").refusal(), contains("quant_type is \"nf5\""));
  CHECK_THAT(Checkpoint(nf4).state("\"float32\"", "\"int8\"").refusal(), contains("dtype is \"int8\""));
  CHECK_THAT(Checkpoint(nf4).state("\"blocksize\":32", "\"blocksize\":48").refusal(),
             contains("blocksize: ") && contains("not of 48"));
  CHECK_THAT(Checkpoint(nf4).state("\"blocksize\":32", "\"blocksize\":64").refusal(), contains("must be [2]"));
  CHECK_THAT(Checkpoint(nf4).state("\"blocksize\":32", "\"size\":32").refusal(), contains("blocksize is missing"));
  CHECK_THAT(Checkpoint(nf4).state("8]", "9]").refusal(), contains("shape is another shape than the model's"));
  const Checkpoint other(nf4);
  rewrite_tensors(other.folder.path(), [](SafetensorsWriter& w, const TensorInfo& t) {
    TensorInfo renamed = t;
    if (t.name == victim + ".quant_state.bitsandbytes__nf4") renamed.name = victim + ".quant_state.bitsandbytes__int7";
    w.add(renamed);
  });
  CHECK_THAT(other.refusal(), contains("bitsandbytes__int7") && contains("nf4 and fp4 are read, this is unknown"));
}

TEST_CASE("bitsandbytes: nested scales that do not fit are refused", "[model][load][quant]") {
  CHECK_THAT(Checkpoint(nested).with(victim + ".absmax", DType::f32, Shape{3}).refusal(),
             contains("absmax\" (F32 [3]) must be U8"));
  CHECK_THAT(Checkpoint(nested).with(victim + ".nested_absmax", DType::f32, Shape{2}).refusal(),
             contains("must be [1]"));
  CHECK_THAT(Checkpoint(nested).with(victim + ".nested_quant_map", DType::f32, Shape{}).refusal(),
             contains("nested_quant_map\" is missing"));
  CHECK_THAT(Checkpoint(nested).state("\"nested_blocksize\":256", "\"nested_blocksize\":128").refusal(),
             contains("nested_blocksize is 128, 256 is supported"));
  CHECK_THAT(Checkpoint(nested).state("\"nested_dtype\":\"float32\"", "\"nested_dtype\":\"float16\"").refusal(),
             contains("nested_dtype is \"float16\""));
  CHECK_THAT(Checkpoint(nested).state("\"nested_offset\":", "\"nested_offset\":1e300,\"was\":").refusal(),
             contains("beyond float"));
  CHECK_THAT(Checkpoint(nf4).adding(victim + ".nested_absmax", DType::f32, Shape{1}).refusal(),
             contains("nested_absmax\" has no place"));
}

TEST_CASE("torchao: other tensor types and tensors that do not fit are refused", "[model][load][quant]") {
  for (const char* type : {"Int4TilePackedTo4dTensor", "Int8Tensor", "Float8Tensor", "MXTensor"})
    CHECK_THAT(Checkpoint(affine).entry("Int4Tensor", type).refusal(),
               contains(victim) && contains(concat("torchao's tensor type ", type, " is not read; Int4Tensor is")));
  CHECK_THAT(Checkpoint(affine).entry("\"Int4Tensor\"", "\"Tensor\"").refusal(),
             contains("the metadata of the file do not say what it is"));
  CHECK_THAT(Checkpoint(affine).entry("[1,4]", "[1,3]").refusal(),
             contains("rows of 8 do not divide into groups of 3"));
  CHECK_THAT(Checkpoint(affine).entry("[1,4]", "[4,1]").refusal(), contains("block_size is not [1, group]"));
  CHECK_THAT(Checkpoint(affine).entry("[12,8]", "[8,12]").refusal(),
             contains("shape is another shape than the model's"));
  CHECK_THAT(Checkpoint(affine).entry("\"_data\":{\"block_size\"", "\"_data\":{\"block\"").refusal(),
             contains("block_size is missing"));
  CHECK_THAT(Checkpoint(affine).with(module_path + "._weight_qdata", DType::i8, Shape{12, 8}).refusal(),
             contains("_weight_qdata\" (I8 [12, 8]) must be [12, 4]"));
  CHECK_THAT(Checkpoint(affine).with(module_path + "._weight_qdata", DType::i32, Shape{12, 4}).refusal(),
             contains("must be U8"));
  CHECK_THAT(Checkpoint(affine).with(module_path + "._weight_scale", DType::f32, Shape{12, 2}).refusal(),
             contains("must be [2, 12]"));
  CHECK_THAT(Checkpoint(affine).with(module_path + "._weight_zero_point", DType::f32, Shape{}).refusal(),
             contains("_weight_zero_point\" is missing"));
  CHECK_THAT(Checkpoint(affine).with(module_path + "._weight_scale", DType::i32, Shape{2, 12}).refusal(),
             contains("must be F32, BF16 or F16"));
  CHECK_THAT(Checkpoint(affine).adding(module_path + "._weight_act_pre_scale", DType::f32, Shape{8}).refusal(),
             contains("_weight_act_pre_scale"));
}

TEST_CASE("kdlib's form: settings and tensors that do not fit are refused", "[model][load][quant]") {
  CHECK_THAT(Checkpoint(shifted).config("\"int4\"", "\"int5\"").refusal(),
             contains("config.json: quantization_config") && contains("\"int5\" is unknown"));
  CHECK_THAT(Checkpoint(shifted).config("\"asymmetric\"", "\"odd\"").refusal(),
             contains("the rule \"odd\" is unknown"));
  CHECK_THAT(Checkpoint(shifted).config("\"int4\"", "\"nf4\"").refusal(), contains("belongs to int3, int4 and int8"));
  CHECK_THAT(Checkpoint(shifted).config("\"group_size\": 4", "\"group_size\": 0").refusal(),
             contains("groups of 0 are not possible"));
  CHECK_THAT(Checkpoint(shifted).config("\"group_size\": 4", "\"group_size\": 8").refusal(),
             contains("must be [16, 1]"));
  CHECK_THAT(Checkpoint(shifted).config("\"group_size\"", "\"group\"").refusal(), contains("group_size is missing"));
  CHECK_THAT(Checkpoint(shifted).with(victim + ".zero", DType::f32, Shape{}).refusal(),
             contains(victim + ".zero\" is missing"));
  CHECK_THAT(Checkpoint(shifted).with(victim + ".scale", DType::f32, Shape{}).refusal(),
             contains(victim + ".scale\" is missing"));
  CHECK_THAT(Checkpoint(shifted).with(victim, DType::u8, Shape{12, 4}).refusal(), contains("must be [48, 1]"));
  CHECK_THAT(Checkpoint(shifted).with(victim, DType::f32, Shape{12, 8}).refusal(),
             contains("(F32 [12, 8]) must be U8"));
  CHECK_THAT(Checkpoint(shifted).adding("lm_head.weight.scale", DType::f32, Shape{16, 2}).refusal(),
             contains("lm_head is packed"));
  CHECK_THAT(Checkpoint(mxfp4).with(victim + ".scale", DType::u8, Shape{12, 2}).refusal(), contains("must be [12, 1]"));
  const Checkpoint nan(mxfp4), infinite(shifted), spare(int3);
  const auto poison = [](const Checkpoint& c, const std::string& name, const std::vector<std::uint8_t>& bytes) {
    rewrite_tensors(c.folder.path(), [&](SafetensorsWriter& w, const TensorInfo& t) {
      if (t.name != name) return w.add(t);
      std::vector<std::byte> changed(t.data.begin(), t.data.end());
      std::memcpy(changed.data(), bytes.data(), bytes.size());
      w.add_from(t.name, t.dtype, t.shape(), [changed](AtomicFile& f) { f.write(changed.data(), changed.size()); });
    });
    return c.refusal();
  };
  CHECK_THAT(poison(nan, victim + ".scale", {255}), contains("element 0 is 255 (NaN)"));
  CHECK_THAT(poison(infinite, victim + ".scale", {0, 0, 128, 127}), contains("element 0 is not finite"));
  CHECK_THAT(poison(spare, "model.layers.1.mlp.down_proj.weight", {0, 0, 0, 0, 255}),
             contains("row 0 has bits behind its last code"));  // 12 codes of 3 bits in 5 bytes
}

TEST_CASE("packed methods and models that are not read are refused by name", "[model][load][quant]") {
  CHECK_THAT(Checkpoint(nf4).config("\"load_in_8bit\": false", "\"load_in_8bit\": true").refusal(),
             contains("load_in_8bit"));
  CHECK_THAT(Checkpoint(nf4).config("\"bitsandbytes\"", "\"gptq\"").refusal(),
             contains("quant_method \"gptq\" is not supported for qwen2"));
  const TemporaryDirectory folder;
  Model::from_config(golden_config(Family::qwen2_moe), 1).save_pretrained(folder.path());
  rewrite_config(folder.path(), "\"model_type\"",
                 "\"quantization_config\": {\"quant_method\": \"torchao\"}, \"model_type\"");
  CHECK_THAT(kdlib_tests::refusal([&] { Model::from_pretrained(folder.path()); }),
             contains("quant_method \"torchao\" is read for dense models; mixtures of experts (qwen2_moe) are not"));
}
