// SPDX-License-Identifier: Apache-2.0
// Bodies of packed_save.hpp.
#ifndef KDLIB_CHECKPOINT_PACKED_SAVE_INL_HPP
#define KDLIB_CHECKPOINT_PACKED_SAVE_INL_HPP

#include <algorithm>
#include <cstring>
#include <optional>

#include "kdlib/checkpoint/packed_load_inl.hpp"
#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/checkpoint/packed_tables_inl.hpp"
#include "kdlib/checkpoint/save_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One tensor of a packed weight: its bytes are made when their turn comes.
struct PackedPart {
  std::string suffix;  // behind the module's path
  DType dtype = DType::u8;
  Shape shape;
  std::function<std::vector<std::uint8_t>(const CodedData&)> bytes;
};

template <class E>
std::vector<std::uint8_t> raw_bytes(const std::vector<E>& values) {
  std::vector<std::uint8_t> out(values.size() * sizeof(E));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

/// Two codes a byte of the flattened matrix; `filler` ends an odd count.
inline std::vector<std::uint8_t> nibble_bytes(const CodedData& data, bool first_high, std::uint8_t filler) {
  const std::int64_t n = data.rows * data.columns;
  std::vector<std::uint8_t> all(static_cast<std::size_t>(n + n % 2), filler), out(all.size() / 2);
  parallel_for(data.rows, 1 + 4096 / (data.columns + 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      unpack_codes(data.codes.data() + r * data.row_bytes(), 4,
                   std::span<std::uint8_t>(all).subspan(static_cast<std::size_t>(r * data.columns),
                                                        static_cast<std::size_t>(data.columns)));
  });
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] =
        static_cast<std::uint8_t>(first_high ? all[2 * i] << 4 | all[2 * i + 1] : all[2 * i] | all[2 * i + 1] << 4);
  return out;
}

inline std::string quant_state_text(const QuantizeSettings& settings, std::int64_t rows, std::int64_t columns,
                                    float nested_offset) {
  JsonWriter state;
  state.begin_object()
      .member("quant_type", packed_kind_name(settings.kind))
      .member("blocksize", settings.group_size)
      .member("dtype", "float32");
  state.key("shape").begin_array().value(rows).value(columns).end_array();
  if (settings.double_quantized)
    state.member("nested_blocksize", 256).member("nested_dtype", "float32").member("nested_offset", nested_offset);
  return state.end_object().text();
}

inline std::vector<PackedPart> bitsandbytes_parts(const QuantizeSettings& settings, const CodedRanges& r) {
  const PackedKind kind = settings.kind;
  const std::string state = quant_state_text(settings, r.rows, r.columns, r.nested_offset);
  const auto filler = static_cast<std::uint8_t>(kind == PackedKind::nf4 ? 7 : 0);  // the code of 0
  std::vector<PackedPart> parts = {{".weight", DType::u8, Shape{(r.rows * r.columns + 1) / 2, 1},
                                    [filler](const CodedData& d) { return nibble_bytes(d, true, filler); }},
                                   {".weight.quant_map", DType::f32, Shape{16},
                                    [kind](const CodedData&) {
                                      const std::array<float, 16> levels = code_levels(kind);
                                      return raw_bytes(std::vector<float>(levels.begin(), levels.end()));
                                    }},
                                   {concat(".weight.quant_state.bitsandbytes__", packed_kind_name(kind)), DType::u8,
                                    Shape{static_cast<std::int64_t>(state.size())}, [state](const CodedData&) {
                                      return std::vector<std::uint8_t>(state.begin(), state.end());
                                    }}};
  if (!settings.double_quantized) {
    parts.push_back(
        {".weight.absmax", DType::f32, Shape{r.groups()}, [](const CodedData& d) { return raw_bytes(d.scale); }});
    return parts;
  }
  parts.push_back({".weight.absmax", DType::u8, Shape{r.groups()}, [](const CodedData& d) { return d.small_scale; }});
  parts.push_back({".weight.nested_absmax", DType::f32, Shape{(r.groups() + 255) / 256},
                   [](const CodedData& d) { return raw_bytes(d.nested_scale); }});
  parts.push_back(
      {".weight.nested_quant_map", DType::f32, Shape{256}, [](const CodedData& d) { return raw_bytes(d.nested_map); }});
  return parts;
}

/// [rows, groups] as [groups, rows].
inline std::vector<std::uint8_t> transposed_bytes(const std::vector<float>& values, std::int64_t rows) {
  const std::size_t n = static_cast<std::size_t>(rows), groups = values.size() / n;
  std::vector<float> out(values.size());
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t g = 0; g < groups; ++g) out[g * n + r] = values[r * groups + g];
  return raw_bytes(out);
}

