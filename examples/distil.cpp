// SPDX-License-Identifier: Apache-2.0
// The main job: distils a frozen teacher into a student (rounded to int4, with LoRA, by default) and reports what was
// won back.
#include "kdlib/tools/distil.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/hdf5.hpp"

int main(int argc, char** argv) try {
#if defined(KDLIB_WITH_HDF5)
  kdlib::use_hdf5_caches();
#endif
  return kdlib::finish(
      kdlib::ProgramTypes::with([&]<class... Types>() { return kdlib::run_distil<Types...>(argc, argv); }));
} catch (const std::exception& error) {
  return kdlib::report(error);
}
