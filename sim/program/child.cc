#include "sim/program/child.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <system_error>

namespace datom::sim {
namespace {

// Of real time: a seed takes a tenth of a second.
constexpr std::chrono::seconds kLongest{120};

// The outcome as words between spaces, a line each.
std::string encode(const Outcome& outcome) {
  std::string text = fmt::format("counts {} {} {} {} {}\n", outcome.acknowledged, outcome.reads,
                                 outcome.terms, outcome.virtual_time.count(), outcome.trace);
  for (const auto& [fault, many] : outcome.injected) {
    text += fmt::format("injected {} {}\n", many, fault);
  }
  text += "faults " + outcome.faults + "\n";
  if (outcome.failure) text += "failure " + *outcome.failure + "\n";
  return text + "end\n";
}

// False where the end is missing: the process did not come so far.
bool decode(const std::string& text, Outcome& outcome) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what;
    words >> what >> std::ws;
    if (what == "end") return true;
    if (what == "counts") {
      std::int64_t time = 0;
      words >> outcome.acknowledged >> outcome.reads >> outcome.terms >> time >> outcome.trace;
      outcome.virtual_time = std::chrono::nanoseconds(time);
    } else if (what == "injected") {
      std::uint64_t many = 0;
      words >> many >> std::ws;
      std::string fault;
      std::getline(words, fault);
      outcome.injected[fault] = many;
    } else {
      std::string rest;
      std::getline(words, rest);
      if (what == "faults") outcome.faults = rest;
      if (what == "failure") outcome.failure = rest;
    }
  }
  return false;
}

void write_all(int to, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::write(to, text.data() + done, text.size() - done);
    if (count < 0 && errno != EINTR) return;
    if (count > 0) done += static_cast<std::size_t>(count);
  }
}

[[noreturn]] void run_here(std::uint64_t seed, const Options& options, bool twice, int to) {
  Outcome outcome = run_seed(seed, options);
  if (twice && run_seed(seed, options).trace != outcome.trace && !outcome.failure) {
    outcome.failure = "not deterministic: two runs differ";
  }
  write_all(to, encode(outcome));
  if (options.trace) write_all(STDERR_FILENO, outcome.history);
  ::_exit(0);
}

void check(bool good, const char* what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Child::Child(std::uint64_t seed, const Options& options, bool twice)
    : seed_(seed), since_(std::chrono::steady_clock::now()) {
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
  errors_ = ::memfd_create("errors", MFD_CLOEXEC);
  check(errors_ >= 0, "memfd_create");
  output_ = ends[0];
  pid_ = ::fork();
  check(pid_ >= 0, "fork");
  if (pid_ == 0) {
    if (!options.trace) ::dup2(errors_, STDERR_FILENO);
    run_here(seed, options, twice, ends[1]);
  }
  ::close(ends[1]);
}

Child::~Child() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (output_ >= 0) ::close(output_);
  if (errors_ >= 0) ::close(errors_);
}

bool Child::take() {
  char some[4096];
  const ssize_t count = ::read(output_, some, sizeof some);
  if (count > 0) text_.append(some, static_cast<std::size_t>(count));
  return count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN);
}

bool Child::overdue() const {
  return std::chrono::steady_clock::now() - since_ > kLongest;
}

// The last line of its standard error.
std::string Child::last_words() const {
  std::string all(4096, '\0');
  const off_t size = ::lseek(errors_, 0, SEEK_END);
  const off_t from =
      size > static_cast<off_t>(all.size()) ? size - static_cast<off_t>(all.size()) : 0;
  const ssize_t count = ::pread(errors_, all.data(), all.size(), from);
  all.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  while (!all.empty() && all.back() == '\n') all.pop_back();
  return all.substr(all.rfind('\n') + 1);
}

Result Child::result() {
  Result result;
  result.seed = seed_;
  const bool whole = decode(text_, result.outcome);
  if (!whole && overdue()) {
    result.outcome.failure = fmt::format("it does not end: {} s of real time", kLongest.count());
    return result;  // the destructor ends it
  }
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  if (whole) return result;
  const std::string how = WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                              : fmt::format("exit {}", WEXITSTATUS(status));
  result.outcome.failure = fmt::format("the process ended with {}: {}", how, last_words());
  return result;
}

Result run_in_child(std::uint64_t seed, const Options& options, bool twice) {
  Child child(seed, options, twice);
  for (;;) {
    pollfd event{child.fd(), POLLIN, 0};
    ::poll(&event, 1, 1000);
    if (event.revents != 0 && child.take()) break;
    if (child.overdue()) break;
  }
  return child.result();
}

}  // namespace datom::sim