inline std::vector<PackedPart> torchao_parts(const CodedRanges& r) {
  const Shape across{r.row_groups(), r.rows};
  return {
      {"._weight_qdata", DType::i8, Shape{r.rows, r.columns / 2},
       [](const CodedData& d) { return nibble_bytes(d, false, 0); }},
      {"._weight_scale", DType::f32, across, [](const CodedData& d) { return transposed_bytes(d.scale, d.rows); }},
      {"._weight_zero_point", DType::f32, across, [](const CodedData& d) { return transposed_bytes(d.zero, d.rows); }}};
}

inline std::vector<PackedPart> kdlib_parts(const QuantizeSettings& settings, const CodedRanges& r) {
  const Shape factors{r.rows, r.row_groups()};
  CodedData sizes;
  sizes.settings = settings;
  sizes.columns = r.columns;
  std::vector<PackedPart> parts = {
      {".weight", DType::u8, Shape{r.rows * stored_row_bytes(sizes), 1}, [](const CodedData& d) {
         const std::int64_t width = stored_row_bytes(d);
         std::vector<std::uint8_t> out(static_cast<std::size_t>(d.rows * width));
         for (std::int64_t row = 0; row < d.rows; ++row)
           std::memcpy(out.data() + row * width, d.codes.data() + row * d.row_bytes(), static_cast<std::size_t>(width));
         return out;
       }}};
  if (settings.kind == PackedKind::mxfp4)
    parts.push_back({".weight.scale", DType::u8, factors, [](const CodedData& d) { return d.small_scale; }});
  else parts.push_back({".weight.scale", DType::f32, factors, [](const CodedData& d) { return raw_bytes(d.scale); }});
  if (r.zero != nullptr)
    parts.push_back({".weight.zero", DType::f32, factors, [](const CodedData& d) { return raw_bytes(d.zero); }});
  return parts;
}

/// The object quantization_config; `plain` are modules that are not packed.
template <class D, class T>
std::string quantization_config_text(PackedForm form, const QuantizeSettings& settings,
                                     const std::vector<std::string>& plain,
                                     const std::vector<SavedTensor<D, T>>& tensors) {
  JsonWriter out;
  out.begin_object().member("quant_method", packed_form_name(form));
  if (form == PackedForm::bitsandbytes) {
    out.member("load_in_4bit", true)
        .member("load_in_8bit", false)
        .member("bnb_4bit_quant_type", packed_kind_name(settings.kind));
    out.member("bnb_4bit_use_double_quant", settings.double_quantized)
        .member("bnb_4bit_compute_dtype", "float32")
        .member("bnb_4bit_quant_storage", "uint8");
    out.member("llm_int8_enable_fp32_cpu_offload", false)
        .member("llm_int8_has_fp16_weight", false)
        .member("llm_int8_skip_modules", plain)
        .member("llm_int8_threshold", 6.0);
  } else if (form == PackedForm::torchao) {
    out.key("quant_type")
        .begin_object()
        .key("default")
        .begin_object()
        .member("_type", "Int4WeightOnlyConfig")
        .member("_version", 2);
    out.key("_data").begin_object().member("group_size", settings.group_size).end_object().end_object().end_object();
    out.member("modules_to_not_convert", plain).member("include_input_output_embeddings", false);
  } else {
    out.member("kind", packed_kind_name(settings.kind)).member("group_size", settings.group_size);
    if (is_integer_kind(settings.kind)) out.member("rule", int4_rule_name(settings.rule));
    out.member("modules_to_not_convert", plain);
  }
  if (std::any_of(tensors.begin(), tensors.end(), [](const auto& t) { return !t.blocks.empty(); })) {
    out.key("kdlib_stored").begin_object();
    for (const SavedTensor<D, T>& t : tensors)
      if (!t.blocks.empty()) out.member(t.name, gguf_type_name(t.block_type));
    out.end_object();
  }
  return out.end_object().text();
}

