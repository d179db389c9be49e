// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a safetensors file. Refused with FormatError, or every tensor can be touched.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/io/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kdlib;
  try {
    const SafetensorsHeader header = parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz");
    for (const TensorInfo& tensor : header.tensors) {
      unsigned sum = 0;
      for (const std::byte b : tensor.data) sum += static_cast<unsigned>(b);
      volatile unsigned sink = sum;
      (void)sink;
      try {
        (void)read_as<float>(tensor);
        (void)tensor.shape();
      } catch (const Error&) {  // an element type that is not read, a rank above four
      }
    }
  } catch (const FormatError&) {
  }
  return 0;
}
