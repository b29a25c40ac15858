#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/file_map.h"
#include "check.h"
#include "sanitizers.h"
#include "temporary_folder.h"

#ifndef _WIN32
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace binhdan;

namespace {
constexpr std::size_t kBytes = 1 << 20;

std::string written(const TemporaryFolder& folder, const std::string& name = "file") {
  return folder.write(name, std::string(kBytes, 'x'));
}

std::size_t count_x(const FileMap& map) {
  const auto bytes = map.bytes();
  return static_cast<std::size_t>(std::count(bytes.begin(), bytes.end(), std::byte{'x'}));
}
}  // namespace

TEST(maps_a_file) {
  const TemporaryFolder folder;
  const FileMap map(written(folder));
  CHECK(map.bytes().size() == kBytes && count_x(map) == kBytes);
  map.check_intact();
  map.release(0, kBytes);
  map.release(5000, 100000);
  map.release(kBytes - 1, ~std::size_t{0});
  map.release(kBytes + 1, 1);
  CHECK(count_x(map) == kBytes);
}

TEST(rejects_paths_that_are_not_regular_files) {
  const TemporaryFolder folder;
  CHECK_FAILS(FileMap(folder / "none"), "none: ");
  CHECK_FAILS(FileMap(folder / "."), "expected a file, got a directory");
  CHECK_FAILS(FileMap(folder.write("empty", "")), "the file is empty");
  CHECK_FAILS(FileMap(std::string("a\0b", 3)), "path: expected no NUL");
#ifndef _WIN32
  CHECK(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_FAILS(FileMap(folder / "pipe"), "expected a regular file");
  CHECK_FAILS(FileMap("/dev/zero"), "expected a regular file");
#endif
}

#ifndef _WIN32

TEST(truncation_while_mapped_is_an_error_not_a_crash) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  const FileMap map(path);
  CHECK(count_x(map) == kBytes);
  CHECK(truncate(path.c_str(), 100'000) == 0);
  CHECK(count_x(map) == 100'000);  // the truncated part reads as zeros
  CHECK_FAILS(map.check_intact(), "the file was truncated while it was in use");
  const FileMap again(path);
  again.check_intact();
}

TEST(truncation_of_unread_pages_is_detected) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  const FileMap map(path);
  CHECK(truncate(path.c_str(), kBytes - 1) == 0);
  CHECK_FAILS(map.check_intact(), "truncated");
}

TEST(truncation_is_detected_after_the_file_grew_again) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  const FileMap map(path);
  CHECK(truncate(path.c_str(), 0) == 0);
  CHECK(count_x(map) == 0);
  CHECK(truncate(path.c_str(), kBytes) == 0);
  CHECK_FAILS(map.check_intact(), "truncated");
}

TEST(only_the_truncated_map_is_marked_even_with_many_threads) {
  const TemporaryFolder folder;
  std::vector<std::unique_ptr<FileMap>> maps;
  for (int i = 0; i < 20; ++i) maps.push_back(std::make_unique<FileMap>(written(folder, std::to_string(i))));
  for (int i = 0; i < 20; i += 2)
    CHECK(truncate(maps[static_cast<std::size_t>(i)]->path().c_str(), 4096) == 0);
  std::atomic<std::size_t> total{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (const auto& map : maps) total += count_x(*map);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(total == 4 * (10 * kBytes + 10 * 4096));
  for (std::size_t i = 0; i < maps.size(); ++i) {
    if (i % 2 == 0)
      CHECK_FAILS(maps[i]->check_intact(), "truncated");
    else
      maps[i]->check_intact();
  }
}

TEST(slots_are_reused) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  for (int i = 0; i < 3000; ++i) FileMap{path};
  std::vector<std::unique_ptr<FileMap>> maps;
  try {
    for (int i = 0; i < 3000; ++i) maps.push_back(std::make_unique<FileMap>(path));
    CHECK(false);
  } catch (const Error& error) {  // out of slots or out of descriptors
    CHECK(error.code() == Code::too_large || error.code() == Code::io);
  }
}

// Sanitizers install their own handlers.
#if !BINHDAN_ASAN && !BINHDAN_TSAN
TEST(a_bus_error_outside_of_maps_kills_the_process) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  const pid_t child = fork();
  if (child == 0) {
    const FileMap map(path);
    std::FILE* file = std::fopen((folder / "other").c_str(), "w+");
    void* other = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    _exit(*static_cast<volatile char*>(other));  // past the end of a file that no FileMap covers
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

volatile sig_atomic_t forwarded = 0;

TEST(other_faults_are_forwarded_to_the_previous_handler) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  const pid_t child = fork();
  if (child == 0) {
    // In a new process, because a process installs the handler only once.
    execl("/proc/self/exe", "test_file_map", "child_with_its_own_handler", static_cast<char*>(nullptr));
    _exit(9);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(child_with_its_own_handler) {
  signal(SIGBUS, [](int) { forwarded = 1; });
  const TemporaryFolder folder;
  const FileMap map(written(folder));
  raise(SIGBUS);
  // When all tests run in one process, the guard's handler is installed already, and signal() replaces it.
  CHECK(forwarded == 1);
  signal(SIGBUS, SIG_DFL);
}
#endif
#endif
