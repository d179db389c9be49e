// SPDX-License-Identifier: Apache-2.0
// A student that is no language model.
// expect: the first argument of Trainer is not a LanguageModel
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size<Model>();
#else
struct NoModel {
  using device_type = kdlib::Cpu;
  using scalar_type = float;
};
constexpr auto size = trainer_size<NoModel>();
#endif
