// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a GGUF file of a model: configuration, tokenizer and weights are read or refused; a small model
// that is accepted is written and read again with the same parameters.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/load.hpp"

using namespace kdlib;
using Model = Decoder<Cpu, float>;

namespace {

/// A file that lives in memory.
struct MemoryFile {
  explicit MemoryFile(const char* name) : fd(::memfd_create(name, 0)) {}
  ~MemoryFile() { ::close(fd); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd); }
  int fd;
};

void write_again(const Model& model) {
  char folder[] = "/tmp/kdlib_fuzz_XXXXXX";
  if (::mkdtemp(folder) == nullptr) std::abort();
  const std::string path = std::string(folder) + "/m.gguf";
  try {
    save_gguf(model, nullptr, path, {.type = GgufType::f32});
    Model again = Model::from_pretrained(path);
    for (const Parameter<float, Cpu>* p : const_cast<Model&>(model).parameters()) {
      const Parameter<float, Cpu>* q = again.find_parameter(p->name);
      if (q == nullptr || !(q->value.shape() == p->value.shape())) std::abort();
      if (std::memcmp(p->value.data(), q->value.data(), static_cast<std::size_t>(p->value.count()) * sizeof(float)) !=
          0)
        std::abort();
    }
  } catch (const ConfigError&) {  // what other readers would compute otherwise
  }
  remove_tree(folder);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile file("model");
  if (::write(file.fd, data, size) != static_cast<ssize_t>(size)) return 0;
  try {
    const GgufFile gguf(file.path());
    try {
      (void)Tokenizer::from_gguf(gguf);
    } catch (const Error&) {
    }
    const DecoderConfig config = gguf_config(gguf);
    config.check("fuzz");
    if (config.parameter_count() <= 0) std::abort();
    if (config.parameter_count() > 100000) return 0;
  } catch (const Error&) {
    return 0;
  }
  std::optional<Model> model;
  try {
    model.emplace(Model::from_pretrained(file.path(), {.trainable = false}));
  } catch (const Error&) {
  }
  if (model) write_again(*model);
  return 0;
}
