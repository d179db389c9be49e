// SPDX-License-Identifier: Apache-2.0
// What the emulated device is said to be, and how it answers what programs ask before they start.
#include <cstdlib>
#include <cstring>

#include "device.hpp"
#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/backend/cuda/emulated/launch.hpp"
#include "kdlib/backend/cuda/facts.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN

namespace {
/// A number from outside, or `otherwise`.
std::int64_t number_from_outside(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const std::int64_t number = std::strtoll(text, &end, 10);
  require<ConfigError>(*end == '\0' && number >= 0, "[cuda emulated] ", name, " is '", text,
                       "'; it must be a whole number of 0 or more");
  return number;
}
}  // namespace

EmulatedSettings& emulated_settings() {
  static EmulatedSettings settings = [] {
    EmulatedSettings s;
    s.devices = static_cast<int>(number_from_outside("KDLIB_EMULATED_DEVICES", s.devices));
    s.driver = static_cast<int>(number_from_outside("KDLIB_EMULATED_DRIVER", s.driver));
    s.memory_bytes = number_from_outside("KDLIB_EMULATED_MEMORY", s.memory_bytes);
    if (const char* order = std::getenv("KDLIB_EMULATED_ORDER"); order != nullptr && *order != '\0') {
      if (std::strcmp(order, "backwards") == 0) s.order = EmulatedOrder::backwards;
      else if (std::strcmp(order, "forwards") != 0) {
        char* end = nullptr;
        s.order = EmulatedOrder::shuffled, s.seed = std::strtoull(order, &end, 10);
        require<ConfigError>(*end == '\0', "[cuda emulated] KDLIB_EMULATED_ORDER is '", order,
                             "'; it must be forwards, backwards or the seed of a shuffled order");
      }
    }
    return s;
  }();
  return settings;
}
const EmulatedCounts& emulated_counts() { return detail::emulated_device().counts; }
CountedMemory emulated_arena() {
  detail::EmulatedDevice& d = detail::emulated_device();
  const std::lock_guard<std::recursive_mutex> lock(d.mutex);
  return detail::counted(d.arena);
}
void reset_emulated_arena() {
  detail::EmulatedDevice& d = detail::emulated_device();
  const std::lock_guard<std::recursive_mutex> lock(d.mutex);
  d.arena.trim();
  d.arena.reset_peak();
}

namespace detail {
bool emulated_can_run() {
  const EmulatedSettings& s = emulated_settings();
  return s.major > s.oldest_major || (s.major == s.oldest_major && s.minor >= s.oldest_minor);
}
}  // namespace detail

CudaFacts cuda_facts() {
  const EmulatedSettings& s = emulated_settings();
  CudaFacts f;
  f.runtime = s.runtime, f.driver = s.driver;
  f.devices = s.driver / 1000 < s.runtime / 1000 ? 0 : s.devices;
  if (f.devices == 0) return f;
  f.name = "emulated device";
  f.major = s.major, f.minor = s.minor, f.has_kernels = detail::has_device_kernels();
  f.memory_bytes = s.memory_bytes;
  f.free_bytes = s.memory_bytes - memory_use<Cuda>().now.load();
  return f;
}
void Memory<Cuda>::require_ready() { require_cuda_device(cuda_facts()); }
double Memory<Cuda>::available() { return static_cast<double>(cuda_facts().free_bytes); }

KDLIB_NAMESPACE_END
