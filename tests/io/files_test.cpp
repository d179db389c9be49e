// SPDX-License-Identifier: Apache-2.0
// Paths, mapped files, atomic files, append files.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kdlib/core/error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/mapped_file.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

TEST_CASE("paths are joined and taken apart at the last slash", "[io]") {
  CHECK(join_path("a", "b") == "a/b");
  CHECK(join_path("a/", "b") == "a/b");
  CHECK(join_path("", "b") == "b");
  CHECK(join_path("a", "/b") == "/b");
  CHECK(parent_path("a/b.txt") == "a");
  CHECK(parent_path("/x") == "/");
  CHECK(parent_path("/") == "/");
  CHECK(parent_path("x") == ".");
  CHECK(parent_path("a/b/") == "a");
  CHECK(parent_path("a//b") == "a");
  CHECK(file_name("a/b.txt") == "b.txt");
  CHECK(file_name("a/b/") == "b");
  CHECK(file_name("b") == "b");
}

TEST_CASE("folders are made with those above them, listed sorted and removed whole", "[io]") {
  const TemporaryDirectory dir;
  make_directories(dir / "a/b//c/");
  make_directories(dir / "a/b/c");
  CHECK(is_directory(dir / "a/b/c"));
  write_file_atomically(dir / "a/z", "1");
  write_file_atomically(dir / "a/y", "22");
  CHECK(list_directory(dir / "a") == std::vector<std::string>{"b", "y", "z"});
  CHECK(file_size(dir / "a/y") == 2);
  rename_path(dir / "a/y", dir / "a/x");
  CHECK(path_exists(dir / "a/x"));
  CHECK_FALSE(path_exists(dir / "a/y"));
  REQUIRE(::symlink((dir / "a").c_str(), (dir / "link").c_str()) == 0);
  remove_tree(dir / "link");
  CHECK(path_exists(dir / "a/x"));  // the link is gone, not what it points to
  remove_tree(dir / "a");
  CHECK_FALSE(path_exists(dir / "a"));
  remove_tree(dir / "a");
}

TEST_CASE("a path below a regular file is refused with the path and what to do", "[io]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "file", "x");
  const std::string below = dir / "file/sub/out.json";
  CHECK_THROWS_AS(make_directories(below), IoError);
  CHECK_THROWS_WITH(make_directories(below), contains(dir / "file") && contains("choose another path"));
  CHECK_THROWS_WITH(AtomicFile{below}, contains(below) && contains("not a folder"));
  CHECK_THROWS_WITH(AppendFile{below}, contains(below) && contains("not a folder"));
  CHECK_THROWS_WITH(MappedFile{below}, contains(below) && contains("not a folder"));
  CHECK_FALSE(path_exists(below));
}

TEST_CASE("a folder in which nothing may be written is refused with its name", "[io]") {
  if (::geteuid() == 0) KDLIB_SKIP("the super-user may write everywhere");
  const TemporaryDirectory dir;
  make_directories(dir / "locked");
  REQUIRE(::chmod((dir / "locked").c_str(), 0555) == 0);
  CHECK_THROWS_WITH(AtomicFile{dir / "locked/x"}, contains("locked/x") && contains("permissions"));
  REQUIRE(::chmod((dir / "locked").c_str(), 0755) == 0);
}

TEST_CASE("a mapped file shows its bytes and survives a move", "[io]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "m", "hello");
  MappedFile file{dir / "m"};
  const std::byte* data = file.bytes().data();
  MappedFile moved = std::move(file);
  CHECK(moved.bytes().data() == data);
  CHECK(moved.bytes().size() == 5);
  CHECK(moved.bytes()[4] == std::byte{'o'});
  CHECK(moved.path() == dir / "m");
  CHECK(file.bytes().empty());
  MappedFile other;
  other = std::move(moved);
  CHECK(other.bytes()[0] == std::byte{'h'});
}

TEST_CASE("missing files, folders, empty files and devices cannot be mapped", "[io]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "empty", "");
  CHECK_THROWS_AS(MappedFile{dir / "none"}, IoError);
  CHECK_THROWS_WITH(MappedFile{dir / "none"}, contains(dir / "none") && contains("No such file"));
  CHECK_THROWS_WITH(MappedFile{dir.path()}, contains("folder"));
  CHECK_THROWS_WITH(MappedFile{dir / "empty"}, contains("empty"));
  CHECK_THROWS_WITH(MappedFile{"/dev/null"}, contains("not a regular file"));
}

