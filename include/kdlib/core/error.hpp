// SPDX-License-Identifier: Apache-2.0
// The exceptions of kdlib. A message names the operation, what the operation got and what it needs: "[matmul] a is [8,
// 64], b is [32, 16]: 64 != 32".
#ifndef KDLIB_CORE_ERROR_HPP
#define KDLIB_CORE_ERROR_HPP

#include <cstddef>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// The base of everything that kdlib throws for wrong input. Broken invariants inside the library are asserts. what()
/// is always valid UTF-8: bytes of the message that are no valid UTF-8 are shown as \xHH.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what);
  explicit Error(const char* what);
};

/// Shapes, lengths or counts do not fit together.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A file or text breaks the rules of its format. The message names the file, the offset or key, and the rule.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// A setting, a config.json or a command line cannot be used. The message names the key.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A backend is missing or refuses an operation (no BLAS, no device, an error status of cuBLAS).
class BackendError : public Error {
 public:
  using Error::Error;
};

/// The operating system refuses an operation on a file. The message names the path and the text of errno.
class IoError : public Error {
 public:
  using Error::Error;
};

/// Text given at run time cannot be used: an empty prompt, a prompt longer than the context, ids outside the
/// vocabulary.
class InputError : public Error {
 public:
  using Error::Error;
};

namespace detail {
/// One part of a message, borrowed: text, a number, or an object with text() (such as Shape). MessagePart keeps
/// templates small, because string literals of all lengths become one type.
class MessagePart {
 public:
  MessagePart(std::string_view text) : kind_(Kind::text), text_{text.data(), text.size()} {}
  MessagePart(const std::string& text) : MessagePart(std::string_view(text)) {}
  MessagePart(const char* text) : MessagePart(std::string_view(text)) {}
  MessagePart(char c) : kind_(Kind::character), integer_(c) {}
  template <class N>
  requires(std::is_arithmetic_v<N>) MessagePart(N n) {
    if constexpr (std::is_same_v<N, bool>) *this = MessagePart(n ? "true" : "false");
    else if constexpr (std::is_floating_point_v<N>) kind_ = Kind::real, real_ = static_cast<double>(n);
    else if constexpr (std::is_signed_v<N>) kind_ = Kind::integer, integer_ = n;
    else kind_ = Kind::natural, natural_ = n;
  }
  template <class X>
  requires requires(const X& x) { x.text(); }
  MessagePart(const X& x) : kind_(Kind::object) {
    object_.it = &x;
    object_.append = [](const void* it, std::string& out) { out.append(static_cast<const X*>(it)->text()); };
  }

  void append_to(std::string& out) const;

 private:
  enum class Kind : unsigned char { text, character, integer, natural, real, object };
  struct Text {
    const char* data;
    std::size_t size;
  };
  struct Object {
    const void* it;
    void (*append)(const void*, std::string&);
  };
  Kind kind_ = Kind::integer;
  union {
    Text text_;
    long long integer_ = 0;
    unsigned long long natural_;
    double real_;
    Object object_;
  };
};

std::string joined(std::initializer_list<MessagePart> parts);

template <class E>
[[noreturn]] void fail_joined(std::initializer_list<MessagePart> parts) {
  throw E(joined(parts));
}
}  // namespace detail

/// Joins text and numbers: `concat("[matmul] a is [", 8, ", ", 64, "]")`. Numbers are printed as by std::to_string. A
/// char that is a byte of a longer character is printed as \xHH, so the result is valid UTF-8 if all its texts are.
template <class... Parts>
std::string concat(const Parts&... parts) {
  return detail::joined({detail::MessagePart(parts)...});
}

/// Throws E with the joined message: `fail<ShapeError>("[rope] head size ", d, " is odd; it must be even")`.
template <class E = Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  detail::fail_joined<E>({detail::MessagePart(parts)...});
}

/// Throws E with the joined message unless `condition` holds: `require<ShapeError>(a == b, "[op] ", a, " != ", b)`. The
/// message is only built when it is needed.
template <class E = Error, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) detail::fail_joined<E>({detail::MessagePart(parts)...});
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/error_inl.hpp"
#endif

#endif
