// SPDX-License-Identifier: Apache-2.0
// Exceptions. A message names the operation, what it got and what it needs: "[matmul] a is [8, 64], b is [32, 16]: 64
// != 32".
#ifndef KDLIB_CORE_ERROR_HPP
#define KDLIB_CORE_ERROR_HPP

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Base of everything kdlib throws for wrong input. Broken invariants inside the library are asserts.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes, lengths or counts that do not fit together.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A file or text that breaks its format. The message names the file, the offset or key, and the rule.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// A setting, config.json or command line that cannot be used. The message names the key.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A backend that is missing or refuses (no BLAS, no device, cuBLAS status).
class BackendError : public Error {
 public:
  using Error::Error;
};

/// The operating system refuses a file operation. The message names the path and errno's text.
class IoError : public Error {
 public:
  using Error::Error;
};

/// Text that is not what it is said to be at run time: empty prompt, prompt longer than the context, ids outside the
/// vocabulary.
class InputError : public Error {
 public:
  using Error::Error;
};

namespace detail {
inline void append(std::string& out, std::string_view text) { out.append(text); }
inline void append(std::string& out, char c) { out.push_back(c); }
template <class B>
requires std::is_same_v<B, bool>  // a template, so that string literals do not decay to bool
void append(std::string& out, B b) { out.append(b ? "true" : "false"); }
template <class N>
requires(std::is_arithmetic_v<N> && !std::is_same_v<N, bool> && !std::is_same_v<N, char>) void append(std::string& out,
                                                                                                      N n) {
  out.append(std::to_string(n));
}
template <class X>
requires requires(const X& x) { x.text(); }
void append(std::string& out, const X& x) {  // Shape and the like
  out.append(x.text());
}
}  // namespace detail

/// Joins text and numbers: `concat("[matmul] a is [", 8, ", ", 64, "]")`. Numbers as std::to_string prints them.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

/// Throws E with the joined message: `fail<ShapeError>("[rope] head size ", d, " is odd; it must be even")`.
template <class E = Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw E(concat(parts...));
}

/// `require<ShapeError>(a == b, "[op] ", a, " != ", b)`. The message is only built when it is needed.
template <class E = Error, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) fail<E>(parts...);
}

KDLIB_NAMESPACE_END

#endif
