// SPDX-License-Identifier: Apache-2.0
// Packs numbers and texts into one run of bytes and unpacks them again, for messages between the ranks of one program.
// This is not a file format: the bytes depend on the machine.
#ifndef KDLIB_CORE_BYTE_PACK_HPP
#define KDLIB_CORE_BYTE_PACK_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// The bytes of one message between ranks.
using Bytes = std::vector<std::byte>;

/// Appends values to a run of bytes.
class BytePacker {
 public:
  template <class X>
  requires std::is_trivially_copyable_v<X> BytePacker& add(const X& x) { return append(&x, sizeof x); }
  BytePacker& add(std::string_view text);
  template <class X>
  BytePacker& add_list(const std::vector<X>& list) {
    return add(list.size()).append(list.data(), list.size() * sizeof(X));
  }
  BytePacker& append(const void* data, std::size_t count);
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

/// Reads the values that a BytePacker appended, in the same order. FormatError: the bytes end too early, because the
/// sender is another program.
class ByteUnpacker {
 public:
  explicit ByteUnpacker(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class X>
  requires std::is_trivially_copyable_v<X> X get() {
    X x;
    std::memcpy(&x, next(sizeof x), sizeof x);
    return x;
  }
  std::string text();
  template <class X>
  std::vector<X> list() {
    const auto size = get<std::size_t>();
    if (size > bytes_.size() / sizeof(X)) refuse_list(size);
    std::vector<X> out(size);
    if (size > 0) std::memcpy(out.data(), next(size * sizeof(X)), size * sizeof(X));
    return out;
  }
  const std::byte* next(std::size_t count);
  bool empty() const { return bytes_.empty(); }

 private:
  [[noreturn]] void refuse_list(std::size_t size) const;

  std::span<const std::byte> bytes_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/byte_pack_inl.hpp"
#endif

#endif
