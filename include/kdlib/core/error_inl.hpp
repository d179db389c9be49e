// SPDX-License-Identifier: Apache-2.0
// Bodies of core/error.hpp.
#ifndef KDLIB_CORE_ERROR_INL_HPP
#define KDLIB_CORE_ERROR_INL_HPP

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A byte of a longer character is no text when it stands alone, and a message must be: it is shown as \xHH.
KDLIB_FUNC void append_character(unsigned char c, std::string& out) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  if (c < 0x80) out.push_back(static_cast<char>(c));
  else out.append("\\x") += {digits[c >> 4], digits[c & 15]};
}

KDLIB_FUNC void MessagePart::append_to(std::string& out) const {
  switch (kind_) {
    case Kind::text:
      out.append(text_.data, text_.size);
      break;
    case Kind::character:
      append_character(static_cast<unsigned char>(integer_), out);
      break;
    case Kind::integer:
      out.append(std::to_string(integer_));
      break;
    case Kind::natural:
      out.append(std::to_string(natural_));
      break;
    case Kind::real:
      out.append(std::to_string(real_));
      break;
    case Kind::object:
      object_.append(object_.it, out);
      break;
  }
}

KDLIB_FUNC std::string joined(std::initializer_list<MessagePart> parts) {
  std::string out;
  for (const MessagePart& part : parts) part.append_to(out);
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
