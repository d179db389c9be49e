// SPDX-License-Identifier: Apache-2.0
// Bodies of cache_head.hpp.
#ifndef KDLIB_TEACHER_CACHE_HEAD_INL_HPP
#define KDLIB_TEACHER_CACHE_HEAD_INL_HPP

#include <cmath>
#include <vector>

#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/quant/stored_matrix.hpp"
#include "kdlib/teacher/cache_head.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The blocks of a head that lies in a mapped file in one piece, in the order of its rows; nullptr for others.
template <class T, class D>
const StoredRanges* plain_blocks(const HeadView<T, D>& head) {
  const auto* stored = dynamic_cast<const StoredMatrix<T, D>*>(head.packed);
  if (stored == nullptr) return nullptr;
  const StoredRanges& r = stored->ranges();
  return r.part_rows == r.rows && r.scale_parts == nullptr && !r.alternate && r.rotated_head == 0 ? &r : nullptr;
}

template <class T, class D>
Tensor<T, D> device_tensor(const TensorInfo& info) {
  const std::vector<T> host = read_as<T>(info);
  Tensor<T, D> out(info.shape());
  Memory<D>::from_host(out.data(), host.data(), host.size() * sizeof(T));
  return out;
}

/// A number of a file's metadata.
double metadata_number(const SafetensorsFile& file, const char* key);

}  // namespace detail

template <class T, class D>
HeadView<T, D> CachedHead<T, D>::view() const {
  HeadView<T, D> out;
  out.weight = View<const T, D>(weight.data(), shape);
  if (bias) out.bias = bias.view();
  out.softcap = softcap;
  out.logit_scale = logit_scale;
  out.real_vocabulary = real_vocabulary;
  out.packed = packed.get();
  return out;
}

template <class T, class D>
void write_cache_head(const std::string& path, const HeadView<T, D>& head) {
  SafetensorsWriter file(path);
  file.metadata("softcap", setting_text(static_cast<double>(head.softcap)));
  file.metadata("logit_scale", setting_text(static_cast<double>(head.logit_scale)));
  const StoredRanges* blocks = detail::plain_blocks(head);
  std::vector<T> weight, bias;
  if (blocks != nullptr) {
    const std::int64_t bytes = blocks->row_bytes();
    file.metadata("type", setting_text(static_cast<std::int64_t>(blocks->type)));
    file.add("weight", DType::u8, Shape{blocks->rows, bytes},
             std::span(blocks->parts[0], static_cast<std::size_t>(blocks->rows * bytes)));
  } else {
    const Tensor<T, D> decoded = head.packed != nullptr ? head.packed->decode_all() : Tensor<T, D>();
    weight = host_copy<T, D>(decoded ? std::as_const(decoded).view() : head.weight);
    file.add("weight", head.weight.shape(), std::span<const T>(weight));
  }
  if (!head.bias.empty()) {
    bias = host_copy<T, D>(head.bias);
    file.add("bias", head.bias.shape(), std::span<const T>(bias));
  }
  file.commit();
}

template <class T, class D>
CachedHead<T, D> read_cache_head(const std::string& path, std::int64_t vocabulary, std::int64_t hidden_size) {
  const auto file = std::make_shared<SafetensorsFile>(path);
  const TensorInfo& weight = file->at("weight");
  CachedHead<T, D> head;
  head.softcap = static_cast<float>(detail::metadata_number(*file, "softcap"));
  head.logit_scale = static_cast<float>(detail::metadata_number(*file, "logit_scale"));
  require<FormatError>(head.softcap >= 0 && std::isfinite(head.softcap) && std::isfinite(head.logit_scale),
                       "[teacher cache] ", path, ": softcap is ", head.softcap, " and logit_scale ", head.logit_scale,
                       "; a cap of 0 or above and a scale are needed, both finite");
  head.shape = Shape{vocabulary, hidden_size};
  const auto rows = static_cast<std::uint64_t>(vocabulary), width = static_cast<std::uint64_t>(hidden_size);
  if (file->metadata("type")) {
    const double number = detail::metadata_number(*file, "type");
    const bool known = number >= 0 && number < detail::gguf_types_size && number == std::floor(number);
    const auto type = known ? static_cast<GgufType>(number) : GgufType{};
    const std::uint64_t block = known ? block_size(type) : 0;
    const std::uint64_t bytes = block == 0 ? 0 : width / block * block_bytes(type);
    require<FormatError>(block > 0 && width % block == 0 && weight.dtype == DType::u8 &&
                             weight.extents == std::vector<std::uint64_t>{rows, bytes},
                         "[teacher cache] ", weight.text(), " are no blocks of type ", number, " of a head [",
                         vocabulary, ", ", hidden_size, "]");
    StoredParts parts;
    parts.type = type;
    parts.parts = {weight.data.data()};
    parts.rows = vocabulary;
    parts.columns = hidden_size;
    head.packed = std::make_shared<StoredMatrix<T, D>>(std::move(parts), file);
  } else {
    require<FormatError>(weight.extents == std::vector<std::uint64_t>{rows, width}, "[teacher cache] ", weight.text(),
                         ": [", vocabulary, ", ", hidden_size, "] is needed");
    head.weight = detail::device_tensor<T, D>(weight);
  }
  if (const TensorInfo* bias = file->find("bias")) {
    require<FormatError>(bias->extents == std::vector<std::uint64_t>{rows}, "[teacher cache] ", bias->text(), ": [",
                         vocabulary, "] is needed");
    head.bias = detail::device_tensor<T, D>(*bias);
  }
  return head;
}

KDLIB_NAMESPACE_END

#endif
