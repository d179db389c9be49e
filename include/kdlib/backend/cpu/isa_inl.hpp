// SPDX-License-Identifier: Apache-2.0
// Which vector bodies run: vector_body_inl.hpp compiled for three instruction sets, and the choice between them.
#ifndef KDLIB_BACKEND_CPU_ISA_INL_HPP
#define KDLIB_BACKEND_CPU_ISA_INL_HPP

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/error.hpp"

#define KDLIB_VECTOR_SPACE vector_portable
#define KDLIB_VECTOR_BYTES 16
#define KDLIB_VECTOR_TARGET
#include "kdlib/backend/cpu/vector_body_inl.hpp"
#undef KDLIB_VECTOR_SPACE
#undef KDLIB_VECTOR_BYTES
#undef KDLIB_VECTOR_TARGET

#if defined(__x86_64__)
#define KDLIB_VECTOR_SPACE vector_avx2
#define KDLIB_VECTOR_BYTES 32
#define KDLIB_VECTOR_TARGET __attribute__((target("avx2,fma,f16c")))
#include "kdlib/backend/cpu/vector_body_inl.hpp"
#undef KDLIB_VECTOR_SPACE
#undef KDLIB_VECTOR_BYTES
#undef KDLIB_VECTOR_TARGET

#define KDLIB_VECTOR_SPACE vector_avx512
#define KDLIB_VECTOR_BYTES 64
#define KDLIB_VECTOR_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#include "kdlib/backend/cpu/vector_body_inl.hpp"
#undef KDLIB_VECTOR_SPACE
#undef KDLIB_VECTOR_BYTES
#undef KDLIB_VECTOR_TARGET

/// Calls the body of `function` for the level that runs.
#define KDLIB_VECTOR_CALL(function, ...)                         \
  do {                                                           \
    switch (::kdlib::cpu_level()) {                              \
      case ::kdlib::CpuLevel::avx512:                            \
        ::kdlib::detail::vector_avx512::function(__VA_ARGS__);   \
        break;                                                   \
      case ::kdlib::CpuLevel::avx2:                              \
        ::kdlib::detail::vector_avx2::function(__VA_ARGS__);     \
        break;                                                   \
      default:                                                   \
        ::kdlib::detail::vector_portable::function(__VA_ARGS__); \
        break;                                                   \
    }                                                            \
  } while (false)
#else
#define KDLIB_VECTOR_CALL(function, ...) ::kdlib::detail::vector_portable::function(__VA_ARGS__)
#endif

KDLIB_NAMESPACE_BEGIN
namespace detail {

#if defined(__x86_64__)
/// Conversions of halves; clang 14's __builtin_cpu_supports does not know the name.
inline bool cpu_converts_halves() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

inline CpuLevel best_cpu_level() {
#if defined(__x86_64__)
  if (!cpu_converts_halves()) return CpuLevel::portable;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
    return CpuLevel::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CpuLevel::avx2;
#endif
  return CpuLevel::portable;
}

inline CpuLevel initial_cpu_level() {
  const CpuLevel best = best_cpu_level();
  const char* text = std::getenv("KDLIB_CPU_LEVEL");
  if (text == nullptr || *text == '\0') return best;
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (std::strcmp(text, cpu_level_name(level)) != 0) continue;
    require<BackendError>(level <= best, "[cpu_level] KDLIB_CPU_LEVEL=", text, ": this CPU has ", cpu_level_name(best),
                          " at most");
    return level;
  }
  fail<ConfigError>("[cpu_level] KDLIB_CPU_LEVEL=", text, " is unknown; it can be portable, avx2 or avx512");
}

inline std::atomic<CpuLevel>& cpu_level_state() {
  static std::atomic<CpuLevel> level{initial_cpu_level()};
  return level;
}

inline std::atomic<bool>& batch_invariant_state() {
  static std::atomic<bool> on{false};
  return on;
}

}  // namespace detail

inline bool batch_invariant() { return detail::batch_invariant_state().load(std::memory_order_relaxed); }
inline void set_batch_invariant(bool on) { detail::batch_invariant_state().store(on); }

inline const char* cpu_level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::avx512:
      return "avx512";
    case CpuLevel::avx2:
      return "avx2";
    default:
      return "portable";
  }
}

inline CpuLevel cpu_level() { return detail::cpu_level_state().load(std::memory_order_relaxed); }

inline void set_cpu_level(CpuLevel level) {
  require<BackendError>(level <= detail::best_cpu_level(), "[set_cpu_level] ", cpu_level_name(level), ": this CPU has ",
                        cpu_level_name(detail::best_cpu_level()), " at most");
  detail::cpu_level_state().store(level);
}

KDLIB_NAMESPACE_END

#endif
