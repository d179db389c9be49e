// SPDX-License-Identifier: Apache-2.0
// Bodies of core/byte_pack.hpp.
#ifndef KDLIB_CORE_BYTE_PACK_INL_HPP
#define KDLIB_CORE_BYTE_PACK_INL_HPP

#include "kdlib/core/byte_pack.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC BytePacker& BytePacker::add(std::string_view text) {
  return add(text.size()).append(text.data(), text.size());
}

KDLIB_FUNC BytePacker& BytePacker::append(const void* data, std::size_t count) {
  const auto* p = static_cast<const std::byte*>(data);
  bytes_.insert(bytes_.end(), p, p + count);
  return *this;
}

KDLIB_FUNC std::string ByteUnpacker::text() {
  const auto size = get<std::size_t>();
  return std::string(reinterpret_cast<const char*>(next(size)), size);
}

KDLIB_FUNC const std::byte* ByteUnpacker::next(std::size_t count) {
  require<FormatError>(count <= bytes_.size(), "[ranks] a message ends ", count - bytes_.size(),
                       " bytes too early: the ranks run different programs");
  const std::byte* at = bytes_.data();
  bytes_ = bytes_.subspan(count);
  return at;
}

KDLIB_FUNC void ByteUnpacker::refuse_list(std::size_t size) const {
  fail<FormatError>("[ranks] a message of ", bytes_.size(), " bytes announces a list of ", size);
}

KDLIB_NAMESPACE_END

#endif
