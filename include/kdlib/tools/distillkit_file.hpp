// SPDX-License-Identifier: Apache-2.0
// Reads the configuration file that accompanies DistillKit's compressed logits. Needs yaml-cpp; for programs only.
#ifndef KDLIB_TOOLS_DISTILLKIT_FILE_HPP
#define KDLIB_TOOLS_DISTILLKIT_FILE_HPP

#include <string>

#include "kdlib/teacher/distillkit.hpp"

KDLIB_NAMESPACE_BEGIN

/// Reads the keys `d`, `k`, `exact_k`, `exact_dtype`, `polynomial_terms`, `term_dtype`, `residual_bins` (scale_dtype,
/// element_bits, num_elements), `delta_encoding` and `normalize_t`. `error_diffusion` concerns only the writer of the
/// data. UsageError names the file, the line and the key. ConfigError as in DistillKitFormat::check().
DistillKitFormat read_distillkit_format(const std::string& path);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/distillkit_file_inl.hpp"
#endif

#endif