/// torchao's description of every tensor, for the header of each file.
template <class D, class T>
SafetensorsMetadata torchao_metadata(const std::vector<std::pair<std::string, const CodedMatrix<T, D>*>>& coded,
                                     const std::vector<SavedUnit>& plain) {
  SafetensorsMetadata metadata;
  JsonWriter names;
  names.begin_array();
  for (const auto& [module, matrix] : coded) {
    JsonWriter entry;
    entry.begin_object().member("_type", "Int4Tensor").key("_data").begin_object();
    entry.key("block_size").begin_array().value(1).value(matrix->settings().group_size).end_array();
    entry.key("shape").begin_array().value(matrix->rows()).value(matrix->columns()).end_array();
    entry.key("activation_dtype")
        .begin_object()
        .member("_type", "torch.dtype")
        .member("_data", "bfloat16")
        .end_object()
        .end_object();
    entry.key("_tensor_data_names")
        .begin_array()
        .value("qdata")
        .value("scale")
        .value("zero_point")
        .end_array()
        .end_object();
    metadata.emplace_back(module + ".weight", entry.text());
    names.value(module + ".weight");
  }
  for (const SavedUnit& unit : plain) {
    metadata.emplace_back(unit.names[0], "{\"_type\":\"Tensor\"}");
    names.value(unit.names[0]);
  }
  metadata.emplace_back("tensor_names", names.end_array().text());
  return metadata;
}

template <class S, class D, class T>
bool keeps_values(const std::vector<SavedTensor<D, T>>& tensors) {
  bool kept = true;
  for (const SavedTensor<D, T>& t : tensors)
    if (t.blocks.empty())
      each_saved_piece(t, [&](const T* values, std::size_t count) {
        for (std::size_t i = 0; i < count && kept; ++i)
          kept = static_cast<T>(static_cast<float>(static_cast<S>(values[i]))) == values[i];
      });
  return kept;
}

/// The type of what is not packed.
template <class D, class T>
std::string plain_dtype(const std::vector<SavedTensor<D, T>>& tensors, const std::string& asked,
                        const std::string& of_config) {
  if (!asked.empty()) {
    check_saved_dtype(asked, "[save_packed] ");
    return asked;
  }
  if (of_config == "bfloat16" && keeps_values<bf16>(tensors)) return of_config;
  if (of_config == "float16" && keeps_values<f16>(tensors)) return of_config;
  return "float32";
}

/// Which form holds these codes exactly, or a refusal of the one that was asked for.
inline PackedForm choose_packed_form(const std::optional<PackedForm>& asked, const QuantizeSettings& settings,
                                     const std::string& cut_module, std::int64_t columns) {
  const bool table = settings.kind == PackedKind::nf4 || settings.kind == PackedKind::fp4;
  const bool affine = settings.kind == PackedKind::int4 && settings.rule == Int4Rule::affine;
  if (!asked)
    return table ? PackedForm::bitsandbytes : affine && cut_module.empty() ? PackedForm::torchao : PackedForm::kdlib;
  const char* name = packed_form_name(*asked);
  require<ConfigError>(*asked != PackedForm::bitsandbytes || table, "[save_packed] the form of ", name,
                       " holds nf4 and fp4, not ", describe(settings));
  require<ConfigError>(*asked != PackedForm::torchao || affine, "[save_packed] the form of ", name,
                       " holds int4 affine, not ", describe(settings));
  require<ConfigError>(*asked != PackedForm::kdlib || !table, "[save_packed] the form of ", name,
                       " holds integers and mxfp4; ", describe(settings), " has that of bitsandbytes");
  require<ConfigError>(*asked != PackedForm::torchao || cut_module.empty(), "[save_packed] the form of ", name,
                       " has no short groups: rows of ", columns, " of ", cut_module, " do not divide into groups of ",
                       settings.group_size, "; the form of kdlib holds them");
  return *asked;
}

/// Maps with codes, in file order; all of one kind.
template <class D, class T>
std::vector<std::pair<std::string, const CodedMatrix<T, D>*>> coded_maps(const Decoder<D, T>& model,
                                                                         std::vector<std::string>& plain,
                                                                         bool without_adapter) {
  std::vector<std::pair<std::string, const CodedMatrix<T, D>*>> coded;
  for (const Linear<D, T>* l : model.linears()) {
    const auto* matrix = dynamic_cast<const CodedMatrix<T, D>*>(l->packed().get());
    require<ConfigError>(l->lora == nullptr || l->adapter_in_codes() || (without_adapter && !l->merged()),
                         "[save_packed] ", l->path,
                         " has an adapter that is not in its codes: save the base alone (without_adapter) and "
                         "save_adapter(model, directory), or merge_into_codes(model) first");
    if (matrix == nullptr) plain.push_back(l->path);
    else coded.emplace_back(l->path, matrix);
  }
  require<ConfigError>(!coded.empty(),
                       "[save_packed] no linear map has codes: quantize_linear(model, settings) first, or "
                       "save_pretrained for dense weights");
  for (const auto& [path, matrix] : coded)
    require<ConfigError>(describe(matrix->settings()) == describe(coded[0].second->settings()), "[save_packed] ", path,
                         " has ", matrix->description(), ", ", coded[0].first, " has ", coded[0].second->description(),
                         ": one directory holds one kind");
  return coded;
}

