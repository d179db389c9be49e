// SPDX-License-Identifier: Apache-2.0
// The tensors that a linear map of a packed directory (packed_format.hpp) is made of.
#ifndef KDLIB_CHECKPOINT_PACKED_PARTS_HPP
#define KDLIB_CHECKPOINT_PACKED_PARTS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/packed_format.hpp"
#include "kdlib/core/shape.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/quant/coded_data.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The tensors of one packed weight [rows, columns] of a module, as they are asked for.
class PackedParts {
 public:
  PackedParts(const SafetensorsDirectory& files, std::string module, std::int64_t rows, std::int64_t columns,
              std::vector<std::string>& names)
      : files_(files), module_(std::move(module)), shape_{rows, columns}, names_(names) {}

  const std::string& module() const { return module_; }
  const Shape& shape() const { return shape_; }
  bool has(const std::string& suffix) const;
  /// "[decoder] FOLDER: MODULE.weight [12, 8]: "
  std::string place() const;
  const SafetensorsDirectory& files() const { return files_; }
  /// Everything is checked, but codes are not read.
  void only_plan() { planning_ = true; }
  bool planning() const { return planning_; }

  const TensorInfo& take(const std::string& suffix, const char* because);
  /// Bytes of this shape; I8 is one of the types.
  const TensorInfo& take_bytes(const std::string& suffix, const Shape& shape, const char* because);
  std::vector<std::uint8_t> take_codes(const std::string& suffix, const Shape& shape, const char* because);
  /// Finite numbers of this shape.
  std::vector<float> take_numbers(const std::string& suffix, const Shape& shape, const char* because,
                                  bool f32_alone = false);

 private:
  void check_shape(const TensorInfo& t, const Shape& shape) const;

  const SafetensorsDirectory& files_;
  std::string module_;
  Shape shape_;
  std::vector<std::string>& names_;
  bool planning_ = false;
};

/// The codes of the weight; empty: it is not packed.
std::optional<CodedData> read_packed(PackedParts& parts, const PackedFormat& format);
/// Embedding and head are read unpacked alone.
void refuse_packed_table(const SafetensorsDirectory& files, const std::string& module);
/// Bytes of a row of codes in kdlib's form: no more than its bits take.
std::int64_t stored_row_bytes(const CodedData& data);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/packed_load_inl.hpp"
#endif

#endif
