// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a JSON text and as a JSON Lines file. What is accepted is written again and must read
// the same.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"

namespace {
using namespace kdlib;

void write(JsonWriter& out, const Json& json) {
  switch (json.kind()) {
    case Json::Kind::null:
      out.null();
      break;
    case Json::Kind::boolean:
      out.value(json.as_bool());
      break;
    case Json::Kind::int64:
      out.value(json.as_int());
      break;
    case Json::Kind::uint64:
      out.value(json.as_uint());
      break;
    case Json::Kind::real:
      out.value(json.as_double());
      break;
    case Json::Kind::string:
      out.value(json.as_string());
      break;
    case Json::Kind::array:
      out.begin_array();
      for (const Json& element : json) write(out, element);
      out.end_array();
      break;
    case Json::Kind::object:
      out.begin_object();
      for (const auto& [key, value] : json.members()) {
        if (!json.find(key)) std::abort();
        out.key(key);
        write(out, value);
      }
      out.end_object();
      break;
  }
}
std::string text_of(const Json& json) {
  JsonWriter out;
  write(out, json);
  return out.text();
}

/// A file of these bytes that lives in memory.
struct MemoryFile {
  MemoryFile(const std::uint8_t* data, std::size_t size) : fd(::memfd_create("fuzz", 0)) {
    if (fd < 0 || ::write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
    path = "/proc/self/fd/" + std::to_string(fd);
  }
  ~MemoryFile() { ::close(fd); }
  int fd;
  std::string path;
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string once = text_of(Json::parse(std::string(reinterpret_cast<const char*>(data), size), "fuzz"));
    if (text_of(Json::parse(once, "again")) != once) std::abort();
  } catch (const FormatError&) {
  }
  const MemoryFile file(data, size);
  JsonlReader reader{file.path, 4096};
  for (bool more = true; more;) {
    const std::uint64_t before = reader.line_number();
    try {
      more = reader.next().has_value();
    } catch (const FormatError&) {
      if (reader.line_number() == before) std::abort();  // a refused line must be passed
    }
  }
  return 0;
}
