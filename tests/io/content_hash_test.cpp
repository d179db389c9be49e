// SPDX-License-Identifier: Apache-2.0
// SHA-256 against the values of FIPS 180-4 and of sha256sum, and what a content hash notices.
#include "kdlib/io/content_hash.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include "kdlib/core/error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

TEST_CASE("SHA-256 gives the digests of FIPS 180-4, however the bytes are cut", "[io]") {
  // The examples of the standard ("abc", the text of 56 bytes, a million letters a) and `printf "" | sha256sum`.
  CHECK(Sha256().digest() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(Sha256().add("abc").digest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(Sha256().add("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").digest() ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string million(1'000'000, 'a');
  const std::string expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  for (const std::size_t piece : {1u, 63u, 64u, 65u, 1000u, 1'000'000u}) {
    Sha256 hash;
    for (std::size_t i = 0; i < million.size(); i += piece)
      hash.add(million.data() + i, std::min(piece, million.size() - i));
    CHECK(hash.digest() == expected);
  }
}

TEST_CASE("the hash of a file is that of its bytes, and a digest can be asked for in between", "[io]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "f", "abc");
  CHECK(file_hash(dir / "f") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(content_hash(dir / "f") == file_hash(dir / "f"));
  Sha256 hash;
  hash.add("ab");
  const std::string between = hash.digest();
  CHECK(hash.add("c").digest() != between);
  CHECK("sha256:" + hash.digest() == file_hash(dir / "f"));
  CHECK_THROWS_WITH(content_hash(dir / "none"), contains("none") && contains("No such file"));
  CHECK_THROWS_WITH(content_hash("/dev/null"), contains("not a regular file"));
}

TEST_CASE("the hash of a folder follows the files of a model and nothing else", "[io]") {
  const TemporaryDirectory dir;
  CHECK_THROWS_WITH(content_hash(dir.path()), contains("holds no file of a model"));
  write_file_atomically(dir / "config.json", "{}");
  write_file_atomically(dir / "model.safetensors", "weights");
  const std::string before = content_hash(dir.path());
  write_file_atomically(dir / "README.md", "words");
  write_file_atomically(dir / ".hidden.json", "{}");
  make_directories(dir / "checkpoints.json");
  CHECK(content_hash(dir.path()) == before);
  write_file_atomically(dir / "model.safetensors", "weightz");
  const std::string changed = content_hash(dir.path());
  CHECK(changed != before);
  write_file_atomically(dir / "model.safetensors", "weights");
  CHECK(content_hash(dir.path()) == before);
  write_file_atomically(dir / "tokenizer.json", "{}");
  CHECK(content_hash(dir.path()) != before);
  rename_path(dir / "tokenizer.json", dir / "vocab.json");  // the same bytes under another name
  CHECK(content_hash(dir.path()) != before);
  rename_path(dir / "vocab.json", dir / "vocab.md");
  CHECK(content_hash(dir.path()) == before);
  make_directories(dir / "adapter");  // of the folder of a run
  write_file_atomically(dir / "adapter/adapter_model.safetensors", "1");
  const std::string with_adapter = content_hash(dir.path());
  CHECK(with_adapter != before);
  write_file_atomically(dir / "adapter/adapter_model.safetensors", "2");
  CHECK(content_hash(dir.path()) != with_adapter);
  // A folder of links, as download caches make them, is what the links lead to.
  make_directories(dir / "links");
  for (const char* name : {"config.json", "model.safetensors"})
    REQUIRE(::symlink((dir / name).c_str(), (dir / (std::string("links/") + name)).c_str()) == 0);
  CHECK(content_hash(dir / "links") == before);
}

TEST_CASE("a file above 64 MiB is sampled: its size, head, blocks and end are noticed", "[io]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "big.safetensors";
  const off_t bytes = (off_t{200} << 20) + 5;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0666);
  REQUIRE(fd >= 0);
  REQUIRE(::ftruncate(fd, bytes) == 0);  // a hole: no disk space
  const std::string before = sampled_file_hash(path);
  CHECK(before.rfind("sha256-sample:", 0) == 0);
  CHECK(sampled_file_hash(path) == before);
  const auto differs_at = [&](off_t at) {
    REQUIRE(::pwrite(fd, "x", 1, at) == 1);
    const bool differs = sampled_file_hash(path) != before;
    REQUIRE(::pwrite(fd, "\0", 1, at) == 1);
    return differs;
  };
  CHECK(differs_at(0));
  CHECK(differs_at((1 << 20) - 1));
  CHECK(differs_at(bytes - 1));
  CHECK(differs_at(bytes / 16384 * 9000 + 4095));
  CHECK(sampled_file_hash(path) == before);
  REQUIRE(::ftruncate(fd, bytes + 1) == 0);
  CHECK(sampled_file_hash(path) != before);
  ::close(fd);
}

namespace {
int hashed = 0;
std::string counted_hash(const std::string& path) {
  ++hashed;
  return file_hash(path);
}
}  // namespace

TEST_CASE("a file is hashed once a process while nothing about it changes, and again after any change", "[io]") {
  const TemporaryDirectory dir;
  const std::string file = dir / "weights";
  write_file_atomically(file, "abcd");
  const std::int64_t now = std::time(nullptr), later = now + 10;  // the file has been there for ten seconds by then
  hashed = 0;
  const std::string first = detail::remembered_hash(counted_hash, file, now);
  CHECK(first == file_hash(file));
  CHECK(detail::remembered_hash(counted_hash, file, now) == first);
  CHECK(hashed == 2);  // too young to be known by its times
  CHECK(detail::remembered_hash(counted_hash, file, later) == first);
  CHECK(hashed == 3);
  CHECK(detail::remembered_hash(counted_hash, file, later) == first);
  CHECK(hashed == 3);
  CHECK(detail::remembered_hash(sampled_file_hash, file, later) == sampled_file_hash(file));  // another function's
  CHECK(hashed == 3);
  struct stat before {};
  REQUIRE(::stat(file.c_str(), &before) == 0);
  {  // a bit flipped in place, and the time of the bytes put back: that of the inode tells
    const int fd = ::open(file.c_str(), O_WRONLY);
    REQUIRE(::pwrite(fd, "e", 1, 3) == 1);
    const timespec times[2] = {before.st_atim, before.st_mtim};
    struct stat now_is = before;
    while (now_is.st_ctim.tv_sec == before.st_ctim.tv_sec && now_is.st_ctim.tv_nsec == before.st_ctim.tv_nsec) {
      REQUIRE(::futimens(fd, times) == 0);  // until the file system's clock has gone on
      REQUIRE(::fstat(fd, &now_is) == 0);
    }
    ::close(fd);
  }
  const std::string changed = detail::remembered_hash(counted_hash, file, later);
  CHECK(changed == file_hash(file));
  CHECK(changed != first);
  CHECK(hashed == 4);
  write_file_atomically(file, "abcd");  // another inode
  CHECK(detail::remembered_hash(counted_hash, file, later) == first);
  CHECK(hashed == 5);
}

TEST_CASE("models have the same weights whatever their files are called and whatever lies beside them", "[io]") {
  const TemporaryDirectory dir;
  const auto put = [&dir](const std::string& name, const std::string& text) {
    make_directories(parent_path(dir / name));
    write_file_atomically(dir / name, text);
    return dir / name;
  };
  const auto index = [&put](const std::string& folder, const std::string& one, const std::string& two) {
    put(folder + "/" + one, "one"), put(folder + "/" + two, "two");
    put(folder + "/model.safetensors.index.json",
        concat("{\"weight_map\": {\"x\": \"", two, "\", \"y\": \"", one, "\", \"z\": \"", one, "\"}}"));
  };
  index("a", "model-1.safetensors", "model-2.safetensors"), put("a/config.json", "{}");
  index("b", "part1.safetensors", "part2.safetensors"), put("b/other.safetensors", "three");
  CHECK(same_weights(dir / "a", dir / "b"));
  CHECK(same_weights(dir / "a", dir / "a"));
  put("b/part2.safetensors", "twO");
  CHECK_FALSE(same_weights(dir / "a", dir / "b"));
  put("b/part2.safetensors", "twoo");
  CHECK_FALSE(same_weights(dir / "a", dir / "b"));
  put("b/part2.safetensors", "two"), put("b/model.safetensors", "one");  // the single file is read
  CHECK_FALSE(same_weights(dir / "a", dir / "b"));
  put("e/model.safetensors", "one");
  CHECK(same_weights(dir / "e", dir / "b"));
  put("c/other.safetensors", "one"), put("d/other.safetensors", "one");
  CHECK_FALSE(same_weights(dir / "c", dir / "d"));  // neither is a model
  CHECK(same_weights(put("m.gguf", "GGUF 1"), put("copy.gguf", "GGUF 1")));
  CHECK_FALSE(same_weights(dir / "m.gguf", put("other.gguf", "GGUF 2")));
  CHECK_THROWS_AS(same_weights(dir / "m.gguf", dir / "none.gguf"), IoError);
}
