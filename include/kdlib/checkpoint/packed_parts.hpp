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

/// Finds and checks the tensors of one packed weight [rows, columns] of a module and records the names of the tensors
/// that were taken. FormatError: a tensor is missing, or its type or shape is not the one needed; the message gives the
/// reason `because`.
class PackedParts {
 public:
  PackedParts(const SafetensorsDirectory& files, std::string module, std::int64_t rows, std::int64_t columns,
              std::vector<std::string>& names)
      : files_(files), module_(std::move(module)), shape_{rows, columns}, names_(names) {}

  const std::string& module() const { return module_; }
  const Shape& shape() const { return shape_; }
  bool has(const std::string& suffix) const;
  /// Returns the beginning of messages, such as "[decoder] FOLDER: MODULE.weight [12, 8]: ".
  std::string place() const;
  const SafetensorsDirectory& files() const { return files_; }
  /// After this call everything is checked, but codes are not read.
  void only_plan() { planning_ = true; }
  bool planning() const { return planning_; }

  const TensorInfo& take(const std::string& suffix, const char* because);
  /// Returns a tensor of bytes (U8 or I8) of this shape.
  const TensorInfo& take_bytes(const std::string& suffix, const Shape& shape, const char* because);
  std::vector<std::uint8_t> take_codes(const std::string& suffix, const Shape& shape, const char* because);
  /// Returns the numbers of a tensor of this shape (F32, or also BF16 and F16 unless `f32_alone`). FormatError: a
  /// number is not finite.
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

/// Returns the codes of the weight, or nothing if the weight is not packed.
std::optional<CodedData> read_packed(PackedParts& parts, const PackedFormat& format);
/// FormatError: the embedding or the head is packed; these tables are only read unpacked.
void refuse_packed_table(const SafetensorsDirectory& files, const std::string& module);
/// Returns the bytes of a row of codes in the form of kdlib, which has no padding beyond the last byte.
std::int64_t stored_row_bytes(const CodedData& data);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/packed_load_inl.hpp"
#endif

#endif
