// SPDX-License-Identifier: Apache-2.0
// What a program is told where CUDA cannot work: no driver, an old one, no device, no kernels for it, too little
// memory.
#include "kdlib/backend/cuda/facts.hpp"

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "support/catch.hpp"

using namespace kdlib;

namespace {
/// The settings of before come back.
struct Settings {
  EmulatedSettings before = emulated_settings();
  ~Settings() { emulated_settings() = before; }
};
}  // namespace

TEST_CASE("a machine that can run kernels is told with what", "[cuda]") {
  const Settings settings;
  emulated_settings().memory_bytes = std::int64_t{1} << 30;
  const CudaFacts f = cuda_facts();
  CHECK(f.devices == 1);
  CHECK((f.major == 9 && f.minor == 0 && f.has_kernels));
  CHECK(f.memory_bytes == std::int64_t{1} << 30);
  const std::int64_t free = f.free_bytes;
  const auto more = Memory<Cuda>::allocate(1000);
  CHECK(cuda_facts().free_bytes == free - 1000);
  CHECK(Memory<Cuda>::available() == static_cast<double>(free - 1000));
  Memory<Cuda>::release(more, 1000);
  CHECK_NOTHROW(Memory<Cuda>::require_ready());
}

TEST_CASE("each reason for which CUDA cannot work is a sentence with the next step", "[cuda]") {
  const Settings settings;
  EmulatedSettings& s = emulated_settings();
  s.major = 7, s.minor = 5;
  CHECK_THROWS_WITH(Memory<Cuda>::require_ready(),
                    contains("compute capability 7.5, for which no kernel was compiled; build with "
                             "-DCMAKE_CUDA_ARCHITECTURES=75") &&
                        contains("made for 8.0 and later"));
  s.major = 8, s.oldest_major = 9;
  CHECK_THROWS_WITH(Memory<Cuda>::require_ready(), contains("-DCMAKE_CUDA_ARCHITECTURES=85"));
  s.devices = 0;
  CHECK_THROWS_WITH(Memory<Cuda>::require_ready(), contains("no device answers") && contains("--device cpu"));
  s.driver = 12080;
  CHECK_THROWS_WITH(Memory<Cuda>::require_ready(),
                    contains("the driver knows CUDA up to 12.8 and this program is built with CUDA 13.0"));
  s.driver = 0;
  CHECK_THROWS_WITH(Memory<Cuda>::require_ready(), contains("no NVIDIA driver answers"));
  s = settings.before;
  s.driver = 13010;  // a newer one of the same major version, and of a later one
  CHECK_NOTHROW(Memory<Cuda>::require_ready());
  s.driver = 14000;
  CHECK_NOTHROW(Memory<Cuda>::require_ready());
}
