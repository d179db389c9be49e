// SPDX-License-Identifier: Apache-2.0
// Bodies of core/error.hpp.
#ifndef KDLIB_CORE_ERROR_INL_HPP
#define KDLIB_CORE_ERROR_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/core/utf8.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void append_byte(unsigned char c, std::string& out) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  out.append("\\x") += {digits[c >> 4], digits[c & 15]};
}

/// A byte of a longer character is no text when it stands alone, and a message must be.
KDLIB_FUNC void append_character(unsigned char c, std::string& out) {
  if (c < 0x80) out.push_back(static_cast<char>(c));
  else append_byte(c, out);
}

/// A message that quotes text cut inside a character, or a name of any bytes.
KDLIB_FUNC std::string message_text(std::string_view what) {
  std::string out;
  for (;;) {
    const std::size_t bad = find_invalid_utf8(what);
    out.append(what.substr(0, bad));
    if (bad == what.npos) return out;
    append_byte(static_cast<unsigned char>(what[bad]), out);
    what.remove_prefix(bad + 1);
  }
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

KDLIB_FUNC Error::Error(const std::string& what) : std::runtime_error(detail::message_text(what)) {}
KDLIB_FUNC Error::Error(const char* what) : std::runtime_error(detail::message_text(what)) {}

KDLIB_NAMESPACE_END

#endif
