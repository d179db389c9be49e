// SPDX-License-Identifier: Apache-2.0
// Outputs onto what is no plain new file: links, FIFOs, devices, descriptors, read-only files. Each is written into or
// refused; none is replaced by a regular file.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "kdlib/core/error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

namespace {

mode_t mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode;
}

bool is_link(const std::string& path) { return S_ISLNK(mode_of(path)); }

/// Everything that can be read from a descriptor.
std::string drained(int fd) {
  std::string out;
  char piece[4096];
  for (ssize_t got = 0; (got = ::read(fd, piece, sizeof piece)) > 0;) out.append(piece, static_cast<std::size_t>(got));
  return out;
}

/// The super-user may write everywhere: for a while, be nobody.
struct AsOrdinaryUser {
  const bool super_user = ::geteuid() == 0;
  AsOrdinaryUser() {
    if (super_user) REQUIRE(::seteuid(65534) == 0);
  }
  ~AsOrdinaryUser() {
    if (super_user && ::seteuid(0) != 0) std::abort();
  }
};

}  // namespace

TEST_CASE("a symbolic link is written through: its target is replaced, the link stays", "[io]") {
  const TemporaryDirectory dir;
  make_directories(dir / "data");
  write_file_atomically(dir / "data/real.txt", "old");
  REQUIRE(::symlink("data/real.txt", (dir / "link").c_str()) == 0);
  REQUIRE(::symlink((dir / "link").c_str(), (dir / "second").c_str()) == 0);
  {
    AtomicFile file{dir / "second"};
    CHECK(parent_path(file.temporary_path()) == dir / "data");  // a rename must not cross file systems
    file.write("new");
    CHECK(read_file(dir / "data/real.txt") == "old");
    file.commit();
  }
  CHECK(read_file(dir / "data/real.txt") == "new");
  CHECK(is_link(dir / "link"));
  CHECK(is_link(dir / "second"));
  CHECK(list_directory(dir / "data") == std::vector<std::string>{"real.txt"});
}

TEST_CASE("a link to a file that is not there makes it, one into a missing folder is refused", "[io]") {
  const TemporaryDirectory dir;
  make_directories(dir / "data");
  REQUIRE(::symlink("data/new.txt", (dir / "link").c_str()) == 0);
  write_file_atomically(dir / "link", "text");
  CHECK(read_file(dir / "data/new.txt") == "text");
  CHECK(is_link(dir / "link"));
  REQUIRE(::symlink("nowhere/new.txt", (dir / "lost").c_str()) == 0);
  CHECK_THROWS_WITH(AtomicFile{dir / "lost"}, contains(dir / "lost") && contains("No such file"));
  REQUIRE(::symlink("two", (dir / "one").c_str()) == 0);
  REQUIRE(::symlink("one", (dir / "two").c_str()) == 0);
  CHECK_THROWS_WITH(AtomicFile{dir / "one"}, contains(dir / "one") && contains("circle"));
  REQUIRE(::symlink("data", (dir / "folder").c_str()) == 0);
  CHECK_THROWS_WITH(AtomicFile{dir / "folder"}, contains("this is a folder"));
  CHECK_THROWS_WITH(AtomicFile{dir / "data/"}, contains("this is a folder"));
  CHECK_THROWS_WITH(AtomicFile{dir / "absent/"}, contains("this is a folder"));
}

TEST_CASE("a file that is replaced keeps its permissions, a new one has those of the umask", "[io]") {
  const TemporaryDirectory dir;
  const mode_t before = ::umask(022);
  for (const mode_t mode : {0600u, 0640u, 0666u, 0755u}) {
    write_file_atomically(dir / "kept", "1");
    REQUIRE(::chmod((dir / "kept").c_str(), mode) == 0);
    write_file_atomically(dir / "kept", "2");
    CHECK((mode_of(dir / "kept") & 07777u) == mode);
    CHECK(read_file(dir / "kept") == "2");
  }
  write_file_atomically(dir / "fresh", "1");
  CHECK((mode_of(dir / "fresh") & 07777u) == 0644u);
  ::umask(before);
}