TEST_CASE("an atomic file is not there before commit and whole after it", "[io]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "out";
  write_file_atomically(path, "old");
  std::string big(1'000'000, 'b');
  {
    AtomicFile file{path};
    file.write("head");
    file.write(big.data(), big.size());
    file.write("tail");
    CHECK(file.bytes_written() == big.size() + 8);
    CHECK(read_file(path) == "old");
    file.commit();
    CHECK((read_file(path) == "head" + big + "tail"));
    CHECK_THROWS_AS(file.write("x"), IoError);
    CHECK_THROWS_AS(file.commit(), IoError);
  }
  CHECK(list_directory(dir.path()) == std::vector<std::string>{"out"});
}

TEST_CASE("an atomic file that is not committed leaves nothing behind", "[io]") {
  const TemporaryDirectory dir;
  std::string temporary;
  {
    AtomicFile file{dir / "out"};
    file.write("data");
    temporary = file.temporary_path();
    AtomicFile moved = std::move(file);
    moved.write("more");
    CHECK(path_exists(temporary));
  }
  CHECK_FALSE(path_exists(temporary));
  CHECK(list_directory(dir.path()).empty());
}

TEST_CASE("temporary files of processes that are gone are removed, others are kept", "[io]") {
  const TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  REQUIRE(child > 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);  // the id is free again and its process gone
  const std::string stale = "a.safetensors.tmp-" + std::to_string(child) + "-3";
  write_file_atomically(dir / stale, "x");
  write_file_atomically(dir / "notes.tmp-old", "x");
  write_file_atomically(dir / "plain", "x");
  AtomicFile mine{dir / "mine"};
  CHECK(remove_stale_temporaries(dir.path()) == std::vector<std::string>{stale});
  CHECK(path_exists(mine.temporary_path()));
  CHECK(path_exists(dir / "notes.tmp-old"));
}

TEST_CASE("a temporary file of a killed process that nobody has waited for is removed", "[io]") {
  const TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  REQUIRE(child > 0);
  const std::string stale = "part_00000.bin.tmp-" + std::to_string(child) + "-3";
  write_file_atomically(dir / stale, "x");
  CHECK(remove_stale_temporaries(dir.path()).empty());  // it waits for a signal: it may still write
  REQUIRE(::kill(child, SIGKILL) == 0);
  siginfo_t ended{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT) == 0);  // dead, and its id still taken
  REQUIRE(::kill(child, 0) == 0);
  CHECK(remove_stale_temporaries(dir.path()) == std::vector<std::string>{stale});
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
}

TEST_CASE("an append file grows by lines, is cut to a length and goes on", "[io]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  std::uint64_t first = 0;
  {
    AppendFile file{path};
    file.write_line("{\"step\":1}");
    first = file.size();
    file.write_line("{\"step\":2}");
    file.flush();
    CHECK(read_file(path) == "{\"step\":1}\n{\"step\":2}\n");
  }
  AppendFile again{path};
  CHECK(again.size() == 22);
  again.write_line("lost");
  again.truncate(first);
  again.write_line("{\"step\":3}");
  again.flush();
  CHECK(read_file(path) == "{\"step\":1}\n{\"step\":3}\n");
  CHECK_THROWS_WITH(again.truncate(100), contains("only 22"));
  CHECK_THROWS_AS(again.write_line("a\nb"), InputError);
}

TEST_CASE("reading a whole file keeps its bytes and its limit", "[io]") {
  const TemporaryDirectory dir;
  const std::string bytes("a\0b\xFF", 4);
  write_file_atomically(dir / "f", bytes);
  CHECK(read_file(dir / "f") == bytes);
  CHECK_THROWS_WITH(read_file(dir / "f", 3), contains("limit of 3"));
  CHECK_THROWS_AS(read_file(dir / "none"), IoError);
  CHECK_THROWS_AS(read_file(dir.path()), IoError);
}
