#include "cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "common/error.h"
#include "service/file_lock.h"
#include "service/node_file.h"
#include "service/readiness.h"

namespace datom::cli {
namespace {

constexpr std::size_t kMaxReport = 64 << 10;
constexpr std::streamoff kLogTail = 4096;

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }
  void reset() {
    if (number_ >= 0) close(number_);
    number_ = -1;
  }

 private:
  int number_;
};

// Waits for input (or the end) until `deadline`; false when it came first.
bool wait_readable(int descriptor, std::chrono::steady_clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd item{descriptor, POLLIN, 0};
    const int found = poll(&item, 1, std::max<int>(0, static_cast<int>(left.count())));
    if (found > 0) return true;
    if (found == 0) return false;
    if (errno != EINTR) throw_errno(errno, "poll");
  }
}

// posix_spawn's attributes: a session of its own, no signal blocked or ignored.
class SpawnAttributes {
 public:
  SpawnAttributes() {
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes_, &none);
    sigset_t all;
    sigfillset(&all);
    posix_spawnattr_setsigdefault(&attributes_, &all);
  }
  ~SpawnAttributes() { posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

// What the new process has open: nothing to read, the log, and the pipe of its report.
class SpawnFiles {
 public:
  static constexpr int kReport = 3;

  SpawnFiles(const std::string& log, int report) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, report, kReport);
    posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                     0644);
    posix_spawn_file_actions_adddup2(&actions_, 1, 2);
  }
  ~SpawnFiles() { posix_spawn_file_actions_destroy(&actions_); }
  SpawnFiles(const SpawnFiles&) = delete;
  SpawnFiles& operator=(const SpawnFiles&) = delete;
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

pid_t spawn(const Program& program, int report) {
  std::vector<std::string> words = {program.executable};
  words.insert(words.end(), program.arguments.begin(), program.arguments.end());
  words.insert(words.end(), {"--ready_fd", std::to_string(SpawnFiles::kReport)});
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);

  const SpawnAttributes attributes;
  const SpawnFiles files(program.log, report);
  pid_t process = -1;
  const int error = posix_spawn(&process, program.executable.c_str(), files.get(), attributes.get(),
                                pointers.data(), environ);
  if (error != 0) {
    throw_errno(error, fmt::format("cannot start {} (log {})", program.executable, program.log));
  }
  return process;
}

// The last line of the log that says something.
std::string last_line(const std::string& path) {
  std::ifstream file(path, std::ios::ate);
  if (!file) return "nothing";
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - kLogTail));
  std::string line;
  std::string last = "nothing";
  while (std::getline(file, line)) {
    if (!line.empty()) last = line;
  }
  return last;
}

std::string read_report(int descriptor, std::chrono::seconds patience, const Program& program) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::array<char, 4096> piece{};
  std::string report;
  while (report.size() < kMaxReport) {
    if (!wait_readable(descriptor, deadline)) {
      throw Error(Code::timeout,
                  "it is not up after {} s and goes on starting; its log {} ends with: {}",
                  patience.count(), program.log, last_line(program.log));
    }
    const ssize_t length = read(descriptor, piece.data(), piece.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) break;
    report.append(piece.data(), static_cast<std::size_t>(length));
  }
  return report;
}

// Whether the process was started with `service` as an argument or as an option's value.
bool runs_service(pid_t process, const std::string& service) {
  std::ifstream file(fmt::format("/proc/{}/cmdline", process), std::ios::binary);
  std::string argument;
  while (std::getline(file, argument, '\0')) {
    if (argument == service || argument.ends_with("=" + service)) return true;
  }
  return false;
}

}  // namespace

pid_t start_in_background(const Program& program, std::chrono::seconds patience) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno(errno, "pipe");
  const Descriptor reading(ends[0]);
  Descriptor writing(ends[1]);
  const pid_t process = spawn(program, writing.get());
  writing.reset();
  const std::string report = read_report(reading.get(), patience, program);
  if (report.empty()) {
    throw Error(Code::internal, "it ended before it was up; its log {} ends with: {}", program.log,
                last_line(program.log));
  }
  if (const std::optional<Error> why = service::parse_readiness(report)) throw Error(*why);
  return process;
}

std::optional<pid_t> running_service(const std::string& root, const std::string& service) {
  if (!service::FileLock::is_held(service::lock_path(root, service))) return std::nullopt;
  pid_t process = 0;
  std::ifstream(service::pid_path(root, service)) >> process;
  if (process <= 0 || !runs_service(process, service)) return std::nullopt;
  return process;
}

bool stop_process(pid_t process, std::chrono::seconds patience) {
  const Descriptor handle(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
  if (handle.get() < 0) {
    if (errno == ESRCH) return true;
    throw_errno(errno, fmt::format("cannot watch process {}", process));
  }
  if (syscall(SYS_pidfd_send_signal, handle.get(), SIGTERM, nullptr, 0) != 0) {
    if (errno == ESRCH) return true;
    throw_errno(errno, fmt::format("cannot stop process {}", process));
  }
  return wait_readable(handle.get(), std::chrono::steady_clock::now() + patience);
}

}  // namespace datom::cli