TEST_CASE("a FIFO is written into and stays a FIFO", "[io]") {
  const TemporaryDirectory dir;
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
  REQUIRE(::symlink("fifo", (dir / "link").c_str()) == 0);
  for (const char* name : {"fifo", "link"}) {
    std::string got;
    std::thread reader([&] {
      const int fd = ::open((dir / "fifo").c_str(), O_RDONLY);
      got = drained(fd);
      ::close(fd);
    });
    {
      AtomicFile file{dir / name};  // waits for the reader
      CHECK(file.temporary_path().empty());
      file.write("through ");
      file.write(std::string(300'000, 'x'));  // more than a pipe holds
      file.commit();
    }
    reader.join();
    CHECK(got.size() == 300'008);
    CHECK(got.rfind("through xxx", 0) == 0);
    CHECK(S_ISFIFO(mode_of(dir / "fifo")));
  }
  CHECK(list_directory(dir.path()) == std::vector<std::string>{"fifo", "link"});
  CHECK_THROWS_WITH(AppendFile{dir / "fifo"}, contains("fifo") && contains("not a regular file"));
}

TEST_CASE("a FIFO whose bytes were not committed stays a FIFO", "[io]") {
  const TemporaryDirectory dir;
  REQUIRE(::mkfifo((dir / "fifo").c_str(), 0600) == 0);
  const int reader = ::open((dir / "fifo").c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  { AtomicFile file{dir / "fifo"}; }
  CHECK(S_ISFIFO(mode_of(dir / "fifo")));
  ::close(reader);
}

TEST_CASE("device nodes are written into: null takes all, full is a full disk, both stay devices", "[io]") {
  const mode_t null_before = mode_of("/dev/null"), full_before = mode_of("/dev/full");
  REQUIRE(S_ISCHR(null_before));
  REQUIRE(S_ISCHR(full_before));
  const TemporaryDirectory dir;
  REQUIRE(::symlink("/dev/null", (dir / "null").c_str()) == 0);
  write_file_atomically("/dev/null", "gone");
  write_file_atomically(dir / "null", std::string(1'000'000, 'x'));
  CHECK_THROWS_WITH(write_file_atomically("/dev/full", "text"),
                    contains("/dev/full") && contains("No space left") && contains("free some space"));
  CHECK(mode_of("/dev/null") == null_before);
  CHECK(mode_of("/dev/full") == full_before);
  CHECK(is_link(dir / "null"));
}

TEST_CASE("a node made by mknod stays a node, and a block device is refused", "[io]") {
  const TemporaryDirectory dir;
  if (::mknod((dir / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0)
    KDLIB_SKIP("mknod needs the super-user's rights");
  write_file_atomically(dir / "null", "gone");
  CHECK(S_ISCHR(mode_of(dir / "null")));
  CHECK(list_directory(dir.path()) == std::vector<std::string>{"null"});
  REQUIRE(::mknod((dir / "disk").c_str(), S_IFBLK | 0666, makedev(1, 200)) == 0);  // opened by nobody
  CHECK_THROWS_WITH(AtomicFile{dir / "disk"}, contains("disk") && contains("name a file"));
  CHECK(S_ISBLK(mode_of(dir / "disk")));
}

TEST_CASE("/dev/stdout and /dev/fd/N are the process's own descriptors, whatever stands behind them", "[io]") {
  const TemporaryDirectory dir;
  const int held = ::open((dir / "out").c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(held >= 0);
  REQUIRE(::write(held, "before\n", 7) == 7);
  const std::string name = concat("/dev/fd/", held);
  write_file_atomically(name, "text\n");
  REQUIRE(::write(held, "behind\n", 7) == 7);
  CHECK(read_file(dir / "out") == "before\ntext\nbehind\n");  // as > FILE with a program that also prints
  CHECK(list_directory(dir.path()) == std::vector<std::string>{"out"});
  ::close(held);
  CHECK_THROWS_WITH(AtomicFile{name}, contains(name) && contains("Bad file descriptor"));

  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  std::cout.flush();  // what the test's own report still buffers would go into the child's pipe
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], 1);
    ::close(ends[0]);
    ::close(ends[1]);
    std::fputs("printed, ", stdout);
    write_file_atomically("/dev/stdout", "written");
    ::_exit(0);
  }
  ::close(ends[1]);
  CHECK(drained(ends[0]) == "printed, written");
  ::close(ends[0]);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(is_link("/dev/stdout"));
}

TEST_CASE("a read-only file and a locked folder are refused with the path and what to do", "[io]") {
  const TemporaryDirectory dir;
  REQUIRE(::chmod(dir.path().c_str(), 0777) == 0);
  write_file_atomically(dir / "precious", "old");
  REQUIRE(::chmod((dir / "precious").c_str(), 0444) == 0);
  make_directories(dir / "locked");
  REQUIRE(::chmod((dir / "locked").c_str(), 0555) == 0);
  {
    const AsOrdinaryUser user;
    CHECK_THROWS_WITH(AtomicFile{dir / "precious"}, contains("precious") && contains("permissions"));
    CHECK_THROWS_WITH(AtomicFile{dir / "locked/x"}, contains("locked/x") && contains("permissions"));
    CHECK_THROWS_WITH(AppendFile{dir / "precious"}, contains("precious") && contains("permissions"));
  }
  CHECK(read_file(dir / "precious") == "old");
}

TEST_CASE("a replaced file keeps its owner where the process may give it away", "[io]") {
  if (::geteuid() != 0) KDLIB_SKIP("giving files away needs the super-user's rights");
  const TemporaryDirectory dir;
  write_file_atomically(dir / "theirs", "old");
  REQUIRE(::chown((dir / "theirs").c_str(), 65534, 65534) == 0);
  write_file_atomically(dir / "theirs", "new");
  struct stat status {};
  REQUIRE(::stat((dir / "theirs").c_str(), &status) == 0);
  CHECK(status.st_uid == 65534);
  CHECK(status.st_gid == 65534);
}

TEST_CASE("a planted file or link of the temporary name is left alone", "[io]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "victim", "safe");
  std::string first;
  {
    AtomicFile probe{dir / "out"};
    first = probe.temporary_path();
  }
  const std::size_t dash = first.rfind('-');
  const long number = std::atol(first.c_str() + dash + 1);
  for (long n = number + 1; n <= number + 3; ++n)
    REQUIRE(::symlink("victim", concat(first.substr(0, dash + 1), n).c_str()) == 0);
  write_file_atomically(dir / "out", "text");
  CHECK(read_file(dir / "out") == "text");
  CHECK(read_file(dir / "victim") == "safe");
}

TEST_CASE("a name of 255 bytes can be written, a longer one is refused", "[io]") {
  const TemporaryDirectory dir;
  const std::string longest(255, 'n');
  write_file_atomically(dir / longest, "text");
  CHECK(read_file(dir / longest) == "text");
  CHECK(list_directory(dir.path()) == std::vector<std::string>{longest});
  CHECK_THROWS_WITH(AtomicFile{dir / std::string(256, 'n')}, contains("File name too long"));
}

TEST_CASE("stale temporaries are removed below a folder; folders, links and others' files are not", "[io]") {
  const TemporaryDirectory dir, other;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  REQUIRE(child > 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);  // the id is free again and its process gone
  const std::string ending = concat(".tmp-", static_cast<long>(child), "-1");
  make_directories(dir / "a/b");
  make_directories(dir / ("folder" + ending));
  write_file_atomically(dir / ("a/b/x" + ending), "1");
  write_file_atomically(dir / "a/notes.tmp-mine", "1");
  write_file_atomically(other / ("theirs" + ending), "1");
  REQUIRE(::symlink(other.path().c_str(), (dir / "a/link").c_str()) == 0);
  REQUIRE(::symlink("a", (dir / ("link" + ending)).c_str()) == 0);
  REQUIRE(::symlink("..", (dir / "a/up").c_str()) == 0);
  CHECK(remove_stale_temporaries_below(dir.path()) == std::vector<std::string>{dir / ("a/b/x" + ending)});
  CHECK(path_exists(dir / ("folder" + ending)));
  CHECK(path_exists(dir / "a/notes.tmp-mine"));
  CHECK(path_exists(other / ("theirs" + ending)));
  CHECK(is_link(dir / ("link" + ending)));
  CHECK(remove_stale_temporaries(dir.path()).empty());
}

TEST_CASE("what cannot become a folder is told before anything is made", "[io]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "file", "x");
  REQUIRE(::symlink("nowhere", (dir / "link").c_str()) == 0);
  CHECK_THROWS_WITH(check_folder_path(""), contains("empty"));
  CHECK_THROWS_WITH(check_folder_path(dir / "file"), contains("file is a file"));
  CHECK_THROWS_WITH(check_folder_path(dir / "file/below"), contains("file is a file"));
  CHECK_THROWS_WITH(check_folder_path(dir / "link"), contains("a symbolic link to nothing"));
  CHECK_THROWS_WITH(check_folder_path(dir / "link/below"), contains("a symbolic link to nothing"));
  CHECK_THROWS_WITH(make_directories(dir / "link/below"), contains("a symbolic link to nothing"));
  check_folder_path(dir / "new/below/");
  check_folder_path(dir.path());
  check_folder_path(".");
  CHECK(list_directory(dir.path()) == std::vector<std::string>{"file", "link"});
}
