// SPDX-License-Identifier: Apache-2.0
// The progress line, its plain form, and the flag that signals set.
#include <cstdlib>

#include "kdlib/tools/progress.hpp"

#include <signal.h>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/tools/blas_kernels.hpp"
#include "kdlib/tools/stop_signals.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

TEST_CASE("durations are minutes and seconds, with hours when there are any", "[tools]") {
  CHECK(kdlib::duration_text(0) == "0:00");
  CHECK(kdlib::duration_text(65.4) == "1:05");
  CHECK(kdlib::duration_text(59.6) == "1:00");
  CHECK(kdlib::duration_text(2 * 3600 + 3 * 60 + 10) == "2:03:10");
}

TEST_CASE("a program is started again with kernels that fit the CPU where OpenBLAS took those of 2004", "[tools]") {
  using kdlib::better_blas_kernels;
  const char* old = "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Prescott MAX_THREADS=64";
  CHECK(better_blas_kernels("OpenBLAS 0.3.21 DYNAMIC_ARCH SkylakeX MAX_THREADS=64", nullptr) == nullptr);
  CHECK(better_blas_kernels(old, "portable") == nullptr);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) CHECK(better_blas_kernels(old, "avx2") == std::string("HASWELL"));
  // This process is one: its main asks first, and words of any kind arrive as they were.
  if (__builtin_cpu_supports("avx2") && std::getenv("KDLIB_CPU_LEVEL") == nullptr)
    CHECK(std::string(kdlib::cpu_blas_name()).find("Prescott") == std::string::npos);
#endif
  const std::vector<std::string> words = kdlib::detail::own_arguments();
  REQUIRE(!words.empty());
  CHECK(words[0].find("test_tools") != std::string::npos);
}

TEST_CASE("a progress line fits the width and fills with the share that is done", "[tools]") {
  using kdlib::Progress;
  CHECK(Progress::line(5, 10, 30, "", 40) == "5/10 [###########..........]  left 0:30");
  CHECK(Progress::line(0, 10, -1, "", 30).find('#') == std::string::npos);
  CHECK(Progress::line(10, 10, 0, "", 30).find('.') == std::string::npos);
  for (int width = 1; width < 120; ++width)
    CHECK(static_cast<int>(Progress::line(1234, 5678, 12345, "loss 0.1234  567 tokens/s", width).size()) < width);
}

TEST_CASE("away from a terminal progress is plain lines, the first, the last and some between", "[tools]") {
  const kdlib_tests::TemporaryDirectory dir;
  std::FILE* stream = std::fopen((dir / "out").c_str(), "w");
  REQUIRE(stream != nullptr);
  {
    kdlib::Progress progress(stream, 10);
    CHECK_FALSE(progress.on_terminal());
    for (std::int64_t step = 1; step <= 30; ++step) {
      kdlib::StepReport report;
      report.step = step;
      report.steps = 30;
      report.loss = 0.5;
      report.tokens_per_s = 123.4;
      report.seconds = static_cast<double>(step);
      progress.show(report);
    }
    progress.note("a note");
  }
  std::fclose(stream);
  CHECK(kdlib::read_file(dir / "out") ==
        "step 1 of 30  left 0:29  loss 0.5000  123 tokens/s\n"
        "step 11 of 30  left 0:19  loss 0.5000  123 tokens/s\n"
        "step 21 of 30  left 0:09  loss 0.5000  123 tokens/s\n"
        "step 30 of 30  left 0:00  loss 0.5000  123 tokens/s\n"
        "a note\n");
}

TEST_CASE("a resumed run's time left is measured from where it went on", "[tools]") {
  const kdlib_tests::TemporaryDirectory dir;
  std::FILE* stream = std::fopen((dir / "out").c_str(), "w");
  REQUIRE(stream != nullptr);
  {
    kdlib::Progress progress(stream, 0);
    progress.show(20, 30, 5000, "");  // 20 steps took 5000 s on another machine
    progress.show(21, 30, 5001, "");  // here a step takes one second
  }
  std::fclose(stream);
  CHECK_THAT(kdlib::read_file(dir / "out"), contains("21 of 30  left 0:09"));
}

TEST_CASE("a stop signal sets the flag once and the handler of before comes back", "[tools]") {
  {
    const kdlib::StopSignals signals;
    CHECK_FALSE(signals.flag()->load());
    ::raise(SIGTERM);
    CHECK(signals.flag()->load());
    CHECK(signals.signal() == SIGTERM);
    struct sigaction now {};
    ::sigaction(SIGTERM, nullptr, &now);
    CHECK(now.sa_handler == SIG_DFL);  // a second signal ends the program
  }
  const kdlib::StopSignals again;
  CHECK_FALSE(again.flag()->load());
}
