// SPDX-License-Identifier: Apache-2.0
// The file of an adapter in the form of llama.cpp (gguf_adapter.hpp): reads and writes its pairs of factors.
#ifndef KDLIB_CHECKPOINT_GGUF_ADAPTER_FILE_HPP
#define KDLIB_CHECKPOINT_GGUF_ADAPTER_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/core/shape.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

struct GgufAdapterSettings;

namespace detail {

/// The factors A [rank, in] and B [out, rank] of one map, with the rows of B in the order of the model's parameter. The
/// adapter adds scale * B A to the weight.
template <class T>
struct GgufFactors {
  std::int64_t rank = 0;
  double alpha = 0;  // scale = alpha / rank
  std::vector<T> a, b;
};

/// The pairs of factors in the file of an adapter. Each pair is to be taken once.
class GgufAdapterFile {
 public:
  /// Opens and checks the file. `operation` is the beginning of messages, such as "[load_adapter] ".
  GgufAdapterFile(std::string operation, const std::string& path, const DecoderConfig& config);

  bool holds(const std::string& tensor) const;
  const std::string& path() const { return file_.path(); }

  /// Returns the factors of matrix `index` of the base tensor `part`, which is [out, in], or [E, out, in] with `index`
  /// below E.
  template <class T>
  GgufFactors<T> take(const GgufPart& part, std::int64_t index = 0);

  void require_all_taken(const std::string& model) const;

 private:
  struct Pair {
    std::string name;  // name of the base tensor
    const GgufTensor *a = nullptr, *b = nullptr;
    bool taken = false;
  };
  /// The factors of a base tensor whose matrices are [rows, columns].
  struct Found {
    const GgufTensor *a, *b;
    std::int64_t rank, rows, columns;
  };

  /// Returns the place in pairs_ of the pair of that name, or the place where such a pair would be inserted.
  std::size_t place(const std::string& name) const;
  /// Checks the shapes and marks the pair as taken.
  Found find(const GgufPart& part);
  void check_keys();
  void check_shape(const GgufTensor& t, const Shape& wanted, const GgufPart& part) const;
  template <class T>
  std::vector<T> values(const GgufTensor& t, std::int64_t index, std::int64_t count) const;
  [[noreturn]] void refuse_value(const GgufTensor& t) const;

  std::string operation_;
  GgufFile file_;
  DecoderConfig config_;
  std::vector<Pair> pairs_;  // sorted by name
  double alpha_ = 0;         // 0: the scale is 1, as in llama.cpp
};

/// An adapted map to write. a_values and b_values return the factors as floats, with the rows of B in the order of the
/// file.
struct GgufAdaptedMap {
  GgufPart part;
  double alpha = 0;  // scale * rank, the meaning that alpha has in llama.cpp
  Shape a, b;
  std::function<std::vector<float>()> a_values;
  std::function<std::vector<float>(double factor)> b_values;
};

/// Writes the file. Returns the notes of save_gguf_adapter().
std::vector<std::string> write_gguf_adapter(const std::string& path, Family family, const GgufAdapterSettings& settings,
                                            const std::vector<GgufAdaptedMap>& maps);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/gguf_adapter_file_inl.hpp"
#endif

#endif
