// SPDX-License-Identifier: Apache-2.0
// The element types of GGUF tensors: their names, the number of values in a block and the bytes of a block.
#ifndef KDLIB_IO_GGUF_TYPES_HPP
#define KDLIB_IO_GGUF_TYPES_HPP

#include <cstddef>
#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// The ids of element types as files have them. parse_gguf refuses a tensor whose type is not listed here.
enum class GgufType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  bf16 = 30,
  mxfp4 = 39
};

namespace detail {
struct GgufTypeRow {
  std::uint32_t id;
  const char* name;
  std::uint32_t values, bytes;  // of a block; 0 for a type whose name is known but which is not read
};
inline constexpr GgufTypeRow gguf_types[] = {{0, "F32", 1, 4},
                                             {1, "F16", 1, 2},
                                             {2, "Q4_0", 32, 18},
                                             {3, "Q4_1", 32, 20},
                                             {4, "Q4_2 (removed)", 0, 0},
                                             {5, "Q4_3 (removed)", 0, 0},
                                             {6, "Q5_0", 32, 22},
                                             {7, "Q5_1", 32, 24},
                                             {8, "Q8_0", 32, 34},
                                             {9, "Q8_1 (never on disk)", 0, 0},
                                             {10, "Q2_K", 256, 84},
                                             {11, "Q3_K", 256, 110},
                                             {12, "Q4_K", 256, 144},
                                             {13, "Q5_K", 256, 176},
                                             {14, "Q6_K", 256, 210},
                                             {15, "Q8_K (never on disk)", 0, 0},
                                             {16, "IQ2_XXS", 0, 0},
                                             {17, "IQ2_XS", 0, 0},
                                             {18, "IQ3_XXS", 0, 0},
                                             {19, "IQ1_S", 0, 0},
                                             {20, "IQ4_NL", 0, 0},
                                             {21, "IQ3_S", 0, 0},
                                             {22, "IQ2_S", 0, 0},
                                             {23, "IQ4_XS", 0, 0},
                                             {24, "I8", 1, 1},
                                             {25, "I16", 1, 2},
                                             {26, "I32", 1, 4},
                                             {27, "I64", 1, 8},
                                             {28, "F64", 1, 8},
                                             {29, "IQ1_M", 0, 0},
                                             {30, "BF16", 1, 2},
                                             {31, "Q4_0_4_4 (removed)", 0, 0},
                                             {32, "Q4_0_4_8 (removed)", 0, 0},
                                             {33, "Q4_0_8_8 (removed)", 0, 0},
                                             {34, "TQ1_0", 0, 0},
                                             {35, "TQ2_0", 0, 0},
                                             {36, "IQ4_NL_4_4 (removed)", 0, 0},
                                             {37, "IQ4_NL_4_8 (removed)", 0, 0},
                                             {38, "IQ4_NL_8_8 (removed)", 0, 0},
                                             {39, "MXFP4", 32, 17},
                                             {40, "NVFP4", 0, 0},
                                             {41, "Q1_0", 0, 0},
                                             {42, "Q2_0", 0, 0}};
inline constexpr std::uint32_t gguf_types_size = sizeof gguf_types / sizeof gguf_types[0];

constexpr bool gguf_types_are_ordered() {
  for (std::uint32_t i = 0; i < gguf_types_size; ++i)
    if (gguf_types[i].id != i) return false;
  return true;
}
static_assert(gguf_types_are_ordered());
}  // namespace detail

/// The name of a type as GGUF tools write it, such as "Q4_K".
inline const char* gguf_type_name(GgufType type) { return detail::gguf_types[static_cast<std::uint32_t>(type)].name; }
/// Number of values in one block. Blocks run along the fastest axis.
inline std::size_t block_size(GgufType type) { return detail::gguf_types[static_cast<std::uint32_t>(type)].values; }
/// Bytes of one block.
inline std::size_t block_bytes(GgufType type) { return detail::gguf_types[static_cast<std::uint32_t>(type)].bytes; }

KDLIB_NAMESPACE_END

#endif
