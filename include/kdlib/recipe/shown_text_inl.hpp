// SPDX-License-Identifier: Apache-2.0
// Body of text.hpp without template parameters.
#ifndef KDLIB_RECIPE_SHOWN_TEXT_INL_HPP
#define KDLIB_RECIPE_SHOWN_TEXT_INL_HPP

#include "kdlib/recipe/text.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC std::string strip_chat_markup(std::string text) {
  const std::string open = "<|im_start|>user\n", close = "<|im_end|>";
  if (const std::size_t at = text.rfind(open); at != std::string::npos) {
    text = text.substr(at + open.size());
    if (const std::size_t end = text.find(close); end != std::string::npos) text = text.substr(0, end);
  }
  return text;
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
