// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a GGUF file. Refused with FormatError, or every value and every tensor can be read.
#include <cstddef>
#include <cstdint>
#include <span>

#include "kdlib/quant/gguf_blocks.hpp"

namespace {
template <class F>
void may_refuse(const F& f) {
  try {
    f();
  } catch (const kdlib::FormatError&) {
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kdlib;
  may_refuse([&] {
    const GgufHeader header = parse_gguf(std::as_bytes(std::span(data, size)), "fuzz");
    for (const GgufValue& value : header.metadata) {
      may_refuse([&] { (void)value.as_int(); });
      may_refuse([&] { (void)value.as_uint(); });
      may_refuse([&] { (void)value.as_double(); });
      may_refuse([&] { (void)value.as_bool(); });
      may_refuse([&] { (void)std::string(value.as_string()); });
      may_refuse([&] {
        for (const auto text : value.as_strings()) (void)std::string(text);
      });
      may_refuse([&] { (void)value.as_ints(); });
      may_refuse([&] { (void)value.as_doubles(); });
      may_refuse([&] { (void)value.as_bools(); });
    }
    for (const GgufTensor& tensor : header.tensors) may_refuse([&] { (void)decode_tensor<float>(tensor); });
  });
  return 0;
}
