// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_console.hpp.
#ifndef KDLIB_TOOLS_DISTIL_CONSOLE_INL_HPP
#define KDLIB_TOOLS_DISTIL_CONSOLE_INL_HPP

#include "kdlib/tools/distil_console.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC void DistilConsole::on_writing(const WritingReport& r) {
  if (also_ != nullptr) also_->on_writing(r);
  if (r.finished >= r.sequences) return progress_.finish();
  const double rate = r.seconds > 0 ? static_cast<double>(r.new_tokens) / r.seconds : 0;
  progress_.show(r.finished, r.sequences, r.seconds,
                 concat(r.what, ", ", r.new_tokens, " tokens",
                        rate > 0 ? concat(", ", static_cast<std::int64_t>(rate), " tokens/s") : ""));
}

KDLIB_NAMESPACE_END

#endif
