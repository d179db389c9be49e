// SPDX-License-Identifier: Apache-2.0
// A full disk and a killed process at every write, fsync and rename: what was there before is still there, whole.
#include <signal.h>
#include <sys/wait.h>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "support/catch.hpp"
#include "support/fault_hook.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::Fault;
using kdlib_tests::status_of_child;
using kdlib_tests::TemporaryDirectory;

namespace {

const std::string new_text(700'000, 'n');

/// In pieces that are buffered two by two: four writes.
void write_new_text(const std::string& path) {
  AtomicFile file{path};
  for (std::size_t i = 0; i < new_text.size(); i += 100'000) file.write(new_text.data() + i, 100'000);
  file.commit();
}

}  // namespace

TEST_CASE("a process killed at any write, fsync or rename leaves the old file or the new one", "[io]") {
  int killed = 0, complete = 0;
  for (const char* kind : {"write", "fsync", "rename"}) {
    for (int n = 1; n <= 4; ++n) {
      const TemporaryDirectory dir;
      const std::string path = dir / "weights";
      write_file_atomically(path, "old");
      const int status = status_of_child([&] {
        const Fault fault(concat(kind, ":", n, ":kill"));
        write_new_text(path);
      });
      INFO(kind << " " << n);
      const std::string found = read_file(path);
      if (WIFSIGNALED(status)) {
        ++killed;
        CHECK(WTERMSIG(status) == SIGKILL);
        // Only the last fsync, of the folder, comes after the rename.
        const bool renamed = std::string_view(kind) == "fsync" && n == 2;
        CHECK((found == (renamed ? new_text : "old")));
        remove_stale_temporaries(dir.path());
      } else {
        ++complete;
        CHECK((found == new_text));
      }
      CHECK(list_directory(dir.path()).size() == 1);
    }
  }
  CHECK(killed == 4 + 2 + 1);
  CHECK(complete == 12 - killed);
}

TEST_CASE("a full disk is reported with the path and advice, and the old file stays", "[io]") {
  for (const char* plan : {"write:1:enospc", "write:2:enospc", "write:4:enospc", "fsync:1:enospc", "rename:1:enospc"}) {
    INFO(plan);
    const TemporaryDirectory dir;
    const std::string path = dir / "weights";
    write_file_atomically(path, "old");
    {
      const Fault fault(plan);
      CHECK_THROWS_AS(write_new_text(path), IoError);
      kdlib_tests::reset_fault_counts();
      CHECK_THROWS_WITH(write_new_text(path),
                        contains(path) && contains("No space left") && contains("free some space"));
    }
    CHECK((read_file(path) == "old"));
    CHECK(list_directory(dir.path()).size() == 1);  // the temporary file is gone
    write_file_atomically(path, "new");
    CHECK(read_file(path) == "new");
  }
}

TEST_CASE("an atomic file whose write failed cannot be committed later", "[io]") {
  const TemporaryDirectory dir;
  AtomicFile file{dir / "x"};
  {
    const Fault fault("write:1:enospc");
    CHECK_THROWS_AS(file.write(new_text), IoError);
  }
  CHECK_THROWS_WITH(file.commit(), contains("earlier write failed"));
  CHECK_FALSE(path_exists(dir / "x"));
}

TEST_CASE("a full disk while safetensors are written leaves the old weights", "[io]") {
  const TemporaryDirectory dir;
  const std::vector<float> values(200'000, 1.5f);
  const auto write = [&] {
    SafetensorsWriter writer{dir / "model.safetensors"};
    writer.add<float>("w", {200'000}, values);
    writer.commit();
  };
  write();
  const std::string before = read_file(dir / "model.safetensors");
  {
    const Fault fault("write:2:enospc");
    CHECK_THROWS_WITH(write(), contains("model.safetensors") && contains("free some space"));
  }
  CHECK((read_file(dir / "model.safetensors") == before));
}

TEST_CASE("a full disk while lines are appended is reported by flush", "[io]") {
  const TemporaryDirectory dir;
  AppendFile file{dir / "metrics.jsonl"};
  file.write_line("{}");
  const Fault fault("write:1:enospc");
  CHECK_THROWS_WITH(file.flush(), contains("metrics.jsonl") && contains("No space left"));
}