/// The codes of a matrix on the host, copied once for the tensors that are made of them and freed behind the last.
template <class D, class T>
class CodesOnHost {
 public:
  CodesOnHost(const CodedMatrix<T, D>& matrix, std::size_t uses) : matrix_(&matrix), uses_(uses) {}
  template <class F>
  auto use(F&& make) {
    auto out = make(data_ ? *data_ : data_.emplace(matrix_->data()));
    if (++used_ % uses_ == 0) data_.reset();
    return out;
  }

 private:
  const CodedMatrix<T, D>* matrix_;
  std::size_t uses_, used_ = 0;
  std::optional<CodedData> data_;
};

template <class D, class T>
SavedUnit packed_unit(const std::string& module, const CodedMatrix<T, D>* matrix, PackedForm form) {
  const QuantizeSettings& settings = matrix->settings();
  const CodedRanges& r = matrix->ranges();
  std::vector<PackedPart> parts = form == PackedForm::bitsandbytes ? bitsandbytes_parts(settings, r)
                                  : form == PackedForm::torchao    ? torchao_parts(r)
                                                                   : kdlib_parts(settings, r);
  SavedUnit unit;
  for (const PackedPart& part : parts) {
    unit.names.push_back(module + part.suffix);
    unit.bytes += part.shape.count() * static_cast<std::int64_t>(dtype_bits(part.dtype) / 8);
  }
  const auto codes = std::make_shared<CodesOnHost<D, T>>(*matrix, parts.size());
  unit.add = [module, codes, parts = std::move(parts)](SafetensorsWriter& writer) {
    for (const PackedPart& part : parts)
      writer.add_from(module + part.suffix, part.dtype, part.shape, [codes, make = part.bytes](AtomicFile& file) {
        const std::vector<std::uint8_t> bytes = codes->use(make);
        file.write(bytes.data(), bytes.size());
      });
  };
  return unit;
}

}  // namespace detail

template <class D, class T>
PackedSaveReport save_packed(Decoder<D, T>& model, const std::string& directory, const PackedSaveSettings& settings) {
  const DecoderConfig& config = model.config();
  require<ConfigError>(config.mixtures() == 0, "[save_packed] mixtures of experts (", family_name(config.family),
                       ") are not written packed");
  std::vector<std::string> plain_maps{"lm_head"};
  const auto coded = detail::coded_maps(model, plain_maps, settings.without_adapter);
  const QuantizeSettings kind = coded[0].second->settings();
  const auto cut = std::find_if(coded.begin(), coded.end(), [&](const auto& c) {
    return c.second->columns() % kind.group_size != 0 || c.second->columns() % 2 != 0;
  });
  PackedSaveReport report;
  report.form = detail::choose_packed_form(settings.form, kind, cut == coded.end() ? "" : cut->first,
                                           cut == coded.end() ? 0 : cut->second->columns());
  auto tensors = detail::tensors_to_save<D, T>(model.parameters(), model.linears(), model.packed_weights(), config);
  tensors.erase(
      std::remove_if(tensors.begin(), tensors.end(),
                     [](const auto& t) { return dynamic_cast<const CodedMatrix<T, D>*>(t.packed) != nullptr; }),
      tensors.end());
  model.refresh_codes();
  if (settings.stored_tables.value_or(report.form == PackedForm::kdlib && settings.dtype.empty()))
    report.stored = detail::find_stored_tables(model, tensors);
  report.dtype = detail::plain_dtype(tensors, settings.dtype, config.dtype);
  report.matrices = static_cast<std::int64_t>(coded.size());
  std::vector<detail::SavedUnit> units = detail::saved_units(tensors, report.dtype);
  detail::SafetensorsMetadata metadata;
  if (report.form == PackedForm::torchao) metadata = detail::torchao_metadata<D, T>(coded, units);
  for (const auto& [module, matrix] : coded) units.push_back(detail::packed_unit(module, matrix, report.form));
  std::sort(units.begin(), units.end(), [](const auto& a, const auto& b) { return a.names[0] < b.names[0]; });
  for (const detail::SavedUnit& unit : units) report.bytes += unit.bytes;
  make_directories(directory);
  detail::write_weights(directory, units, settings.shard_bytes, metadata);
  write_file_atomically(join_path(directory, "config.json"),
                        hf_config_text(config, report.dtype,
                                       detail::quantization_config_text<D, T>(report.form, kind, plain_maps, tensors)));
  return report;
}

KDLIB_NAMESPACE_END

#endif
