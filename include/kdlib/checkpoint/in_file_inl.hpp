// SPDX-License-Identifier: Apache-2.0
// Matrices that stay in their file: where they stand there, and how they get into the model.
#ifndef KDLIB_CHECKPOINT_IN_FILE_INL_HPP
#define KDLIB_CHECKPOINT_IN_FILE_INL_HPP

#include <cstring>
#include <optional>

#include "kdlib/checkpoint/hf_experts_inl.hpp"
#include "kdlib/checkpoint/load_inl.hpp"
#include "kdlib/quant/stored_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Rows and columns of a tensor whose last axis is a row.
inline StoredParts stored_shape(GgufType type, const Shape& shape) {
  StoredParts s;
  s.type = type;
  s.columns = shape[shape.rank() - 1];
  s.rows = shape.count() / s.columns;
  return s;
}

inline GgufType stored_type(DType dtype) {
  return dtype == DType::f16
             ? GgufType::f16
             : (dtype == DType::bf16 ? GgufType::bf16 : (dtype == DType::f64 ? GgufType::f64 : GgufType::f32));
}

/// MXFP4 experts: codes and scales, where no scale is the NaN 255.
inline StoredParts find_stored_mxfp4(const SafetensorsDirectory& files, const std::vector<ExpertTensor>& tensors,
                                     const Shape& shape) {
  const TensorInfo &codes = files.at(tensors[0].name), &scales = files.at(tensors[1].name);
  std::atomic<bool> found{false};
  parallel_for(static_cast<std::int64_t>(scales.data.size()), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    if (std::memchr(scales.data.data() + begin, 255, static_cast<std::size_t>(end - begin)) != nullptr) found = true;
  });
  require<FormatError>(!found, "[decoder] ", scales.text(), ": a scale is 255 (NaN)");
  StoredParts s = stored_shape(GgufType::mxfp4, shape);
  s.parts = {codes.data.data()};
  s.scales = {scales.data.data()};
  return s;
}

/// Where the experts of `name` [E, out, in] stand; empty where they cannot stay (transposed, or of several element
/// types).
inline std::optional<StoredParts> find_stored_experts(const SafetensorsDirectory& files, const std::string& name,
                                                      const Shape& shape, Family family,
                                                      std::vector<std::string>& names) {
  const ExpertForm form = expert_form(files, name, family);
  if (form == ExpertForm::transposed) return std::nullopt;
  require<FormatError>(form != ExpertForm::mxfp4 || shape[2] % 32 == 0, "[decoder] ", files.path(), ": ", name,
                       ": rows of ", shape[2], " values do not divide into MXFP4 blocks of 32");
  const std::vector<ExpertTensor> tensors = expert_tensors(name, shape, form);
  for (const ExpertTensor& t : tensors) check_expert_tensor(files, t, form == ExpertForm::mxfp4);
  const DType dtype = files.at(tensors[0].name).dtype;
  StoredParts s = stored_shape(stored_type(dtype), shape);
  for (const ExpertTensor& t : tensors) {
    if (files.at(t.name).dtype != dtype) return std::nullopt;
    s.parts.push_back(files.at(t.name).data.data());
  }
  for (const ExpertTensor& t : tensors) names.push_back(t.name);
  return form == ExpertForm::mxfp4 ? find_stored_mxfp4(files, tensors, shape) : s;
}

/// Where the weight `name` stands; names of tensors that were taken are added to `names`.
inline std::optional<StoredParts> find_stored(const SafetensorsDirectory& files, const std::string& name,
                                              const Shape& shape, Family family, std::vector<std::string>& names) {
  if (is_expert_tensor(name)) return find_stored_experts(files, name, shape, family, names);
  const TensorInfo& t = check_weight(files, name, shape);
  StoredParts s = stored_shape(stored_type(t.dtype), shape);
  s.parts = {t.data.data()};
  names.push_back(name);
  return s;
}

inline std::optional<StoredParts> find_stored(const GgufFile& file, const std::string& name, const Shape& shape,
                                              const DecoderConfig& config, std::vector<std::string>& names) {
  const std::vector<GgufPart> parts = gguf_parts(name, shape, config);
  const GgufType type = check_weight(file, parts[0]).type;
  for (const GgufPart& part : parts)
    if (check_weight(file, part).type != type) return std::nullopt;
  StoredParts s = stored_shape(type, shape);
  s.rotated_head = parts[0].head;
  s.alternate = parts.size() > 1 && parts[0].step == 2;
  const std::int64_t experts =
      parts.size() > 1 && !s.alternate ? shape[0] : 1;  // gate and up of an expert follow each other
  for (std::int64_t e = 0; e < experts; ++e)
    for (const GgufPart& part : parts) {
      const std::span<const std::byte> data = file.tensor(part.name).data;
      s.parts.push_back(data.data() + static_cast<std::size_t>(e) * (data.size() / static_cast<std::size_t>(experts)));
    }
  for (const GgufPart& part : parts) names.push_back(part.name);
  return s;
}

}  // namespace detail

/// Turns every matrix for which find(name, shape, names) has a place into a packed weight; the others stay parameters.
template <class D, class T>
template <class Find>
void Decoder<D, T>::keep_in_file(Find&& find, const std::shared_ptr<const void>& owner,
                                 std::vector<std::string>& names) {
  const auto packed = [&](const std::string& name, const Shape& shape) -> std::shared_ptr<const PackedMatrix<T, D>> {
    std::optional<StoredParts> parts = find(name, shape, names);
    return parts ? std::make_shared<StoredMatrix<T, D>>(std::move(*parts), owner) : nullptr;
  };
  for (Linear<D, T>* l : linears())
    if (l->packed == nullptr && (l->packed = packed(l->path + ".weight", Shape{l->out, l->in})) != nullptr)
      l->weight.reset();
  if ((packed_embedding_ = packed(embedding_->name, embedding_->value.shape())) != nullptr) embedding_.reset();
  if (head_ != nullptr && (packed_head_ = packed(head_->name, head_->value.shape())) != nullptr) head_.reset();
  for (DecoderBlock<D, T>& b : blocks_) {
    auto* mixture = dynamic_cast<ExpertFeedForward<D, T>*>(b.feed_forward.get());
    if (mixture == nullptr) continue;
    if (auto p = packed(mixture->gate_up()->name, mixture->gate_up()->value.shape()))
      mixture->pack_gate_up(std::move(p));
    if (auto p = packed(mixture->down()->name, mixture->down()->value.shape())) mixture->pack_down(std::move(p));
  }
}

KDLIB_NAMESPACE_END

#endif
