// Services as processes in the background: started, found and stopped.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace datom::cli {

struct Program {
  std::string executable;
  std::vector<std::string> arguments;  // without the executable; "--ready_fd N" is added
  std::string log;                     // standard output and error are appended to it
};

// Starts it in a session of its own and returns its process id once it reports that it is up
// (service/readiness.h). Throws what it reports instead; Error{internal} with the last line of its
// log where it ends without a report; Error{timeout} after `patience`: it is left running.
pid_t start_in_background(const Program& program, std::chrono::seconds patience);

// The process that runs `service` on `root`: the one of its pid file, if its lock is held and the
// process is indeed that service.
std::optional<pid_t> running_service(const std::string& root, const std::string& service);

// Asks the process to stop (SIGTERM) and waits until it has ended; false if it has not after
// `patience`.
bool stop_process(pid_t process, std::chrono::seconds patience);

}  // namespace datom::cli
