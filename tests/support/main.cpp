// SPDX-License-Identifier: Apache-2.0
// The main of every Catch executable, compiled once. Exit status 4 means that every case that ran was skipped.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
using ListenerBase = Catch::EventListenerBase;
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
using ListenerBase = Catch::TestEventListenerBase;
#endif

#include "kdlib/tools/blas_kernels.hpp"
#include "support/catch.hpp"

namespace {
std::size_t cases_run = 0;

struct CaseCounter : ListenerBase {
  using ListenerBase::ListenerBase;
  void testRunEnded(const Catch::TestRunStats& stats) override {
    cases_run = static_cast<std::size_t>(stats.totals.testCases.total());
  }
};
}  // namespace
CATCH_REGISTER_LISTENER(CaseCounter)

int main(int argc, char** argv) {
  kdlib::choose_blas_kernels();
  const int status = Catch::Session().run(argc, argv);
  if (status != 0) return status;
  const auto skipped = static_cast<std::size_t>(kdlib_tests::skipped_cases);
  return skipped > 0 && skipped >= cases_run ? 4 : 0;
}
