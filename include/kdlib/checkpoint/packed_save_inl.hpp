// SPDX-License-Identifier: Apache-2.0
// Bodies of packed_save.hpp.
#ifndef KDLIB_CHECKPOINT_PACKED_SAVE_INL_HPP
#define KDLIB_CHECKPOINT_PACKED_SAVE_INL_HPP

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/checkpoint/packed_tables_inl.hpp"
#include "kdlib/checkpoint/save_inl.hpp"
#include "kdlib/checkpoint/saved_units.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/quant/coded_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One tensor of a packed weight: its bytes are made when their turn comes.
struct PackedPart {
  std::string suffix;  // behind the module's path
  DType dtype = DType::u8;
  Shape shape;
  std::function<std::vector<std::uint8_t>(const CodedData&)> bytes;
};

/// A map of a packed directory of torchao's form.
struct PackedModule {
  std::string path;
  std::int64_t rows = 0, columns = 0, group_size = 0;
};

/// The tensors that hold codes with these ranges.
std::vector<PackedPart> packed_layout(PackedForm form, const QuantizeSettings& settings, const CodedRanges& r);
/// The object quantization_config; `plain` are modules that are not packed, `stored` tables in blocks.
std::string quantization_config_text(PackedForm form, const QuantizeSettings& settings,
                                     const std::vector<std::string>& plain,
                                     const std::vector<std::pair<std::string, GgufType>>& stored);
/// torchao's description of every tensor, for the header of each file.
SafetensorsMetadata torchao_metadata(const std::vector<PackedModule>& coded, const std::vector<SavedUnit>& plain);
/// Which form holds these codes exactly, or a refusal of the one that was asked for.
PackedForm choose_packed_form(const std::optional<PackedForm>& asked, const QuantizeSettings& settings,
                              const std::string& cut_module, std::int64_t columns);

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
  const std::vector<PackedPart> parts = packed_layout(form, settings, r);
  const auto codes = std::make_shared<CodesOnHost<D, T>>(*matrix, parts.size());
  SavedUnit unit;
  for (const PackedPart& part : parts) {
    unit.bytes += part.shape.count() * static_cast<std::int64_t>(dtype_bits(part.dtype) / 8);
    const auto write = [codes, make = part.bytes](AtomicFile& file) {
      const std::vector<std::uint8_t> bytes = codes->use(make);
      file.write(bytes.data(), bytes.size());
    };
    unit.pieces.push_back({module + part.suffix, part.dtype, part.shape, write});
  }
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
  if (report.form == PackedForm::torchao) {
    std::vector<detail::PackedModule> maps;
    for (const auto& [module, matrix] : coded)
      maps.push_back({module, matrix->rows(), matrix->columns(), matrix->settings().group_size});
    metadata = detail::torchao_metadata(maps, units);
  }
  for (const auto& [module, matrix] : coded) units.push_back(detail::packed_unit(module, matrix, report.form));
  std::sort(units.begin(), units.end(),
            [](const detail::SavedUnit& a, const detail::SavedUnit& b) { return a.pieces[0].name < b.pieces[0].name; });
  for (const detail::SavedUnit& unit : units) report.bytes += unit.bytes;
  std::vector<std::pair<std::string, GgufType>> stored;
  for (const auto& tensor : tensors)
    if (!tensor.blocks.empty()) stored.emplace_back(tensor.name, tensor.block_type);
  make_directories(directory);
  detail::write_weights(directory, units, settings.shard_bytes, metadata);
  write_file_atomically(
      join_path(directory, "config.json"),
      hf_config_text(config, report.dtype, detail::quantization_config_text(report.form, kind, plain_maps, stored)));
  return report;
}

KDLIB_NAMESPACE_END

#endif
