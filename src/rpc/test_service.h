// A served service and calls to it, for tests of this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rpc/server.h"
#include "runtime/wait.h"

namespace datom::rpc::test {

inline constexpr Method kEcho = 1;
inline constexpr Method kFail = 2;
inline constexpr Method kHang = 3;
inline constexpr Method kNote = 4;

inline Message text(std::string header) {
  return Message{std::move(header), {}};
}

inline runtime::Task<Message> echo(Peer peer, Message request) {
  request.header = peer.service + ":" + request.header;
  co_return request;
}

inline runtime::Task<Message> fail(Peer, Message) {
  throw Error(Code::not_leader, "vs2 leads");
  co_return Message{};
}

inline runtime::Task<Message> hang(runtime::Event* release, Message request) {
  co_await release->wait();
  co_return request;
}

// What a service does and notes in these tests. Belongs to one loop.
struct Behaviour {
  explicit Behaviour(runtime::Loop& loop) : release(loop) {
    router.on_call(kEcho, echo);
    router.on_call(kFail, fail);
    router.on_call(kHang, [this](Peer, Message request) {
      ++hanging;
      return hang(&release, std::move(request));
    });
    router.on_message(kNote, [this](const Peer& peer, Message message) {
      notes.push_back(peer.service + ":" + message.header);
    });
  }

  runtime::Event release;  // ends kHang
  int hanging = 0;         // ever begun
  std::vector<std::string> notes;
  Router router;
};

struct Outcome {
  bool ended = false;
  std::optional<Message> reply;
  std::optional<Error> error;

  // Code{} where there is no error.
  Code code() const { return error ? error->code() : Code{}; }
  std::string message() const { return error ? error->what() : ""; }
  std::string header() const { return reply ? reply->header : "no reply"; }
};

inline runtime::Task<void> call_into(Caller* caller, std::string service, Method method,
                                     Message request, runtime::Duration timeout, Outcome* outcome) {
  try {
    outcome->reply = co_await caller->call(service, method, std::move(request), timeout);
  } catch (const Error& error) {
    outcome->error = error;
  }
  outcome->ended = true;
}

}  // namespace datom::rpc::test
